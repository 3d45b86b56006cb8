"""Convolution as one matrix product, in its plainest form: read this page first.

The data matrix X has one column for each position of the window, and the column holds all pixels that the window
sees there. A filter, with its weights in the same order, is a row of w. So all filters at all positions are one
matrix product. Names and shapes are those of ``geometry.py``:

    X[(c, i, j), (oh, ow, n)] = x[c, oh·s − p + i·d, ow·s − p + j·d, n],   zero outside the image

    y  = w · X + b             w as (M, K), y as (M, P)
    dw = dy · Xᵀ
    db = dy · 1
    dx = col2im(wᵀ · dy)       each element of wᵀ · dy is added to the pixel that X has at its place

``im2col`` makes X, and ``col2im`` is its adjoint. This is not fast: X has kh·kw numbers for each pixel, all in
memory at once. The other files of this package avoid that, and the tests compare each of them with this one.
"""

from __future__ import annotations

import math

from minicaffe.device.array import Array, module_of
from minicaffe.ops.convolution.geometry import Geometry, Window

ALL_CHANNELS = (slice(None),)


def im2col(x: Array, window: Window) -> Array:
    """The data matrix X (K, P) of x (C, H, W, N)."""
    padded, output = pad_image(x, window), window.output_size(x.shape[1:-1])
    columns: Array = module_of(x).empty((len(x), *window.kernel, *output, x.shape[-1]), x.dtype)
    for position in window.positions():  # (i, j) in the kernel
        columns[ALL_CHANNELS + position] = padded[ALL_CHANNELS + window.under(position, output)]
    return columns.reshape(math.prod(columns.shape[: -len(output) - 1]), -1)


def col2im(columns: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of ``im2col``: each element of X (K, P) is added to its pixel of an image (C, H, W, N)."""
    channels, image, batch = shape[0], shape[1:-1], shape[-1]
    output = window.output_size(image)
    columns = columns.reshape(channels, *window.kernel, *output, batch)
    padded: Array = module_of(columns).zeros((channels, *window.padded_size(image), batch), columns.dtype)
    for position in window.positions():
        padded[ALL_CHANNELS + window.under(position, output)] += columns[ALL_CHANNELS + position]
    return padded[ALL_CHANNELS + window.inside(image)]


def pad_image(x: Array, window: Window) -> Array:
    """x (C, H, W, N) with its border of zeros."""
    image = x.shape[1:-1]
    padded: Array = module_of(x).zeros((len(x), *window.padded_size(image), x.shape[-1]), x.dtype)
    padded[ALL_CHANNELS + window.inside(image)] = x
    return padded


class PlainConvolution:
    """The products as in the formulas above; with g groups, each is a stack of g matrix products."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def pad(self, x: Array) -> Array:
        """What ``weight_grad`` takes: here x itself, since ``im2col`` adds the border."""
        return x.reshape(self.geometry.shape)

    def forward(self, x: Array, w: Array, out: Array, bias: Array | None = None) -> Array:
        """Write y = w · X + b into ``out``; return x, which ``weight_grad`` takes."""
        columns = im2col(x.reshape(self.geometry.shape), self.geometry.window)
        self._groups(out)[...] = self._groups(w) @ self._groups(columns)
        if bias is not None:
            out += bias.reshape(-1, *[1] * (out.ndim - 1))
        return self.pad(x)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw = dy · Xᵀ into ``out`` and, where given, db = dy · 1 into ``bias_out``."""
        columns = im2col(padded, self.geometry.window)
        self._groups(out)[...] = self._groups(dy) @ self._groups(columns).swapaxes(1, 2)
        if bias_out is not None:
            bias_out[...] = dy.reshape(self.geometry.filters, -1).sum(axis=1)

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx = col2im(wᵀ · dy) into ``out``."""
        columns = self._groups(w).swapaxes(1, 2) @ self._groups(dy)
        out.reshape(self.geometry.shape)[...] = col2im(columns, self.geometry.shape, self.geometry.window)

    def _groups(self, array: Array) -> Array:
        """An array of rows (g·m, …) as a stack of matrices (g, m, …), one for each group."""
        return array.reshape(self.geometry.group, len(array) // self.geometry.group, -1)
