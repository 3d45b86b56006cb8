"""ELU: y = x where x > 0, α · (exp(x) − 1) elsewhere.

    dx = dy where x > 0, dy · α · exp(x) elsewhere

Caffe's ELULayer; Clevert, Unterthiner and Hochreiter 2015 (arXiv 1511.07289).
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import Float, Message


class ELUParam(Message):
    """``alpha``: y tends to −α for x → −∞."""

    alpha = Float(1.0)


@register_layer
class ELU(Neuron):
    """Exponential linear unit."""

    messages = {"elu_param": ELUParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.alpha = self.spec.message(ELUParam).alpha

    def compute(self, x: Array, y: Array) -> None:
        curve = scratch(x, x.shape)
        self.xp.minimum(x, 0, out=curve)
        self.xp.expm1(curve, out=curve)
        curve *= self.alpha
        self.xp.maximum(x, 0, out=y)
        y += curve

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        self.xp.minimum(x, 0, out=slope)
        self.xp.exp(slope, out=slope)
        slope *= self.alpha
        slope *= x <= 0
        slope += x > 0
        self.xp.multiply(dy, slope, out=dx)
