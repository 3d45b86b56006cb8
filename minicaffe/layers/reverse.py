"""Reverse: x in reverse order along an axis (by default the first: time, in a sequence).

    y[i] = x[n − 1 − i]        dx[i] = dy[n − 1 − i]

Shapes: x, y (N, …), with n elements along the axis.

With two of them around it, a recurrent layer runs backward in time.

The ReverseLayer of Caffe forks (jolibrain/caffe #71).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.spec.fields import Int, Message


class ReverseParam(Message):
    """``axis``: the axis to reverse."""

    axis = Int(0)


@register_layer
class Reverse(Layer):
    """A blob in reverse order; cannot be in place."""

    messages = {"reverse_param": ReverseParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        axis = canonical_axis(self, self.spec.message(ReverseParam).axis, len(shape))
        top[0].reshape(*shape)
        self.backwards = (*[slice(None)] * bottom[0].stored_axis(axis), slice(None, None, -1))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].stored[...] = bottom[0].stored[self.backwards]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            bottom[0].stored_diff[...] = top[0].stored_diff[self.backwards]
