"""Two ways to see a convolution's weights as a matrix W, and to convolve with its factors one after the other.

w (M, C/g, kh, kw) in g groups becomes a stack of matrices, W (g, m, n) ≈ left (g, m, r) · right (g, r, n):

``ChannelScheme``   m = M/g, n = C/g·kh·kw. First a kh × kw convolution to g·r channels, then a 1 × 1 one to M.
                    (Denil et al. 2013, arXiv 1306.0543; Zhang et al. 2015, arXiv 1505.06798)
``SpatialScheme``   m = C/g·kh, n = M/g·kw. First a kh × 1 convolution to g·r channels, then a 1 × kw one to M.
                    (Jaderberg et al. 2014, arXiv 1405.3866, scheme 2; Tai et al. 2016, arXiv 1511.06067)

All of this is reshaping, so gradients are reshaped as the arrays are that they belong to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from minicaffe.device.array import Array, module_of
from minicaffe.ops.convolution.geometry import Window


@dataclass(frozen=True)
class ChannelScheme:
    """w as M/g × C/g·kh·kw. ``shape``: w's, (M, C/g, kh, kw)."""

    shape: tuple[int, ...]
    group: int
    left_stage: ClassVar[int] = 1  # left becomes the filters of the second convolution

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.shape[0] // self.group, math.prod(self.shape[1:])

    @property
    def filter_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the first and the second convolution's filters at rank 1."""
        return (self.group, *self.shape[1:]), (self.shape[0], 1, 1, 1)

    def matrix(self, w: Array) -> Array:
        """w as W (g, m, n)."""
        return w.reshape(self.group, *self.matrix_shape)

    def weights(self, matrix: Array) -> Array:
        """W (g, m, n) as w."""
        return matrix.reshape(self.shape)

    def filters(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Factors as the filters of the two convolutions: (g·r, C/g, kh, kw) and (M, r, 1, 1)."""
        return right.reshape(-1, *self.shape[1:]), left.reshape(self.shape[0], -1, 1, 1)

    def factors(self, first: Array, second: Array) -> tuple[Array, Array]:
        """The inverse of ``filters``: left (g, m, r) and right (g, r, n)."""
        rank = second.shape[1]
        return self.left_factor(second, rank), first.reshape(self.group, rank, -1)

    def left_factor(self, second: Array, rank: int) -> Array:
        """Left (g, m, r) from the filters that it became."""
        return second.reshape(self.group, -1, rank)

    def windows(self, window: Window) -> tuple[Window, Window]:
        """The windows of the two convolutions."""
        return window, Window((1, 1))


@dataclass(frozen=True)
class SpatialScheme:
    """w as C/g·kh × M/g·kw. ``shape``: w's, (M, C/g, kh, kw)."""

    shape: tuple[int, ...]
    group: int
    left_stage: ClassVar[int] = 0  # left becomes the filters of the first convolution

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n)."""
        filters, channels, kh, kw = self.shape
        return channels * kh, filters // self.group * kw

    @property
    def filter_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the first and the second convolution's filters at rank 1."""
        filters, channels, kh, kw = self.shape
        return (self.group, channels, kh, 1), (filters, 1, 1, kw)

    def matrix(self, w: Array) -> Array:
        """w as W (g, m, n)."""
        filters, channels, kh, kw = self.shape
        grouped = w.reshape(self.group, filters // self.group, channels, kh, kw)
        return grouped.transpose(0, 2, 3, 1, 4).reshape(self.group, *self.matrix_shape)

    def weights(self, matrix: Array) -> Array:
        """W (g, m, n) as w."""
        filters, channels, kh, kw = self.shape
        grouped = matrix.reshape(self.group, channels, kh, filters // self.group, kw)
        w: Array = module_of(matrix).ascontiguousarray(grouped.transpose(0, 3, 1, 2, 4))
        return w.reshape(self.shape)

    def filters(self, left: Array, right: Array) -> tuple[Array, Array]:
        """Factors as the filters of the two convolutions: (g·r, C/g, kh, 1) and (M, r, 1, kw)."""
        filters, channels, kh, kw = self.shape
        rank = left.shape[-1]
        first = left.swapaxes(1, 2).reshape(self.group * rank, channels, kh, 1)
        second = right.reshape(self.group, rank, -1, kw).swapaxes(1, 2).reshape(filters, rank, 1, kw)
        contiguous = module_of(left).ascontiguousarray
        return contiguous(first), contiguous(second)

    def factors(self, first: Array, second: Array) -> tuple[Array, Array]:
        """The inverse of ``filters``: left (g, m, r) and right (g, r, n)."""
        rank, kw = second.shape[1], self.shape[3]
        right = second.reshape(self.group, -1, rank, kw).swapaxes(1, 2)
        return self.left_factor(first, rank), right.reshape(self.group, rank, -1)

    def left_factor(self, first: Array, rank: int) -> Array:
        """Left (g, m, r) from the filters that it became."""
        return first.reshape(self.group, rank, -1).swapaxes(1, 2)

    def windows(self, window: Window) -> tuple[Window, Window]:
        """The windows of the two convolutions: over the height, then over the width."""
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = window.kernel, window.stride, window.pad, window.dilation
        return Window((kh, 1), (sh, 1), (ph, 0), (dh, 1)), Window((1, kw), (1, sw), (0, pw), (1, dw))


Scheme = ChannelScheme | SpatialScheme
schemes: dict[str, type[Scheme]] = {"CHANNEL": ChannelScheme, "SPATIAL": SpatialScheme}


def factor_count(scheme: Scheme, rank: int) -> int:
    """How many numbers the two factors have at a rank."""
    return rank * sum(map(math.prod, scheme.filter_shapes))
