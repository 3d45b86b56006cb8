"""Power: y = (shift + scale · x)^power.

    dx = dy · power · scale · (shift + scale · x)^(power − 1)

If power · scale is 0, y is constant and dx is 0. Caffe's PowerLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import Float, Message


class PowerParam(Message):
    """The defaults give y = x."""

    power = Float(1.0)
    scale = Float(1.0)
    shift = Float(0.0)


@register_layer
class Power(Neuron):
    """A power of a linear function of x."""

    messages = {"power_param": PowerParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(PowerParam)
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.slope = self.power * self.scale
        self.needs_input = self.slope != 0 and self.power != 1

    def compute(self, x: Array, y: Array) -> None:
        if self.slope == 0:
            y.fill(self.shift)
        else:
            self._base(x, y)
        self._raise(y, self.power)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        if self.slope == 0 or self.power == 1:
            self.xp.multiply(dy, self.slope, out=dx)
            return
        slope = scratch(x, x.shape)
        self._base(x, slope)
        self._raise(slope, self.power - 1)
        slope *= self.slope
        self.xp.multiply(dy, slope, out=dx)

    def _base(self, x: Array, out: Array) -> None:
        """out = shift + scale · x."""
        self.xp.multiply(x, self.scale, out=out)
        out += self.shift

    def _raise(self, base: Array, power: float) -> None:
        """base = base^power, with shortcuts for the powers 1 and 2."""
        if power == 2:
            self.xp.multiply(base, base, out=base)
        elif power != 1:
            self.xp.power(base, power, out=base)
