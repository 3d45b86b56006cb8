"""Layers that combine several blobs, or many numbers."""

from __future__ import annotations

from functools import reduce

from minicaffe.core.blob import Blob
from minicaffe.core.layer import canonical_axis
from minicaffe.layers.axpy import Axpy
from minicaffe.layers.concat import Concat, ConcatParam
from minicaffe.layers.eltwise import Eltwise, EltwiseParam
from minicaffe.layers.reduction import Reduction, ReductionParam
from minicaffe.onnx.graph import Graph, writers

REDUCTIONS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@writers.of("Eltwise")
def eltwise(graph: Graph, layer: Eltwise, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Products, maxima, or sums with coefficients."""
    param = layer.spec.message(EltwiseParam)
    if param.operation == "MAX":
        return [graph.add("Max", *x)]
    if param.operation == "PROD":
        return [reduce(lambda a, b: graph.add("Mul", a, b), x)]
    terms = [graph.scaled(name, c) for name, c in zip(x, param.coeff or [1.0] * len(x), strict=True)]
    return [reduce(lambda a, b: graph.add("Add", a, b), terms)]


@writers.of("Axpy")
def axpy(graph: Graph, layer: Axpy, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """a · x + b, with one a for each channel of each image."""
    missing = len(bottom[1].shape) - len(bottom[0].shape)
    first = len(bottom[0].shape)
    a = graph.add("Unsqueeze", x[0], graph.numbers(range(first, first + missing))) if missing else x[0]
    return [graph.add("Add", graph.add("Mul", a, x[1]), x[2])]


@writers.of("Reduction")
def reduction(graph: Graph, layer: Reduction, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """One number for all axes from ``axis`` on."""
    param, axes = layer.spec.message(ReductionParam), len(bottom[0].shape)
    over = graph.numbers(range(canonical_axis(layer, param.axis, axes), axes))
    return [graph.scaled(graph.add(REDUCTIONS[param.operation], x[0], over, keepdims=0), param.coeff)]


@writers.of("Concat")
def concat(graph: Graph, layer: Concat, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Side by side along an axis."""
    param = layer.spec.message(ConcatParam)
    axis = param.concat_dim if param.has("concat_dim") else param.axis
    axis = canonical_axis(layer, axis, len(bottom[0].shape))
    graph.needs_batch |= axis == 0
    return [graph.add("Concat", *x, axis=axis)]
