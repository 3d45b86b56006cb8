"""Parameter: y = w, a parameter as a blob that other layers can take as a bottom.

    dw = dy

Shapes: w and y have the shape ``shape``.

w starts as zeros, as in Caffe. Caffe's ParameterLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import BlobShape, Message, Nested


class ParameterParam(Message):
    """``shape``: the shape of w."""

    shape = Nested(BlobShape)

    def check(self) -> None:
        if not self.has("shape"):
            raise self.error("shape", "required, but not given; add 'shape: {dim: […]}'")


@register_layer
class Parameter(Layer):
    """A learned blob without a bottom."""

    messages = {"parameter_param": ParameterParam}
    bottoms = (0, 0)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.add_blob(self.spec.message(ParameterParam).shape.dim, FillerParam())

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*self.blobs[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].data[...] = self.blobs[0].data

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if self.param_propagate_down[0]:
            self.blobs[0].add_to_diff(top[0].diff)
