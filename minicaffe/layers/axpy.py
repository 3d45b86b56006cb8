"""Axpy: y = a · x + b, with one number a for each channel of each image.

    da = Σ dy · x over the channel's pixels        dx = a · dy        db = dy

Shapes: a (N, C, 1, 1) or (N, C); x, b and y (N, C, …), stored (C, …, N).

It does in one pass what Scale and Eltwise do in two, at the end of a block of SENet (Hu et al. 2017, arXiv
1709.01507). The AxpyLayer of SENet's Caffe (hujie-frank/SENet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise, scratch
from minicaffe.ops import channels


@register_layer
class Axpy(Layer):
    """Scales each channel of each image and adds a blob; the bottoms are a, x and b."""

    bottoms = (3, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        a, x, b = (blob.shape for blob in bottom)
        if len(x) < 2 or a[:2] != x[:2] or math.prod(a[2:]) != 1 or b != x:
            raise self.shape_error(
                f"bottoms {a}, {x} and {b}; expected a (N, C, 1, 1), and x and b of one shape (N, C, …)"
            )
        top[0].reshape(*x)
        self.rows = (x[1], math.prod(x[2:]), x[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        def block(x: Array, a: Array, b: Array, y: Array) -> None:
            self.xp.multiply(x, a, out=y)
            y += b

        a, x, b = (blob.stored for blob in bottom)
        channels.in_blocks(block, self._rows(x), self._factors(a), self._rows(b), self._rows(top[0].stored))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        a, x, b = bottom
        dy = top[0].stored_diff
        if propagate_down[0]:
            sums = channels.row_sums(self._product_sum, 1, self._rows(dy), self._rows(x.stored))
            a.stored_diff[...] = sums[0].reshape(a.stored_shape)
        if propagate_down[1]:
            factors, dx = self._factors(a.stored), self._rows(x.stored_diff)
            channels.in_blocks(lambda dy, a, dx: self.xp.multiply(dy, a, out=dx), self._rows(dy), factors, dx)
        if propagate_down[2]:
            elementwise(self.xp.copyto, b.stored_diff, dy)

    def _product_sum(self, dy: Array, x: Array) -> list[Array]:
        product = scratch(x, x.shape)
        self.xp.multiply(dy, x, out=product)
        return [product.sum(axis=1)]

    def _rows(self, stored: Array) -> Array:
        """x's array as (channels, pixels, images)."""
        return stored.reshape(self.rows)

    def _factors(self, stored: Array) -> Array:
        """a's array as (channels, 1, images)."""
        return stored.reshape(self.rows[0], 1, self.rows[2])
