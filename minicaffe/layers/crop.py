"""Crop: x cut to the size of a reference, in the axes from ``axis`` on (by default height and width).

    y = x[:, :, o_h : o_h + h, o_w : o_w + w]        dx = dy there, 0 elsewhere

Shapes: x (N, C, H, W), reference (…, h, w) -> y (N, C, h, w), which starts at ``offset`` = (o_h, o_w) in x.

Only the shape of the reference is used; it gets no gradient. Caffe's CropLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.workers import channelwise
from minicaffe.spec.fields import Int, Message


class CropParam(Message):
    """``offset``: where the cut begins, one for each axis from ``axis`` on, or one for all."""

    axis = Int(2)
    offset = Int(repeated=True, min=0)


@register_layer
class Crop(Layer):
    """A blob cut to the size of another."""

    messages = {"crop_param": CropParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, reference = bottom[0].shape, bottom[1].shape
        axis = canonical_axis(self, self.spec.message(CropParam).axis, len(shape))
        if len(reference) < len(shape):
            raise self.shape_error(f"reference {reference} has fewer axes than bottom {shape}")
        parts = [slice(None)] * axis
        for i, start in enumerate(self._offsets(len(shape) - axis), axis):
            if start + reference[i] > shape[i]:
                raise self.shape_error(
                    f"axis {i}: {reference[i]} from offset {start} on do not fit in a bottom of shape {shape}"
                )
            parts.append(slice(start, start + reference[i]))
        top[0].reshape(*shape[:axis], *reference[axis : len(shape)])
        self.part = (*parts[1:], parts[0])  # of the stored array, where the batch is last

    def _offsets(self, axes: int) -> list[int]:
        """An offset for each of the last ``axes`` axes."""
        param = self.spec.message(CropParam)
        given = param.offset or [0]
        if len(given) not in (1, axes):
            raise param.error("offset", f"{len(given)} offsets for {axes} axes; give one, or one for each")
        return given if len(given) == axes else given * axes

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        channelwise(self.xp.copyto, top[0].stored, bottom[0].stored[self.part])

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dx = bottom[0].stored_diff
            dx.fill(0)
            channelwise(self.xp.copyto, dx[self.part], top[0].stored_diff)
