"""AbsVal: y = |x|.

    dx = dy · sign(x), and 0 where x = 0

Caffe's AbsValLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron


@register_layer
class AbsVal(Neuron):
    """The absolute value; not in place, as in Caffe."""

    in_place = False

    def compute(self, x: Array, y: Array) -> None:
        self.xp.absolute(x, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        sign = scratch(x, x.shape)
        self.xp.sign(x, out=sign)
        self.xp.multiply(dy, sign, out=dx)
