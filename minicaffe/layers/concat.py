"""Concat: several blobs joined along an axis (the channels by default).

    y = [x_0, x_1, …]        dx_i = the part of dy at the position of x_i

Shapes: x_i (N, C_i, H, W) -> y (N, Σ C_i, H, W).

Channels are not copied where the x_i can lie in y's memory (``Parts``).

Caffe's ConcatLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.workers import Calls
from minicaffe.layers.parts import Parts
from minicaffe.ops.epilogue import Epilogue
from minicaffe.spec.fields import Int, Message


class ConcatParam(Message):
    """``concat_dim`` is the old name of ``axis``."""

    axis = Int(1)
    concat_dim = Int(1, min=0)

    def check(self) -> None:
        if self.has("axis") and self.has("concat_dim"):
            raise self.error("concat_dim", "is the old name of axis, which is given too; keep axis")


@register_layer
class Concat(Layer):
    """Joins blobs that differ only in the size of one axis."""

    messages = {"concat_param": ConcatParam}
    bottoms = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.parts = Parts(self, self.spec.bottom, self.spec.top[0])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(ConcatParam), bottom[0].shape
        field = "concat_dim" if param.has("concat_dim") else "axis"
        axis = canonical_axis(self, getattr(param, field), len(shape), field)
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if len(blob.shape) != len(shape) or _without(axis, blob.shape) != _without(axis, shape):
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}, '{self.spec.bottom[0]}' {shape}; "
                    f"they may differ in axis {axis} only"
                )
        sizes = [blob.shape[axis] for blob in bottom]
        top[0].reshape(*shape[:axis], sum(sizes), *shape[axis + 1 :])
        self.parts.cut(top[0], axis, sizes)

    def joins(self, bottom: Blobs, top: Blobs) -> list[tuple[Blob, Blob, int]]:
        return self.parts.joins(bottom, top[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for i, x in enumerate(bottom):
            self.parts.collect("data", i, x, top[0])

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls:
        return [call for i, x in enumerate(bottom) for call in self.parts.collect_calls(i, x, top[0])]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (x, wanted) in enumerate(zip(bottom, propagate_down, strict=True)):
            if wanted:
                self.parts.hand_out("diff", i, x, top[0])


def _without(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
