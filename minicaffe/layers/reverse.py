"""Reverse: x from its end to its beginning, along an axis (the first by default: time, in a sequence).

    y[i] = x[n − 1 − i]        dx[i] = dy[n − 1 − i]

The ReverseLayer of Caffe forks (jolibrain/caffe #71): with two of them a recurrent layer runs backward in time.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.spec.fields import Int, Message


class ReverseParam(Message):
    """``axis``: the one that is turned round."""

    axis = Int(0)


@register_layer
class Reverse(Layer):
    """A blob back to front; cannot be in place."""

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
