"""Dropout: y = x · m / (1 − r) at TRAIN, with a random mask m that is 0 with probability r, else 1; y = x at TEST.

    dx = dy · m / (1 − r)

Caffe's DropoutLayer; Srivastava et al. 2014.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.layer import Blobs, Layer, register_layer
from minicaffe.ops.dropout import drop, random_bits, threshold_for
from minicaffe.ops.workers import elementwise
from minicaffe.spec.fields import Float, Message


class DropoutParam(Message):
    """``dropout_ratio``: the share r that is dropped."""

    dropout_ratio = Float(0.5, min=0, below=1)


@register_layer
class Dropout(Layer):
    """A random part of the inputs set to 0, another one at each forward; the mean is kept.

    Masks come from the net's generator, so a run can be repeated from its seed.
    """

    messages = {"dropout_param": DropoutParam}
    in_place = True
    keeps_sign = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.threshold = threshold_for(self.spec.dropout_param.dropout_ratio)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].stored, top[0].stored
        if self.phase == "TRAIN":
            self.bits = random_bits(self.rng, x.shape)
            drop(x, self.bits, self.threshold, out=y)
        elif top[0] is not bottom[0]:
            # A copy: if the top shared the bottom's array, an in-place layer on it would change the bottom too.
            elementwise(self.xp.copyto, y, x)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].stored_diff, bottom[0].stored_diff
        if self.phase == "TRAIN":
            drop(dy, self.bits, self.threshold, out=dx)
        elif top[0] is not bottom[0]:
            elementwise(self.xp.copyto, dx, dy)
