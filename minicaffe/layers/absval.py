"""AbsVal: y = |x|.

    dx = dy · sign(x), and 0 where x = 0

Caffe's AbsValLayer.
"""

from __future__ import annotations

from minicaffe.array import Array
from minicaffe.layer import Blobs, register_layer
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.workers import scratch


@register_layer
class AbsVal(Neuron):
    """The absolute value; not in place, as in Caffe."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if top[0] is bottom[0]:
            raise self.spec.error("top", "AbsVal cannot work in place; give the top a name of its own")

    def compute(self, x: Array, y: Array) -> None:
        self.xp.absolute(x, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        sign = scratch(x, x.shape)
        self.xp.sign(x, out=sign)
        self.xp.multiply(dy, sign, out=dx)
