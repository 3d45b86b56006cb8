"""Sigmoid: y = 1 / (1 + exp(−x)).

    dx = dy · y · (1 − y)

Caffe's SigmoidLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import ENGINE, Message


class SigmoidParam(Message):
    engine = ENGINE


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
