"""Clip: y = max(min, min(x, max)).

    dx = dy where min ≤ x ≤ max, 0 elsewhere

Caffe's ClipLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.rectify import bounded
from minicaffe.spec.fields import Float, Message


class ClipParam(Message):
    """The bounds, both required."""

    min = Float(required=True)
    max = Float(required=True)

    def check(self) -> None:
        if self.min > self.max:
            raise self.error("min", f"{self.min:g} is more than max {self.max:g}; swap them")


@register_layer
class Clip(Neuron):
    """Values limited to a range."""

    messages = {"clip_param": ClipParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ClipParam)
        self.low, self.high = param.min, param.max

    def compute(self, x: Array, y: Array) -> None:
        bounded(x, self.low, self.high, y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        inside = x >= self.low
        inside &= x <= self.high
        self.xp.multiply(dy, inside, out=dx)
