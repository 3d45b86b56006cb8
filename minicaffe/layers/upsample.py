"""Upsample: each pixel becomes s × s equal pixels.

    y[h, w] = x[h // s, w // s]        dx = Σ dy over the s × s pixels

Shapes: x (N, C, H, W), stored (C, H, W, N) -> y (N, C, s·H, s·W).

Nearest-neighbour upsampling, as in YOLO v3; a layer of Caffe's forks (eric612/MobileNet-YOLO).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import channelwise
from minicaffe.spec.fields import Int, Message


class UpsampleParam(Message):
    """``scale``: the factor s."""

    scale = Int(1, min=1)


@register_layer
class Upsample(Layer):
    """Images enlarged by a whole factor."""

    messages = {"upsample_param": UpsampleParam}

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
