"""SSD's priors and detections. Names: N images, K labels (no background), P priors, k candidates of a label."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.device.array import to_host
from minicaffe.layers.detection_output import DetectionOutput, DetectionOutputParam
from minicaffe.layers.prior_box import PriorBox, PriorBoxParam
from minicaffe.onnx.candidates import rows_of, without_duplicates
from minicaffe.onnx.graph import FLOAT, Graph, writers


@writers.of("PriorBox")
def prior_box(graph: Graph, layer: PriorBox, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A constant, since it depends on sizes alone; where those are free, the boxes around each cell."""
    name = layer.spec.top[0]
    graph.dims[name] = [1, 2, f"{name}_2" if graph.free_axes(name, top[0].shape) else top[0].shape[2]]
    if any(graph.free_axes(*each) for each in zip(layer.spec.bottom, (b.shape for b in bottom), strict=True)):
        return [_of_any_size(graph, layer.spec.message(PriorBoxParam), x)]
    return [graph.constant(to_host(layer.priors).reshape(top[0].shape))]


def _of_any_size(graph: Graph, param: PriorBoxParam, x: list[str]) -> str:
    """The boxes (1, 2, h · w · P · 4) of a feature map and an image."""
    half = param.sizes() / 2
    edges = []
    for axis, length, step, column in (
        (2, param.img_h or param.img_size, param.step_h or param.step, 1),
        (3, param.img_w or param.img_size, param.step_w or param.step, 0),
    ):
        cells, own_length = (graph.add("Cast", graph.sizes(each, (axis,)), to=FLOAT) for each in x)
        image = graph.constant([length]) if length else own_length
        width = graph.constant([step]) if step else graph.add("Div", image, cells)
        zero, one = graph.constant(0), graph.constant(1)
        place = graph.scaled(graph.add("Range", zero, graph.add("Squeeze", cells), one), 1, param.offset)
        centre = graph.add(
            "Unsqueeze", graph.add("Mul", place, width), graph.numbers([1] if axis == 3 else [1, 2])
        )
        edges.append(
            [
                graph.add("Div", graph.add(op, centre, graph.constant(half[:, column])), image)
                for op in ("Sub", "Add")
            ]
        )
    shape = graph.add(
        "Concat", graph.sizes(x[0], (2, 3)), graph.numbers([len(half)]), axis=0
    )  # of each of the four numbers of a box
    parts = [
        graph.add("Unsqueeze", graph.add("Expand", side[end], shape), graph.numbers([3]))
        for end in (0, 1)
        for side in reversed(edges)
    ]
    boxes = graph.add("Concat", *parts, axis=3)
    if param.clip:
        boxes = graph.add("Clip", boxes, graph.constant(0), graph.constant(1))
    variances = graph.add("Expand", graph.constant(param.variance or [0.1]), graph.add("Shape", boxes))
    both = [graph.add("Reshape", each, graph.numbers([1, 1, -1])) for each in (boxes, variances)]
    return graph.add("Concat", *both, axis=1)


