"""Convolution as one matrix product, in its plainest form: read this page first.

The data matrix X has a column for each place where the window stands, which holds the pixels that it sees there,
one under the other. A filter, its numbers in the same order, is a row of w. So all filters at all places are one
matrix product; names and shapes are those of ``geometry.py``:

    X[(c, i, j), (oh, ow, n)] = x[c, oh·s − p + i·d, ow·s − p + j·d, n],   zero outside the image

    y  = w · X + b             w as (M, K), y as (M, P)
    dw = dy · Xᵀ
    db = dy · 1
    dx = col2im(wᵀ · dy)       each number of wᵀ · dy added to the pixel that X has it from

``im2col`` makes X, and ``col2im`` is its adjoint. Nothing here is quick: X has kh·kw numbers for each pixel, and is
held whole. The other files of this package compute the same numbers without that, and the tests compare each of
them with this one.
"""

from __future__ import annotations

import math
from typing import Any

from minicaffe.device.array import Array, module_of
from minicaffe.ops.convolution.geometry import Geometry, Window


def im2col(x: Array, window: Window) -> Array:
    """The data matrix X (K, P) of x (C, H, W, N)."""
    channels, *image, batch = x.shape
    output = window.output_size(tuple(image))
    padded = pad_image(x, window)
    columns: Array = module_of(x).empty((channels, *window.kernel, *output, batch), x.dtype)
    for position in window.positions():
        columns[_row(position)] = padded[_under(window, position, output)]
    return columns.reshape(channels * math.prod(window.kernel), -1)


def col2im(columns: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of ``im2col``: each number of X (K, P) is added to its pixel of an image (C, H, W, N)."""
    channels, *image, batch = shape
    output = window.output_size(tuple(image))
    padded: Array = module_of(columns).zeros(
        (channels, *window.padded_size(tuple(image)), batch), columns.dtype
    )
    columns = columns.reshape(channels, *window.kernel, *output, batch)
    for position in window.positions():
        padded[_under(window, position, output)] += columns[_row(position)]
    return padded[inside(tuple(image), window)]


def pad_image(x: Array, window: Window) -> Array:
    """x (C, H, W, N) with its border of zeros."""
    channels, *image, batch = x.shape
    padded: Array = module_of(x).zeros((channels, *window.padded_size(tuple(image)), batch), x.dtype)
    padded[inside(tuple(image), window)] = x
    return padded


def inside(image: tuple[int, ...], window: Window) -> tuple[slice, ...]:
    """Where the image lies in the padded one."""
    return (slice(None), *(slice(p, p + size) for p, size in zip(window.pad, image, strict=True)))


def _row(position: tuple[int, ...]) -> tuple[slice | int, ...]:
    """Where X has the rows of a kernel position (i, j), one for each channel."""
    return (slice(None), *position)


def _under(window: Window, position: tuple[int, ...], output: tuple[int, ...]) -> tuple[slice, ...]:
    """The pixels of all channels of a padded image that lie under a kernel position, one for each output."""
    return (slice(None), *map(window.pixels, range(len(output)), position, output))


class PlainConvolution:
    """The three products by these formulas, a group at a time. (See ``products.py``.)"""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def pad(self, x: Array) -> Array:
        """What ``weight_grad`` takes: here X itself, (K, P)."""
        return im2col(x.reshape(self.geometry.shape), self.geometry.window)

    def forward(self, x: Array, w: Array, out: Array, bias: Array | None = None) -> Array:
        """Write y = w · X + b into ``out``; return X."""
        columns = self.pad(x)
        for w_g, x_g, y_g in zip(self._groups(w), self._groups(columns), self._groups(out), strict=True):
            y_g[...] = w_g @ x_g
        if bias is not None:
            out += bias.reshape(-1, *[1] * (out.ndim - 1))
        return columns

    def weight_grad(self, dy: Array, columns: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw = dy · Xᵀ into ``out`` and, where given, db = dy · 1 into ``bias_out``."""
        for dy_g, x_g, dw_g in zip(self._groups(dy), self._groups(columns), self._groups(out), strict=True):
            dw_g[...] = dy_g @ x_g.T
        if bias_out is not None:
            bias_out[...] = dy.reshape(self.geometry.filters, -1).sum(axis=1)

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx = col2im(wᵀ · dy) into ``out``."""
        columns = [w_g.T @ dy_g for w_g, dy_g in zip(self._groups(w), self._groups(dy), strict=True)]
        whole = module_of(dy).concatenate(columns)
        out.reshape(self.geometry.shape)[...] = col2im(whole, self.geometry.shape, self.geometry.window)

    def _groups(self, array: Array) -> list[Any]:
        """An array of rows (g·m, …) as one matrix (m, rest) for each group."""
        matrices = array.reshape(self.geometry.group, array.shape[0] // self.geometry.group, -1)
        return list(matrices)
