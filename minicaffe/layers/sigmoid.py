"""Sigmoid: y = 1 / (1 + exp(−x)).

    dx = dy · y · (1 − y)

Caffe's SigmoidLayer.
"""

from __future__ import annotations

from minicaffe.array import Array, module_of
from minicaffe.layer import register_layer
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.workers import scratch
from minicaffe.spec.fields import Enum, Message


class SigmoidParam(Message):
    """``engine`` chooses nothing here; it is Caffe's."""

    engine = Enum("DEFAULT", "CAFFE", "CUDNN", default="DEFAULT")


def sigmoid(x: Array, out: Array) -> None:
    """out = 1 / (1 + exp(−x)), as (tanh(x / 2) + 1) / 2, which does not overflow."""
    xp = module_of(x)
    xp.multiply(x, 0.5, out=out)
    xp.tanh(out, out=out)
    out += 1
    out *= 0.5


@register_layer
class Sigmoid(Neuron):
    """The logistic function."""

    messages = {"sigmoid_param": SigmoidParam}

    def compute(self, x: Array, y: Array) -> None:
        sigmoid(x, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        y, slope = scratch(x, x.shape, 0), scratch(x, x.shape, 1)
        sigmoid(x, out=y)
        self.xp.subtract(1, y, out=slope)
        slope *= y
        self.xp.multiply(dy, slope, out=dx)
