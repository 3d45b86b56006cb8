"""YOLO's detections. Names: N images, P boxes of all grids, A anchors, K labels."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.layers.yolo_detection_output import YoloDetectionOutput
from minicaffe.layers.yolov3_detection_output import Yolov3DetectionOutput
from minicaffe.onnx.candidates import rows_of, without_duplicates
from minicaffe.onnx.graph import FLOAT, Graph, writers
from minicaffe.onnx.shapes import size_error


@writers.of("Yolov3DetectionOutput")
def yolov3(
    graph: Graph, layer: Yolov3DetectionOutput, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """Each box with its best label; of all grids, those that NonMaxSuppression leaves."""
    boxes, confidences = [], []
    for g, (name, blob) in enumerate(zip(x, bottom, strict=True)):
        p = _by_box(graph, layer, name, blob, g, layer.param.num_box)
        if layer.param.gaussian_box:
            uncertainty = graph.add("Sigmoid", _channels(graph, p, 1, 8, 2))
            sure = graph.scaled(graph.add("ReduceMean", uncertainty, graph.numbers([2])), -1, 1)
            first, places = 9, (0, 3, 4, 7)
        else:
            sure, first, places = "", 5, (0, 2, 2, 4)
        step = 2 if sure else 1
        centre, size = (_channels(graph, p, *ends, step) for ends in (places[:2], places[2:]))
        boxes.append(_corners(graph, centre, size, blob.shape[2:], layer.anchors_of(g, *blob.shape[2:])))
        found = graph.add("Sigmoid", _channels(graph, p, first - 1, first))
        found = graph.add("Mul", found, sure) if sure else found
        labels = graph.add("Sigmoid", _channels(graph, p, first, first + layer.param.num_classes))
        confidences.append(graph.add("Mul", labels, found))
    return [_rows(graph, layer, boxes, confidences, layer.param.confidence_threshold)]


@writers.of("YoloDetectionOutput")
def yolov2(
    graph: Graph, layer: YoloDetectionOutput, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """Each box with its best label; of both grids, those that NonMaxSuppression leaves."""
    boxes, confidences = [], []
    for g, (name, blob) in enumerate(zip(x, bottom, strict=True)):
        p = _by_box(graph, layer, name, blob, g, layer.param.num_box)
        centre, size = _channels(graph, p, 0, 2), _channels(graph, p, 2, 4)
        boxes.append(_corners(graph, centre, size, blob.shape[2:], layer.anchors_of(*blob.shape[2:])))
        labels = graph.add("Softmax", _channels(graph, p, 5, 5 + layer.param.num_classes), axis=2)
        confidences.append(graph.add("Mul", labels, graph.add("Sigmoid", _channels(graph, p, 4, 5))))
    return [_rows(graph, layer, boxes, confidences, _before(layer.param.confidence_threshold))]


def _before(number: float) -> float:
    """The float32 before a number: what is above it is at least the number."""
    return float(np.nextafter(np.float32(number), np.float32(-np.inf)))


def _by_box(graph: Graph, layer: Layer, x: str, blob: Blob, g: int, anchors: int) -> str:
    """The predictions (N, H · W · A, 5 + K) of the g-th grid."""
    if graph.free_axes(layer.spec.bottom[g], blob.shape):
        raise size_error(layer)
    _, channels, height, width = blob.shape
    apart = graph.add("Reshape", x, graph.numbers([0, anchors, channels // anchors, height, width]))
    apart = graph.add("Transpose", apart, perm=[0, 3, 4, 1, 2])
    return graph.add("Reshape", apart, graph.numbers([0, height * width * anchors, channels // anchors]))


def _channels(graph: Graph, p: str, start: int, end: int, step: int = 1) -> str:
    """The predictions from one channel to another."""
    return graph.add("Slice", p, *(graph.numbers([n]) for n in (start, end, 2, step)))


def _corners(
    graph: Graph, centre: str, size: str, cells: tuple[int, ...], anchors: list[tuple[float, float]]
) -> str:
    """Boxes (N, H · W · A, 4) of corners, in fractions of the image."""
    height, width = cells
    rows, columns, _ = np.indices((height, width, len(anchors))).reshape(3, -1)
    corner, sides = np.stack([columns, rows], axis=1), np.tile(anchors, (height * width, 1))
    centre = graph.add("Add", graph.add("Sigmoid", centre), graph.constant(corner))
    centre = graph.add("Div", centre, graph.constant([width, height]))
    half = graph.add("Mul", graph.add("Exp", size), graph.constant(sides / 2))
    return graph.add("Concat", *(graph.add(op, centre, half) for op in ("Sub", "Add")), axis=2)


def _rows(
    graph: Graph,
    layer: YoloDetectionOutput | Yolov3DetectionOutput,
    boxes: list[str],
    confidences: list[str],
    least: float,
) -> str:
    """The rows of what is left of the boxes (N, …, 4), with confidences (N, …, K), of all grids."""
    if layer.param.nms_threshold == 0:
        problem = "0: boxes that do not overlap cannot be suppressed in ONNX; take a small number above it"
        raise layer.param.error("nms_threshold", problem)
    name = layer.spec.top[0]
    graph.dims[name] = [1, 1, f"{name}_detections", 7]
    all_boxes, confidence = (
        parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1) for parts in (boxes, confidences)
    )
    best = graph.add("ReduceMax", confidence, graph.numbers([2]), keepdims=0)
    label = graph.add("Cast", graph.add("ArgMax", confidence, axis=2, keepdims=0), to=FLOAT)
    most = graph.sizes(best, (1,))
    best, ranked = graph.add_several("TopK", 2, best, most, axis=1)
    where = graph.add("Unsqueeze", ranked, graph.numbers([2]))
    all_boxes, label = (
        graph.add("GatherND", each, where, batch_dims=1) for each in (all_boxes, graph.scaled(label, 1, 1))
    )
    one_boxes, one_best = (graph.add("Unsqueeze", each, graph.numbers([1])) for each in (all_boxes, best))
    kept = without_duplicates(graph, one_boxes, one_best, most, _before(layer.param.nms_threshold), least)
    return rows_of(graph, graph.add("Squeeze", kept, graph.numbers([1])), label, best, all_boxes)
