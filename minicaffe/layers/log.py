"""Log: y = log_base(shift + scale · x), where base −1 means e.

    dx = dy · scale / (ln(base) · (shift + scale · x))

Caffe's LogLayer.
"""

from __future__ import annotations

import math

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import Float, Message


class LogParam(Message):
    """``base``: greater than 0 and not 1, or −1 for e."""

    base = Float(-1.0)
    scale = Float(1.0)
    shift = Float(0.0)

    def check(self) -> None:
        if self.base != -1 and (self.base <= 0 or self.base == 1):
            raise self.error(
                "base", f"{self.base:g} is out of range; it must be greater than 0 and not 1, or -1 for e"
            )

    def log_base(self) -> float:
        """ln(base)."""
        return 1.0 if self.base == -1 else math.log(self.base)


@register_layer
class Log(Neuron):
    """A logarithm."""

    messages = {"log_param": LogParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(LogParam)
        self.scale, self.shift, self.log_base = param.scale, param.shift, param.log_base()

    def compute(self, x: Array, y: Array) -> None:
        self._argument(x, y)
        self.xp.log(y, out=y)
        y *= 1 / self.log_base

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        argument = scratch(x, x.shape)
        self._argument(x, argument)
        self.xp.divide(dy, argument, out=dx)
        dx *= self.scale / self.log_base

    def _argument(self, x: Array, out: Array) -> None:
        """out = shift + scale · x."""
        self.xp.multiply(x, self.scale, out=out)
        out += self.shift
