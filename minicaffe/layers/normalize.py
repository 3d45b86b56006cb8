"""Normalize: y = s · x / ‖x‖, with the L2 norm over the channels of each pixel, or over the whole image.

    u = x / ‖x‖        ds = Σ dy · u        dx = (s · dy − u · Σ (s · dy · u)) / ‖x‖

Shapes: x, y (N, C, H, W), stored (C, H, W, N); s (C,), or () with ``channel_shared``.

‖x‖² = Σ x² + eps, over C, or over C, H and W with ``across_spatial``.

ParseNet (Liu et al. 2015, arXiv 1506.04579); the NormalizeLayer of SSD's Caffe (weiliu89/caffe, branch ssd). In its
gradient s stands outside the inner sum, which is only right if all channels share s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.ops.lrn import columnwise
from minicaffe.spec.fields import Bool, Float, Message, Nested


class NormalizeParam(Message):
    """``scale_filler`` fills with 1 by default; ``eps`` keeps the norm of zeros from being 0."""

    across_spatial = Bool(True)
    scale_filler = Nested(FillerParam)
    channel_shared = Bool(True)
    eps = Float(1e-10, min=0)


@register_layer
class Normalize(Layer):
    """Vectors normalised to length 1, then scaled by a learned factor."""

    messages = {"norm_param": NormalizeParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param, shape = self.spec.message(NormalizeParam), bottom[0].shape
        self._check(bottom)
        filler = self.param.scale_filler if self.param.has("scale_filler") else FillerParam(value=1.0)
        self.add_blob(() if self.param.channel_shared else shape[1:2], filler)

    def _check(self, bottom: Blobs) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected at least 2 axes (N, C, …)")
        if self.blobs and not self.param.channel_shared and self.blobs[0].shape != shape[1:2]:
            raise self.shape_error(f"bottom has {shape[1]} channels, the scale {self.blobs[0].count}")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self._check(bottom)
        shape = bottom[0].shape
        top[0].reshape(*shape)
        rows = math.prod(shape[1:]) if self.param.across_spatial else shape[1]
        self.vectors = (rows, shape[0] if self.param.across_spatial else shape[0] * math.prod(shape[2:]))
        self.repeats = rows // max(shape[1], 1)  # of a channel's scale, in a vector
        self.inverse = self.new_array((1, self.vectors[1]))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        scale = self._scale()

        def columns(x: Array, inverse: Array, y: Array) -> None:
            self.xp.multiply(x, x, out=y)
            y.sum(axis=0, keepdims=True, out=inverse)
            inverse += self.param.eps
            self.xp.reciprocal(self.xp.sqrt(inverse, out=inverse), out=inverse)
            self.xp.multiply(x, inverse, out=y)
            y *= scale

        columnwise(columns, self._vectors(bottom[0].stored), self.inverse, self._vectors(top[0].stored))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, dy = self._vectors(bottom[0].stored), self._vectors(top[0].stored_diff)
        if self.param_propagate_down[0]:
            sums = (x * self.inverse * dy).sum(axis=1)
            shape = self.blobs[0].shape or (1,)
            self.blobs[0].accumulate(lambda out: sums.reshape(*shape, -1).sum(axis=1, out=out.reshape(shape)))
        if propagate_down[0]:
            scale = self._scale()

            def columns(x: Array, inverse: Array, dy: Array, dx: Array) -> None:
                u = x * inverse
                self.xp.multiply(dy, scale, out=dx)
                u *= (u * dx).sum(axis=0, keepdims=True)
                dx -= u
                dx *= inverse

            columnwise(columns, x, self.inverse, dy, self._vectors(bottom[0].stored_diff))

    def _vectors(self, stored: Array) -> Array:
        """An array as columns (numbers, vectors), each of which is normalised to length 1."""
        return stored.reshape(self.vectors)

    def _scale(self) -> Array:
        """s as a column."""
        s = self.blobs[0].data.reshape(-1, 1)
        return s if self.param.channel_shared else self.xp.repeat(s, self.repeats, axis=0)
