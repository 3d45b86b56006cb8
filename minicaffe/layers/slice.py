"""Slice: one blob cut into several along an axis (the channels by default).

    y_i = the i-th part of x        dx = [dy_0, dy_1, …]

Shapes: x (N, Σ C_i, H, W) -> y_i (N, C_i, H, W).

Channels are not copied where the y_i can lie in x's memory (``Parts``).

Caffe's SliceLayer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.layers.parts import Parts
from minicaffe.spec.fields import Int, Message


class SliceParam(Message):
    """``slice_point``: where each part after the first begins (default: equal parts).

    ``slice_dim`` is the old name of ``axis``.
    """

    axis = Int(1)
    slice_point = Int(repeated=True, min=1)
    slice_dim = Int(1, min=0)

    def check(self) -> None:
        if self.has("axis") and self.has("slice_dim"):
            raise self.error("slice_dim", "is the old name of axis, which is given too; keep axis")
        if any(after <= before for before, after in pairwise(self.slice_point)):
            raise self.error("slice_point", f"{self.slice_point} must be increasing")


@register_layer
class Slice(Layer):
    """The parts of a blob, one top for each."""

    messages = {"slice_param": SliceParam}
    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.parts = Parts(self, self.spec.top, self.spec.bottom[0])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(SliceParam), bottom[0].shape
        field = "slice_dim" if param.has("slice_dim") else "axis"
        axis = canonical_axis(self, getattr(param, field), len(shape), field)
        sizes = self._sizes(shape[axis], len(top))
        for size, blob in zip(sizes, top, strict=True):
            blob.reshape(*shape[:axis], size, *shape[axis + 1 :])
        self.parts.cut(bottom[0], axis, sizes)

    def _sizes(self, size: int, tops: int) -> list[int]:
        """The sizes of the parts along an axis of length ``size``."""
        param = self.spec.message(SliceParam)
        points = param.slice_point
        if not points:
            if size % tops:
                raise self.shape_error(
                    f"an axis of {size} cannot be cut into {tops} equal parts; give slice_point"
                )
            return [size // tops] * tops
        if len(points) != tops - 1:
            raise param.error("slice_point", f"{len(points)} points for {tops} tops; give {tops - 1}")
        if points[-1] >= size:
            raise param.error("slice_point", f"{points[-1]} is not inside the axis, whose size is {size}")
        return [end - begin for begin, end in pairwise([0, *points, size])]

    def joins(self, bottom: Blobs, top: Blobs) -> list[tuple[Blob, Blob, int]]:
        return self.parts.joins(top, bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for i, y in enumerate(top):
            self.parts.hand_out("data", i, y, bottom[0])

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        for i, (y, arrives) in enumerate(zip(top, self.top_has_gradient, strict=True)):
            if arrives:
                self.parts.collect("diff", i, y, bottom[0])
            else:
                bottom[0].stored_diff[self.parts.indices[i]] = 0