@writers.of("DetectionOutput")
def detection_output(
    graph: Graph, layer: DetectionOutput, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """The best candidates of each image and label, without the duplicates that NonMaxSuppression finds."""
    param = layer.spec.message(DetectionOutputParam)
    labels = [label for label in range(param.num_classes) if label != param.background_label_id]
    _check(param, labels)
    graph.dims[layer.spec.top[0]] = [1, 1, f"{layer.spec.top[0]}_detections", 7]
    is_free = bool(graph.free_axes(layer.spec.bottom[2], bottom[2].shape))
    confidences = graph.add("Reshape", x[1], graph.numbers([0, -1, param.num_classes]))
    if layer.has_objectness:
        confidences = _of_objects(graph, param, confidences, x[3])
    scores = _of_labels(graph, graph.add("Transpose", confidences, perm=[0, 2, 1]), labels, param)
    priors = graph.sizes(scores, (2,)) if is_free else graph.numbers([layer.prior_count])
    most = priors if param.nms_param.top_k < 0 else _least(graph, priors, param.nms_param.top_k)
    scores, ranked = graph.add_several("TopK", 2, scores, most, axis=2)  # (N, K, k)
    boxes, shared = _decoded(graph, layer, param, x), param.share_location
    boxes = boxes if shared else _of_labels(graph, boxes, labels, param)
    if shared:
        boxes = graph.add("Squeeze", boxes, graph.numbers([1]))
    where = graph.add("Unsqueeze", ranked, graph.numbers([3]))
    boxes = graph.add("GatherND", boxes, where, batch_dims=1 if shared else 2)  # (N, K, k, 4)

    nms = param.nms_param
    apart = boxes if param.code_type == "CENTER_SIZE" else _proper(graph, boxes)
    kept = without_duplicates(graph, apart, scores, most, nms.nms_threshold, param.confidence_threshold)
    names = graph.constant(np.reshape(labels, (1, -1, 1)))
    names = graph.add("Expand", names, graph.add("Shape", scores))
    flat = graph.numbers([0, -1])
    kept, scores, names = (graph.add("Reshape", each, flat) for each in (kept, scores, names))  # (N, K · k)
    if param.keep_top_k >= 0:
        kept = _best_of_all(graph, kept, scores, param.keep_top_k)
    return [rows_of(graph, kept, names, scores, graph.add("Reshape", boxes, graph.numbers([0, -1, 4])))]


def _check(param: DetectionOutputParam, labels: list[int]) -> None:
    """Raise SpecError for what ONNX cannot say."""
    nms = param.nms_param
    if nms.eta < 1:
        raise nms.error("eta", f"{nms.eta:g}: NonMaxSuppression of ONNX keeps its threshold; set 'eta: 1'")
    if not (labels and nms.top_k and param.keep_top_k):
        raise param.error("keep_top_k", "no box can remain, which cannot be exported; keep some")


def _least(graph: Graph, size: str, most: int) -> str:
    """The smaller of a size and a number."""
    return graph.add("Min", size, graph.numbers([most]))


def _of_labels(graph: Graph, x: str, labels: list[int], param: DetectionOutputParam) -> str:
    """x without the background, which lies along axis 1 as another label."""
    if len(labels) == param.num_classes:
        return x
    return graph.add("Gather", x, graph.numbers(labels), axis=1)


def _of_objects(graph: Graph, param: DetectionOutputParam, confidences: str, first: str) -> str:
    """Confidences (N, P, K), but class 0 where RefineDet's first detector sees nothing."""
    both = graph.add("Reshape", first, graph.numbers([0, -1, 2]))
    objectness = graph.add("Gather", both, graph.numbers([1]), axis=2)
    is_nothing = graph.add("Less", objectness, graph.constant(param.objectness_score))
    nothing = graph.constant(np.arange(param.num_classes) == 0)
    return graph.add("Where", is_nothing, nothing, confidences)


def _decoded(graph: Graph, layer: DetectionOutput, param: DetectionOutputParam, x: list[str]) -> str:
    """Boxes (N, L, P, 4), with L = 1 if all labels share them."""
    both = graph.add("Reshape", x[2], graph.numbers([2, -1, 4]))
    priors, variances = (
        graph.add("Squeeze", each, graph.numbers([0]))
        for each in graph.add_several("Split", 2, both, axis=0, num_outputs=2)
    )
    for locations, classes in [*((first, 1) for first in x[4:]), (x[0], layer.location_classes)]:
        offsets = graph.add("Reshape", locations, graph.numbers([0, -1, classes, 4]))
        offsets = graph.add("Transpose", offsets, perm=[0, 2, 1, 3])
        if not param.variance_encoded_in_target:
            offsets = graph.add("Mul", offsets, variances)
        priors = _moved(graph, param.code_type, offsets, priors)
    return graph.add("Clip", priors, graph.constant(0), graph.constant(1)) if param.clip else priors


def _moved(graph: Graph, code_type: str, offsets: str, priors: str) -> str:
    """Boxes (…, 4) from priors, by the formulas in ``ops/detection/boxes.py``."""
    if code_type == "CORNER":
        return graph.add("Add", priors, offsets)
    first, last = graph.add_several("Split", 2, priors, axis=-1, num_outputs=2)
    size = graph.add("Sub", last, first)
    if code_type == "CORNER_SIZE":
        both = graph.add("Concat", size, size, axis=-1)
        return graph.add("Add", priors, graph.add("Mul", offsets, both))
    shift, growth = graph.add_several("Split", 2, offsets, axis=-1, num_outputs=2)
    centre = graph.scaled(graph.add("Add", first, last), 0.5)
    centre = graph.add("Add", centre, graph.add("Mul", shift, size))
    half = graph.scaled(graph.add("Mul", graph.add("Exp", growth), size), 0.5)
    return graph.add("Concat", *(graph.add(op, centre, half) for op in ("Sub", "Add")), axis=-1)


def _proper(graph: Graph, boxes: str) -> str:
    """Boxes with their corners in the wrong order overlap no others: as boxes of no size."""
    first, last = graph.add_several("Split", 2, boxes, axis=3, num_outputs=2)
    least = graph.add("ReduceMin", graph.add("Sub", last, first), graph.numbers([3]), keepdims=1)
    return graph.add("Where", graph.add("Less", least, graph.constant(0)), graph.constant(0), boxes)


def _best_of_all(graph: Graph, kept: str, scores: str, most: int) -> str:
    """(N, K · k): 1 for the candidates of each image with the highest scores, at most so many of those kept."""
    is_kept = graph.add("Greater", kept, graph.constant(0))
    ranking = graph.add("Where", is_kept, scores, graph.constant(-math.inf))
    amount = _least(graph, graph.sizes(scores, (1,)), most)
    _, best = graph.add_several("TopK", 2, ranking, amount, axis=1)
    ones = graph.add("Expand", graph.constant([1]), graph.add("Shape", best))
    among = graph.add("ScatterElements", graph.scaled(kept, 0), best, ones, axis=1)
    return graph.add("Mul", among, kept)
