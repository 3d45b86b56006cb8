"""Permute: the axes in another order.

    y = x with its axes in ``order``        dx = dy with its axes back in place

Shapes: with ``order`` [0, 2, 3, 1], x (N, C, H, W) -> y (N, H, W, C).

The PermuteLayer of SSD's Caffe (Liu et al. 2016, arXiv 1512.02325).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.workers import channelwise
from minicaffe.spec.fields import Int, Message


class PermuteParam(Message):
    """``order``: which axis of the bottom comes first, second, …; axes that are left out follow at the end."""

    order = Int(repeated=True, min=0)

    def check(self) -> None:
        if len(set(self.order)) < len(self.order):
            raise self.error("order", f"{self.order} names an axis twice")


@register_layer
class Permute(Layer):
    """A blob with its axes in another order; cannot be in place."""

    messages = {"permute_param": PermuteParam}

    def axes(self, shape: tuple[int, ...]) -> list[int]:
        """The axes of a bottom of this shape in their new order. Raises SpecError."""
        param, axes = self.spec.message(PermuteParam), len(shape)
        if param.order and max(param.order) >= axes:
            raise param.error("order", f"{param.order}: bottom {shape} has axes 0 to {axes - 1}")
        return param.order + [axis for axis in range(axes) if axis not in param.order]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        order = self.axes(shape)
        top[0].reshape(*[shape[axis] for axis in order])
        # the order of the stored axes: the batch, axis 0, is stored last on both sides
        self.stored_order = [bottom[0].stored_axis(axis) for axis in order[1:] + order[:1]]
        self.back_order = [self.stored_order.index(axis) for axis in range(len(shape))]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        channelwise(self.xp.copyto, top[0].stored, bottom[0].stored.transpose(self.stored_order))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            channelwise(self.xp.copyto, bottom[0].stored_diff, top[0].stored_diff.transpose(self.back_order))
