"""Regions that may hold an object, from scores and offsets of anchors. Names: N images, P anchors, R regions."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.layers.proposal import Proposal
from minicaffe.layers.stand_ins.rpn_proposal import ProposalLayer
from minicaffe.onnx.candidates import count_up, without_duplicates
from minicaffe.onnx.graph import FLOAT, Graph, writers
from minicaffe.ops.detection import anchors


@writers.of("Python")
def python(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """py-faster-rcnn's ProposalLayer; no other code can be exported."""
    if not isinstance(layer, ProposalLayer):
        raise layer.spec.error(
            "type", "Python: code cannot be exported, but for rpn.proposal_layer; leave it out"
        )
    return proposal(graph, layer, x, bottom, top)


@writers.of("Proposal")
def proposal(graph: Graph, layer: Proposal, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """The best of the anchors that are moved and clipped, without duplicates, as Proposal has them."""
    rules, amount = layer.rules, len(layer.rules.anchors)
    graph.regions.update(layer.spec.top)
    flat = graph.numbers([0, -1])
    scores = graph.add("Slice", x[0], *(graph.numbers([n]) for n in (amount, 2 * amount, 1)))
    scores = graph.add("Reshape", scores, graph.numbers([0, amount, -1]))
    scores = graph.add("Reshape", graph.add("Transpose", scores, perm=[0, 2, 1]), flat)  # (N, P)
    offsets = graph.add("Reshape", x[1], graph.numbers([0, amount, 4, -1]))
    offsets = graph.add("Transpose", offsets, perm=[0, 3, 1, 2])
    offsets = graph.add("Reshape", offsets, graph.numbers([0, -1, 4]))  # (N, P, 4)
    sizes = graph.add("Reshape", x[2], flat)  # height, width, scales

    is_free = bool(graph.free_axes(layer.spec.bottom[0], bottom[0].shape))
    boxes = _clipped(graph, _decoded(graph, offsets, _anchors(graph, layer, x[0], bottom[0], is_free)), sizes)
    is_large = _is_large(graph, layer, boxes, sizes, bottom[2].count // bottom[2].shape[0])
    drops = rules.drops
    scores = graph.add("Where", is_large, scores, graph.constant(-1 if drops else 0))
    most = graph.numbers([min(rules.before, bottom[0].count // bottom[0].shape[0] // 2)])
    if is_free:
        most = graph.add("Min", graph.sizes(scores, (1,)), graph.numbers([rules.before]))
    scores, ranked = graph.add_several("TopK", 2, scores, most, axis=1)  # (N, k)
    boxes = graph.add("GatherND", boxes, graph.add("Unsqueeze", ranked, graph.numbers([2])), batch_dims=1)

    axis = graph.numbers([1])
    table, both = graph.add("Unsqueeze", scores, axis), graph.constant([0, 0, 1, 1])  # a box has both corners
    apart = graph.add("Unsqueeze", graph.add("Add", boxes, both), axis)
    at_most = graph.numbers([rules.after])
    kept = without_duplicates(graph, apart, table, most, rules.threshold, -0.5 if drops else -1.0, at_most)
    places = graph.add("NonZero", graph.add("Squeeze", kept, axis))
    places = graph.add("Transpose", places, perm=[1, 0])  # (R, 2): image, rank
    image = graph.add("Cast", graph.add("Gather", places, graph.numbers([0]), axis=1), to=FLOAT)
    found = [graph.add("Concat", image, graph.add("GatherND", boxes, places), axis=1)]
    for blob in top[1:]:
        own = graph.add("GatherND", scores, places)
        found.append(graph.add("Unsqueeze", own, axis) if len(blob.shape) == 2 else own)
    return found


def _anchors(graph: Graph, layer: Proposal, x: str, scores: Blob, is_free: bool) -> str:
    """The anchors (P, 4) at all cells."""
    rules, (_, _, rows, columns) = layer.rules, scores.shape
    if not is_free:
        return graph.constant(anchors.at_each_cell(rules.anchors, rows, columns, rules.stride))
    height, width = (graph.add("Squeeze", graph.sizes(x, (axis,))) for axis in (2, 3))
    cells = count_up(graph, graph.add("Mul", height, width))
    places = [graph.add(op, cells, width) for op in ("Mod", "Div")] * 2
    corners = [graph.add("Unsqueeze", each, graph.numbers([1, 2])) for each in places]
    moved = graph.scaled(graph.add("Cast", graph.add("Concat", *corners, axis=2), to=FLOAT), rules.stride)
    return graph.add(
        "Reshape", graph.add("Add", moved, graph.constant(rules.anchors)), graph.numbers([-1, 4])
    )


def _sides(graph: Graph, boxes: str) -> tuple[str, str]:
    """The first corners of boxes (…, 4), and their sides, both corners included."""
    first, last = graph.add_several("Split", 2, boxes, axis=-1, num_outputs=2)
    return first, graph.scaled(graph.add("Sub", last, first), 1, 1)


def _decoded(graph: Graph, offsets: str, placed: str) -> str:
    """Boxes (N, P, 4), by ``decode`` in ``ops/detection/anchors.py``."""
    first, sides = _sides(graph, placed)
    shift, growth = graph.add_several("Split", 2, offsets, axis=-1, num_outputs=2)
    centre = graph.add("Add", first, graph.scaled(sides, 0.5))
    centre = graph.add("Add", graph.add("Mul", shift, sides), centre)
    half = graph.scaled(graph.add("Mul", graph.add("Exp", growth), sides), 0.5)
    return graph.add("Concat", *(graph.add(op, centre, half) for op in ("Sub", "Add")), axis=-1)


def _clipped(graph: Graph, boxes: str, sizes: str) -> str:
    """Boxes cut off at the borders of their images."""
    last = graph.scaled(graph.add("Gather", sizes, graph.numbers([1, 0, 1, 0]), axis=1), 1, -1)
    last = graph.add("Unsqueeze", last, graph.numbers([1]))
    return graph.add("Max", graph.add("Min", boxes, last), graph.constant(0))


def _is_large(graph: Graph, layer: Proposal, boxes: str, sizes: str, numbers: int) -> str:
    """(N, P): whether the sides of boxes are as long as asked for, by the image's scale, or one for each side."""
    has_two = numbers > 3 and layer.rules.scales == 2
    scale = graph.add("Gather", sizes, graph.numbers([3, 2] if has_two else [2, 2]), axis=1)
    least = graph.add(
        "Unsqueeze", graph.scaled(scale, float(np.float32(layer.rules.least))), graph.numbers([1])
    )
    _, sides = _sides(graph, boxes)
    spare = graph.add("ReduceMin", graph.add("Sub", sides, least), graph.numbers([2]), keepdims=0)
    return graph.add("GreaterOrEqual", spare, graph.constant(0))
