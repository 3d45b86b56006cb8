"""Pooling of regions of interest. Names: R regions, bins G × G, images (N, C, H, W)."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.layers.psroi_pooling import PSROIPooling
from minicaffe.layers.roi_pooling import ROIPooling
from minicaffe.onnx.graph import DOUBLE, FLOAT, INT64, Graph, writers


def _regions(graph: Graph, x: str, shape: tuple[int, ...]) -> str:
    """The regions as (R, 5)."""
    return x if len(shape) == 2 else graph.add("Reshape", x, graph.numbers([-1, 5]))


@writers.of("ROIPooling")
def roi_pooling(
    graph: Graph, layer: ROIPooling, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """MaxRoiPool, whose rounding is Caffe's."""
    param, regions = layer.param, _regions(graph, x[1], bottom[1].shape)
    attributes = {"pooled_shape": [param.pooled_h, param.pooled_w], "spatial_scale": param.spatial_scale}
    return [graph.add("MaxRoiPool", x[0], regions, **attributes)]


@writers.of("PSROIPooling")
def psroi_pooling(
    graph: Graph, layer: PSROIPooling, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """Means from the corners of an integral image, as in ``ops/psroi_pooling.py``."""
    param, regions = layer.param, _regions(graph, x[1], bottom[1].shape)
    image, *sides = graph.add_several("Split", 5, regions, axis=1, num_outputs=5)  # each (R, 1)
    size = graph.add("Shape", x[0])  # N, C, H, W
    height, width = (graph.add("Gather", size, graph.constant(axis, np.int64)) for axis in (2, 3))
    rows, cols = (
        _bins(graph, sides[axis], sides[axis + 2], length, param.spatial_scale, param.group_size)
        for axis, length in ((1, height), (0, width))
    )
    rows, cols = (
        [graph.add("Unsqueeze", edge, graph.numbers(axes)) for edge in edges]
        for edges, axes in ((rows, [1, 3]), (cols, [1, 2]))
    )  # (R, 1, G, 1) and (R, 1, 1, G)

    one = graph.constant(1, np.int64)
    line = graph.add("Add", width, one)
    plane = graph.add("Mul", graph.add("Add", height, one), line)
    channels = bottom[0].shape[1]
    channel = graph.constant(np.arange(channels).reshape(1, -1, param.group_size, param.group_size), np.int64)
    image = graph.add("Unsqueeze", graph.add("Cast", image, to=INT64), graph.numbers([2, 3]))
    first = graph.add("Add", graph.add("Mul", image, graph.constant(channels, np.int64)), channel)
    first = graph.add("Mul", first, plane)
    integral = graph.add("Reshape", _integral_image(graph, x[0]), graph.numbers([-1]))
    corners = [[_corner(graph, integral, first, line, row, col) for col in cols] for row in rows]
    lower, upper = (graph.add("Sub", end, start) for start, end in corners)
    total = graph.add("Sub", upper, lower)
    area = graph.add("Mul", *(graph.add("Sub", end, start) for start, end in (rows, cols)))
    divisor = graph.add("Cast", graph.add("Max", area, one), to=DOUBLE)
    mean = graph.add("Div", total, divisor)
    is_empty = graph.add("Less", area, one)
    return [graph.add("Cast", graph.add("Where", is_empty, graph.constant(0, np.float64), mean), to=FLOAT)]


def _bins(graph: Graph, first: str, last: str, length: str, scale: float, group: int) -> list[str]:
    """Start and end of each bin along an axis of this length, each (R, G); in float32, as the layer has them."""
    one, factor = graph.constant(1), graph.constant(scale)
    low = graph.add("Mul", _rounded(graph, first), factor)
    high = graph.add("Mul", graph.add("Add", _rounded(graph, last), one), factor)
    size = graph.add("Max", graph.add("Sub", high, low), graph.constant(0.1))
    each = graph.add("Div", size, graph.constant(group))
    edges = []
    for op, numbers in (("Floor", range(group)), ("Ceil", range(1, group + 1))):
        edge = graph.add(op, graph.add("Add", graph.add("Mul", each, graph.constant([*numbers])), low))
        limit = graph.add("Cast", length, to=FLOAT)
        edges.append(graph.add("Cast", graph.add("Clip", edge, graph.constant(0), limit), to=INT64))
    return edges


def _rounded(graph: Graph, x: str) -> str:
    """To whole numbers, halves away from 0."""
    size = graph.add(
        "Add", graph.add("Abs", graph.add("Cast", x, to=DOUBLE)), graph.constant(0.5, np.float64)
    )
    return graph.add("Mul", graph.add("Cast", graph.add("Floor", size), to=FLOAT), graph.add("Sign", x))


def _integral_image(graph: Graph, x: str) -> str:
    """(N, C, H + 1, W + 1), float64: the sums of all that is above and to the left."""
    wider = graph.add("Pad", graph.add("Cast", x, to=DOUBLE), graph.numbers([0, 0, 1, 1, 0, 0, 0, 0]))
    for axis in (2, 3):
        wider = graph.add("CumSum", wider, graph.constant(axis, np.int64))
    return wider


def _corner(graph: Graph, integral: str, first: str, line: str, row: str, col: str) -> str:
    """The numbers (R, D, G, G) of the integral image at a row and a column of each bin."""
    place = graph.add("Add", first, graph.add("Add", graph.add("Mul", row, line), col))
    return graph.add("Gather", integral, place)
