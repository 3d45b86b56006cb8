"""Reorg: fewer pixels and s² times as many channels, in the order of darknet; or the other way, with ``reverse``.

With ``reverse``, x (N, s²·C′, H, W) -> y (N, C′, s·H, s·W), and each s × s pixels are from as many channels:

    y[c, s·h + i, s·w + j] = x[(s·i + j) · C′ + c, h, w]

Without, x (N, C, H, W) -> y (N, s²·C, H / s, W / s). That one might expect to be the way back, but darknet reads
x in memory as if it had the shape z (C / s², s·H, s·W), goes back from there to u (C, H, W), and calls u's
numbers, as they lie in memory, y:

    u[(s·i + j) · C / s² + c, h, w] = z[c, s·h + i, s·w + j]

So a channel of y has numbers from several channels of x, and ``reverse`` does not bring x back. Arrays are
stored with the batch last, (C, H, W, N).

YOLO v2's passthrough layer (Redmon and Farhadi 2016, arXiv 1612.08242; eric612/MobileNet-YOLO, and Reorg in
OpenCV). The gradient goes back the same way; the fork sends none.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Bool, Int, Message


class ReorgParam(Message):
    """``stride``: s. ``reverse``: from fine to coarse without it, from coarse to fine with it."""

    stride = Int(required=True, min=1)
    reverse = Bool(False)


@register_layer
class Reorg(Layer):
    """Fewer pixels and more channels, without loss."""

    messages = {"reorg_param": ReorgParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(ReorgParam), bottom[0].shape
        if len(shape) != 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        s, (images, channels, height, width) = param.stride, shape
        if channels % s**2:
            raise param.error("stride", f"{s}² = {s * s} does not divide the bottom's {channels} channels")
        if not param.reverse and (height % s or width % s):
            raise param.error("stride", f"{s} does not divide the bottom's {height} × {width} pixels")
        if param.reverse:
            top[0].reshape(images, channels // s**2, height * s, width * s)
        else:
            top[0].reshape(images, channels * s**2, height // s, width // s)
        self.reverse = param.reverse
        self.fine = (channels // s**2, height, s, width, s, images)
        self.coarse = (s, s, channels // s**2, height, width, images)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].stored, top[0].stored
        if self.reverse:
            y.reshape(self.fine)[...] = x.reshape(self.coarse).transpose(2, 3, 0, 4, 1, 5)
        else:
            y.reshape(self.coarse)[...] = x.reshape(self.fine).transpose(2, 4, 0, 1, 3, 5)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].stored_diff, bottom[0].stored_diff
        if self.reverse:
            dx.reshape(self.coarse)[...] = dy.reshape(self.fine).transpose(2, 4, 0, 1, 3, 5)
        else:
            dx.reshape(self.fine)[...] = dy.reshape(self.coarse).transpose(2, 3, 0, 4, 1, 5)
