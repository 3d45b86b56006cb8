"""Upsample: each pixel becomes s × s equal pixels.

    y[h, w] = x[h // s, w // s]        dx = Σ dy over the s × s pixels

Shapes: x (N, C, H, W), stored (C, H, W, N) -> y (N, C, s·H, s·W).

Nearest-neighbour upsampling, as in YOLO v3; a layer of Caffe's forks (eric612/MobileNet-YOLO). SegNet's layer of
this name, with two bottoms, is in ``segnet_upsample.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import channelwise
from minicaffe.spec.fields import Bool, Int, Message


class UpsampleParam(Message):
    """``scale``: the factor s; 1 by default, with a mask 2.

    All other fields are for a layer with a mask, SegNet's. ``scale_h`` and ``scale_w`` stand for ``scale``, for
    each axis. ``pad_out_h``, ``pad_out_w``: the height, or the width, is odd, 2 · H − 1.
    """

    scale = Int(1, min=1)
    scale_h = Int(min=2)
    scale_w = Int(min=2)
    pad_out_h = Bool(False)
    pad_out_w = Bool(False)
    upsample_h = Int(min=2)
    upsample_w = Int(min=2)

    def check(self) -> None:
        for name in ("scale", "upsample"):
            given = [axis for axis in "hw" if self.has(f"{name}_{axis}")]
            if len(given) == 1:
                other = "w" if given == ["h"] else "h"
                raise self.error(f"{name}_{given[0]}", f"{name}_{other} belongs to it; give both")
        if self.has("upsample_h"):
            return
        if self.has("scale") and self.has("scale_h"):
            raise self.error("scale", "scale_h and scale_w are given too; keep either")
        for axis, factor in zip("hw", self._factors(), strict=True):
            name = f"pad_out_{axis}"
            if getattr(self, name) and factor != 2:
                raise self.error(
                    name, f"with a factor of {factor} the size is not known; give upsample_h and upsample_w"
                )

    def _factors(self) -> tuple[int, int]:
        whole = self.scale if self.has("scale") else 2
        return self.scale_h or whole, self.scale_w or whole

    def unpooled(self, size: tuple[int, ...]) -> tuple[int, int]:
        """(UH, UW) of SegNet's layer, for a bottom of size (H, W)."""
        if self.upsample_h and self.upsample_w:
            return self.upsample_h, self.upsample_w
        (height, width), (down, across) = size, self._factors()
        return height * down - self.pad_out_h, width * across - self.pad_out_w


@register_layer
class Upsample(Layer):
    """Images enlarged by a whole factor."""

    messages = {"upsample_param": UpsampleParam}
    bottoms = (1, 2)  # the second, a mask, is SegNet's

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(UpsampleParam)
        for name in param.fields:
            if name != "scale" and param.has(name):
                raise param.error(
                    name, "this is for two bottoms, pixels and the mask of a Pooling; add the mask"
                )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        s, shape = self.spec.message(UpsampleParam).scale, bottom[0].shape
        if len(shape) != 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        n, channels, height, width = shape
        top[0].reshape(n, channels, height * s, width * s)
        self.apart = (channels, height, s, width, s, n)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        def spread(x: Array, y: Array) -> None:
            y[...] = x[:, :, None, :, None]

        channelwise(spread, bottom[0].stored, top[0].stored.reshape(self.apart))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dy, dx = top[0].stored_diff.reshape(self.apart), bottom[0].stored_diff
            channelwise(lambda dy, dx: dy.sum(axis=(2, 4), out=dx), dy, dx)
