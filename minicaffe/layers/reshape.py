"""Reshape: the same numbers in another shape.

    y = x        dx = dy

Shapes: of the axes of x, ``num_axes`` from ``axis`` on (by default all) are replaced by ``shape``, in which 0
copies the size of x at that position, and a single −1 is inferred from the rest.

If the batch stays the first axis, y shares x's memory and gradient, and there is nothing to compute. Otherwise the
order of the numbers in batch-last storage changes, and they are copied. Caffe's ReshapeLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Int, Message, Nested


class NewShape(Message):
    """``dim``: sizes; 0 copies the bottom's size, −1 is inferred."""

    dim = Int(min=-1, repeated=True)

    def check(self) -> None:
        if self.dim.count(-1) > 1:
            raise self.error("dim", f"{self.dim} has more than one -1; only one size can be inferred")


class ReshapeParam(Message):
    """``axis`` and ``num_axes`` (−1: to the last axis): the bottom's axes that ``shape`` replaces."""

    shape = Nested(NewShape)
    axis = Int(0)
    num_axes = Int(-1, min=-1)


@register_layer
class Reshape(Layer):
    """A blob with another shape; cannot be in place."""

    messages = {"reshape_param": ReshapeParam}

    shares_bottom = True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0], top[0]
        y.reshape(*self.new_shape(x.shape))
        self.is_shared = x.shape[:1] == y.shape[:1]
        y.share_data(x if self.is_shared else None)
        y.share_diff(x if self.is_shared else None)

    def new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The top's shape for a bottom of ``shape``. Raises SpecError or ShapeError if there is none."""
        begin, end = self._replaced_axes(len(shape))
        sizes = list(self.spec.message(ReshapeParam).shape.dim)
        for i, size in enumerate(sizes):
            if size == 0:
                sizes[i] = self._copied_size(shape, begin + i)
        if -1 in sizes:
            others = math.prod(size for size in sizes if size != -1)
            replaced = math.prod(shape[begin:end])
            if others == 0 or replaced % others:
                raise self.shape_error(
                    f"-1 in {sizes} has no size: {replaced} numbers of bottom {shape} are not divisible by {others}"
                )
            sizes[sizes.index(-1)] = replaced // others
        new = (*shape[:begin], *sizes, *shape[end:])
        if math.prod(new) != math.prod(shape):
            raise self.shape_error(
                f"{new} has {math.prod(new)} numbers, but bottom {shape} has {math.prod(shape)}"
            )
        return new

    def _replaced_axes(self, ndim: int) -> tuple[int, int]:
        """The bottom's axes [begin, end) that are replaced; a negative ``axis`` may be the end of the shape."""
        param = self.spec.message(ReshapeParam)
        begin = param.axis if param.axis >= 0 else ndim + 1 + param.axis
        if not 0 <= begin <= ndim:
            raise param.error("axis", f"{param.axis} is out of range for a bottom with {ndim} axes")
        end = ndim if param.num_axes == -1 else begin + param.num_axes
        if end > ndim:
            raise param.error(
                "num_axes", f"{param.num_axes} from axis {begin} on, but the bottom has {ndim} axes"
            )
        return begin, end

    def _copied_size(self, shape: tuple[int, ...], axis: int) -> int:
        if axis >= len(shape):
            param = self.spec.message(ReshapeParam)
            raise param.shape.error("dim", f"0 copies axis {axis}, which bottom {shape} does not have")
        return shape[axis]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if not self.is_shared:
            top[0].data[...] = bottom[0].data.reshape(top[0].shape)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not self.is_shared and propagate_down[0]:
            bottom[0].diff[...] = top[0].diff.reshape(bottom[0].shape)
