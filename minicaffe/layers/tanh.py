"""TanH: y = tanh(x).

    dx = dy · (1 − y²)

Caffe's TanHLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import ENGINE, Message


class TanHParam(Message):
    engine = ENGINE


@register_layer
class TanH(Neuron):
    """The hyperbolic tangent."""

    messages = {"tanh_param": TanHParam}

    def compute(self, x: Array, y: Array) -> None:
        self.xp.tanh(x, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        self.xp.tanh(x, out=slope)
        slope *= slope
        self.xp.subtract(1, slope, out=slope)
        self.xp.multiply(dy, slope, out=dx)
