"""Tile: x repeated ``tiles`` times along an axis (the channels by default).

    y = [x, x, …]        dx = the sum of the parts of dy

Shapes: x (N, C, …) -> y (N, tiles · C, …).

Caffe's TileLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.spec.fields import Int, Message


class TileParam(Message):
    """``tiles``: how many copies."""

    axis = Int(1)
    tiles = Int(required=True, min=1)


@register_layer
class Tile(Layer):
    """Copies of a blob, side by side along one axis."""

    messages = {"tile_param": TileParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(TileParam), bottom[0].shape
        axis = canonical_axis(self, param.axis, len(shape))
        top[0].reshape(*shape[:axis], shape[axis] * param.tiles, *shape[axis + 1 :])
        stored = bottom[0].stored_shape
        self.tile_axis = bottom[0].stored_axis(axis)
        self.one = (*stored[: self.tile_axis], 1, *stored[self.tile_axis :])
        self.all = (*stored[: self.tile_axis], param.tiles, *stored[self.tile_axis :])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].stored.reshape(self.all)[...] = bottom[0].stored.reshape(self.one)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            top[0].stored_diff.reshape(self.all).sum(axis=self.tile_axis, out=bottom[0].stored_diff)
