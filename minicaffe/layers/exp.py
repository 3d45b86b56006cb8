"""Exp: y = base^(shift + scale · x), where base −1 means e.

    dx = dy · y · scale · ln(base)

Caffe's ExpLayer.
"""

from __future__ import annotations

import math

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import Float, Message


class ExpParam(Message):
    """``base``: greater than 0, or −1 for e."""

    base = Float(-1.0)
    scale = Float(1.0)
    shift = Float(0.0)

    def check(self) -> None:
        if self.base != -1 and self.base <= 0:
            raise self.error("base", f"{self.base:g} is out of range; it must be greater than 0, or -1 for e")

    def log_base(self) -> float:
        """ln(base)."""
        return 1.0 if self.base == -1 else math.log(self.base)


@register_layer
class Exp(Neuron):
    """An exponential."""

    messages = {"exp_param": ExpParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ExpParam)
        self.scale = param.scale * param.log_base()
        self.shift = param.shift * param.log_base()

    def compute(self, x: Array, y: Array) -> None:
        self.xp.multiply(x, self.scale, out=y)
        y += self.shift
        self.xp.exp(y, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        self.compute(x, slope)
        slope *= self.scale
        self.xp.multiply(dy, slope, out=dx)
