"""Elementwise layers."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.layers.clip import Clip, ClipParam
from minicaffe.layers.dropout import Dropout, DropoutParam
from minicaffe.layers.elu import ELU, ELUParam
from minicaffe.layers.exp import Exp, ExpParam
from minicaffe.layers.log import Log, LogParam
from minicaffe.layers.power import Power, PowerParam
from minicaffe.layers.prelu import PReLU
from minicaffe.layers.relu import ReLU, ReLUParam
from minicaffe.layers.relu6 import ReLU6, ReLU6Param
from minicaffe.layers.selu import SeLu, SeLuParam
from minicaffe.layers.swish import Swish, SwishParam
from minicaffe.layers.threshold import Threshold, ThresholdParam
from minicaffe.onnx.graph import FLOAT, Graph, writers

PLAIN = {"AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid", "TanH": "Tanh"}


@writers.of(*PLAIN)
def plain(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """What ONNX has too, under another name."""
    return [graph.add(PLAIN[layer.type], x[0])]


@writers.of("ReLU")
def relu(graph: Graph, layer: ReLU, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Relu, or LeakyRelu."""
    slope = layer.spec.message(ReLUParam).negative_slope
    return [graph.add("LeakyRelu", x[0], alpha=slope) if slope else graph.add("Relu", x[0])]


@writers.of("PReLU")
def prelu(graph: Graph, layer: PReLU, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A slope for each channel, or one."""
    blob = layer.blobs[0]
    return [graph.add("PRelu", x[0], graph.param(blob, (blob.count, *[1] * (len(bottom[0].shape) - 2))))]


@writers.of("ELU")
def elu(graph: Graph, layer: ELU, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Elu."""
    return [graph.add("Elu", x[0], alpha=layer.spec.message(ELUParam).alpha)]


@writers.of("SeLu", "SeLU")
def selu(graph: Graph, layer: SeLu, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Selu."""
    param = layer.spec.message(SeLuParam)
    return [graph.add("Selu", x[0], alpha=param.alpha, gamma=param.slope)]


@writers.of("ReLU6")
def relu6(graph: Graph, layer: ReLU6, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Clip to 0 … 6; or LeakyRelu, which ends at 6."""
    slope = layer.spec.message(ReLU6Param).negative_slope
    if not slope:
        return [graph.add("Clip", x[0], graph.constant(0), graph.constant(6))]
    return [graph.add("Min", graph.add("LeakyRelu", x[0], alpha=slope), graph.constant(6))]


@writers.of("Clip")
def clip(graph: Graph, layer: Clip, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Clip."""
    param = layer.spec.message(ClipParam)
    return [graph.add("Clip", x[0], graph.constant(param.min), graph.constant(param.max))]


@writers.of("Swish")
def swish(graph: Graph, layer: Swish, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """x · sigmoid(β · x)."""
    gate = graph.add("Sigmoid", graph.scaled(x[0], layer.spec.message(SwishParam).beta))
    return [graph.add("Mul", x[0], gate)]


@writers.of("Power")
def power(graph: Graph, layer: Power, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """(shift + scale · x) ^ power."""
    param = layer.spec.message(PowerParam)
    y = graph.scaled(x[0], param.scale, param.shift)
    return [y if param.power == 1 else graph.add("Pow", y, graph.constant(param.power))]


@writers.of("Exp")
def exp(graph: Graph, layer: Exp, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """base ^ (shift + scale · x); base −1 is e."""
    param = layer.spec.message(ExpParam)
    factor = param.log_base()
    return [graph.add("Exp", graph.scaled(x[0], factor * param.scale, factor * param.shift))]


@writers.of("Log")
def log(graph: Graph, layer: Log, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """The logarithm of (shift + scale · x) to a base; −1 is e."""
    param = layer.spec.message(LogParam)
    y = graph.add("Log", graph.scaled(x[0], param.scale, param.shift))
    return [graph.scaled(y, 1 / param.log_base())]


@writers.of("Threshold")
def threshold(graph: Graph, layer: Threshold, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """1 above the threshold, else 0."""
    above = graph.add("Greater", x[0], graph.constant(layer.spec.message(ThresholdParam).threshold))
    return [graph.add("Cast", above, to=FLOAT)]


@writers.of("Dropout")
def dropout(graph: Graph, layer: Dropout, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """At TEST x itself; a factor, where the layer scales then."""
    if layer.drops:
        raise layer.spec.message(DropoutParam).error(
            "sample_weights_test", "random masks cannot be exported; leave it out"
        )
    return [graph.scaled(x[0], float(np.float32(layer.test_scale)))]
