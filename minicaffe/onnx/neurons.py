"""Layers that see one number at a time."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.onnx.graph import Graph, writes

PLAIN = {"AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid", "TanH": "Tanh"}


@writes(*PLAIN)
def plain(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """What ONNX has under another name."""
    return [graph.add(PLAIN[layer.type], x[0])]


@writes("ReLU")
def relu(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Relu, or LeakyRelu."""
    slope = layer.spec.relu_param.negative_slope
    return [graph.add("LeakyRelu", x[0], alpha=slope) if slope else graph.add("Relu", x[0])]


@writes("PReLU")
def prelu(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A slope for each channel, or one."""
    blob = layer.blobs[0]
    return [graph.add("PRelu", x[0], graph.param(blob, (blob.count, *[1] * (len(bottom[0].shape) - 2))))]


@writes("ELU")
def elu(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Elu."""
    return [graph.add("Elu", x[0], alpha=layer.spec.elu_param.alpha)]


@writes("ReLU6")
def relu6(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Clip to 0 … 6; or LeakyRelu, which ends at 6."""
    slope = layer.spec.relu6_param.negative_slope
    if not slope:
        return [graph.add("Clip", x[0], graph.constant(0), graph.constant(6))]
    return [graph.add("Min", graph.add("LeakyRelu", x[0], alpha=slope), graph.constant(6))]


@writes("Clip")
def clip(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Clip."""
    param = layer.spec.clip_param
    return [graph.add("Clip", x[0], graph.constant(param.min), graph.constant(param.max))]


@writes("Swish")
def swish(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """x · sigmoid(β · x)."""
    gate = graph.add("Sigmoid", graph.scaled(x[0], layer.spec.swish_param.beta))
    return [graph.add("Mul", x[0], gate)]


@writes("Power")
def power(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """(shift + scale · x) ^ power."""
    param = layer.spec.power_param
    y = graph.scaled(x[0], param.scale, param.shift)
    return [y if param.power == 1 else graph.add("Pow", y, graph.constant(param.power))]


@writes("Exp")
def exp(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """base ^ (shift + scale · x); base −1 is e."""
    param = layer.spec.exp_param
    factor = param.log_base()
    return [graph.add("Exp", graph.scaled(x[0], factor * param.scale, factor * param.shift))]


@writes("Log")
def log(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """The logarithm of (shift + scale · x) to a base; −1 is e."""
    param = layer.spec.log_param
    y = graph.add("Log", graph.scaled(x[0], param.scale, param.shift))
    return [graph.scaled(y, 1 / param.log_base())]


@writes("Threshold")
def threshold(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """1 above the threshold, else 0."""
    above = graph.add("Greater", x[0], graph.constant(layer.spec.threshold_param.threshold))
    return [graph.add("Cast", above, to=1)]  # float32


@writes("Dropout")
def dropout(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """At TEST x itself; a factor, where the layer scales then."""
    return [graph.scaled(x[0], float(np.float32(layer.test_scale)))]
