"""Softmax: y_c = exp(x_c) / Σ_k exp(x_k) along an axis (the channels by default).

    dx = (dy − Σ_k dy_k · y_k) · y

Shapes: x, y (N, C, …).

Caffe's SoftmaxLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls
from minicaffe.ops.epilogue import Epilogue
from minicaffe.ops.softmax import softmax, softmax_calls
from minicaffe.spec.fields import ENGINE, Int, Message
from minicaffe.spec.net import LayerSpec


class SoftmaxParam(Message):
    """``axis``: the axis along which the outputs sum to 1."""

    engine = ENGINE
    axis = Int(1)


@register_layer
class Softmax(Layer):
    """Probabilities from scores."""

    messages = {"softmax_param": SoftmaxParam}
    in_place = True

    @classmethod
    def reads_top(cls, spec: LayerSpec) -> str:
        return "values"

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        axis = canonical_axis(self, self.spec.message(SoftmaxParam).axis, len(bottom[0].shape))
        self.stored_axis = bottom[0].stored_axis(axis)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        softmax(*self._with_the_axis_first(bottom, top))

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        return softmax_calls(*self._with_the_axis_first(bottom, top)) if bottom[0].count else []

    def _with_the_axis_first(self, bottom: Blobs, top: Blobs) -> tuple[Array, Array]:
        x, y = (self.xp.moveaxis(blob.stored, self.stored_axis, 0) for blob in (bottom[0], top[0]))
        return x, y

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            y, dy = top[0].stored, top[0].stored_diff
            inner = (dy * y).sum(axis=self.stored_axis, keepdims=True)
            self.xp.multiply(dy - inner, y, out=bottom[0].stored_diff)
