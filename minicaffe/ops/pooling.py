"""Pooling on batch-last arrays: x (C, H, W, N) -> y (C, OH, OW, N).

A kernel position (i, j) meets each output pixel once, so pooling is k·k operations on strided views of whole
images, and no loop over pixels. A window is clipped to the image (and, for the average's divisor, to the
padded image), as Caffe clips it.

Ties: the gradient of MAX goes to the first maximum in row order. Its position in the window is kept as the number
i·kw + j.

On a GPU a kernel has one thread for each output, or in backward for each pixel, which gathers from its windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.ops.convolution.geometry import Window

LOWEST = -float(np.finfo(np.float32).max)  # the maximum of a window with no pixel in it, as in Caffe

KERNELS = kernels_beside(__file__)


def _sizes(x: Array, y: Array, window: Window) -> tuple[int, ...]:
    """The sizes that the kernels take."""
    return (*x.shape[1:], *y.shape[1:3], *window.kernel, *window.stride, *window.pad)


def output_size(image: tuple[int, int], window: Window, round_up: bool = True) -> tuple[int, int]:
    """(OH, OW) as in Caffe: rounded up, but no window starts in the padding behind the image."""
    sizes = []
    for size, k, s, p in zip(image, window.kernel, window.stride, window.pad, strict=True):
        steps = (size + 2 * p - k) / s
        out = (math.ceil(steps) if round_up else math.floor(steps)) + 1
        if any(window.pad) and (out - 1) * s >= size + p:  # on both axes if one is padded, as in Caffe
            out -= 1
        sizes.append(out)
    return sizes[0], sizes[1]


def _overlap(offset: int, size: int, out: int, stride: int) -> tuple[slice, slice]:
    """Which outputs o have a pixel ``o · stride + offset`` inside an image of ``size``, and those pixels."""
    lo = max(0, -(offset // stride))
    hi = max(lo, min(out, (size - 1 - offset) // stride + 1))
    start = lo * stride + offset
    return slice(lo, hi), slice(start, start + (hi - lo - 1) * stride + 1 if hi > lo else start, stride)


@lru_cache(maxsize=256)
def _positions(
    image: tuple[int, int], output: tuple[int, int], window: Window
) -> list[tuple[int, tuple[slice, slice, slice], tuple[slice, slice, slice]]]:
    """For each kernel position: its number, its slice of y, and its slice of x (channels come first)."""
    every = slice(None)
    found = []
    for i in range(window.kernel[0]):
        rows, pixel_rows = _overlap(i - window.pad[0], image[0], output[0], window.stride[0])
        for j in range(window.kernel[1]):
            cols, pixel_cols = _overlap(j - window.pad[1], image[1], output[1], window.stride[1])
            number = i * window.kernel[1] + j
            found.append((number, (every, rows, cols), (every, pixel_rows, pixel_cols)))
    return found


def _over(x: Array, y: Array, window: Window) -> Iterator[tuple[int, Array, tuple[slice, slice, slice]]]:
    """(number, pixels of x, index into y) for each kernel position."""
    for number, into_y, into_x in _positions(x.shape[1:3], y.shape[1:3], window):
        yield number, x[into_x], into_y


def _tiles(image: tuple[int, int], output: tuple[int, int], window: Window) -> bool:
    """Whether every pixel is in exactly one window."""
    return all(
        k == s and p == 0 and size == out * s
        for k, s, p, size, out in zip(window.kernel, window.stride, window.pad, image, output, strict=True)
    )


def position_type(window: Window) -> type:
    """The smallest number type that holds a position in the window."""
    return np.uint8 if window.kernel[0] * window.kernel[1] <= 255 else np.int32


def max_pool(x: Array, window: Window, out: Array, argmax: Array | None = None) -> None:
    """Write the maxima into ``out`` and, where given, the first one's position in the window into ``argmax``."""
    if not on_cpu(x):
        kept = out if argmax is None else argmax  # the kernel needs some array
        KERNELS["max_pool"](
            out.size, x, out, kept, int(argmax is not None), *_sizes(x, out, window), Place=kept.dtype
        )
    elif argmax is None:
        workers.channelwise(lambda x, y: _max(x, window, y), x, out)
    else:
        workers.channelwise(lambda x, y, at: _max_with_argmax(x, window, y, at), x, out, argmax)


def _max(x: Array, window: Window, y: Array) -> None:
    xp = module_of(x)
    y.fill(LOWEST)
    for _, pixels, into_y in _over(x, y, window):
        xp.maximum(y[into_y], pixels, out=y[into_y])


def _max_with_argmax(x: Array, window: Window, y: Array, argmax: Array) -> None:
    """Positions come in rising order, so the last one that was greater than all before it is the maximum."""
    xp, tiles = module_of(x), _tiles(x.shape[1:3], y.shape[1:3], window)
    argmax.fill(0)
    if not tiles:
        y.fill(LOWEST)
    greater, numbers = workers.scratch(argmax, y.shape, slot=0), workers.scratch(argmax, y.shape, slot=1)
    greater = greater.view(bool) if argmax.itemsize == 1 else greater
    for number, pixels, into_y in _over(x, y, window):
        if tiles and number == 0:
            y[...] = pixels
            continue
        xp.greater(pixels, y[into_y], out=greater[into_y])
        xp.maximum(y[into_y], pixels, out=y[into_y])
        if number:
            xp.multiply(greater[into_y], argmax.dtype.type(number), out=numbers[into_y])
            xp.maximum(argmax[into_y], numbers[into_y], out=argmax[into_y])


def max_pool_grad(dy: Array, argmax: Array, window: Window, out: Array) -> None:
    """dx: each dy is added to the pixel that was the maximum of its window."""
    if not on_cpu(dy):
        KERNELS["max_pool_grad"](out.size, dy, argmax, out, *_sizes(out, dy, window), Place=argmax.dtype)
        return
    tiles = _tiles(out.shape[1:3], dy.shape[1:3], window)
    workers.channelwise(lambda dy, at, dx: _route(dy, at, window, dx, tiles), dy, argmax, out)


def _route(dy: Array, argmax: Array, window: Window, dx: Array, tiles: bool) -> None:
    xp = module_of(dy)
    chosen, share = workers.scratch(argmax, dy.shape, slot=0), workers.scratch(dy, dy.shape, slot=1)
    chosen = chosen.view(bool) if argmax.itemsize == 1 else chosen
    if not tiles:
        dx.fill(0)
    for number, pixels, into_y in _over(dx, dy, window):
        xp.equal(argmax[into_y], argmax.dtype.type(number), out=chosen[into_y])
        xp.multiply(dy[into_y], chosen[into_y], out=pixels if tiles else share[into_y])
        if not tiles:
            pixels += share[into_y]


def flat_positions(positions: Array, window: Window, width: int) -> Array:
    """Positions in the window as indices h·W + w into the image: what Caffe's mask top holds."""
    xp = module_of(positions)
    _, rows, cols, _ = positions.shape
    i, j = xp.divmod(positions.astype(np.int64), window.kernel[1])
    h = xp.arange(rows)[:, None, None] * window.stride[0] - window.pad[0] + i
    w = xp.arange(cols)[:, None] * window.stride[1] - window.pad[1] + j
    flat: Array = h * width + w
    return flat


@lru_cache(maxsize=256)
def _divisors(image: tuple[int, int], output: tuple[int, int], window: Window) -> np.ndarray:
    """1 / (the window's size, clipped to the padded image), (OH, OW, 1)."""
    spans = []
    for axis in range(2):
        start = np.arange(output[axis]) * window.stride[axis] - window.pad[axis]
        end = np.minimum(start + window.kernel[axis], image[axis] + window.pad[axis])
        spans.append(np.maximum(end - start, 1))  # a window behind the image is empty: its average is 0
    return 1.0 / (spans[0][:, None, None] * spans[1][None, :, None])


def _scale(x: Array, y: Array, window: Window) -> Array:
    scale: Array = module_of(x).asarray(_divisors(x.shape[1:3], y.shape[1:3], window), dtype=x.dtype)
    return scale


def ave_pool(x: Array, window: Window, out: Array) -> None:
    """Write the averages into ``out``; pixels in the padding count as zeros."""
    if not on_cpu(x):
        KERNELS["ave_pool"](out.size, x, out, *_sizes(x, out, window))
        return
    scale = _scale(x, out, window)

    def channels(x: Array, y: Array) -> None:
        y.fill(0)
        for _, pixels, into_y in _over(x, y, window):
            y[into_y] += pixels
        y *= scale

    workers.channelwise(channels, x, out)


def ave_pool_grad(dy: Array, window: Window, out: Array) -> None:
    """dx: each dy is spread evenly over its window."""
    if not on_cpu(dy):
        KERNELS["ave_pool_grad"](out.size, dy, out, *_sizes(out, dy, window))
        return
    scale = _scale(out, dy, window)

    def channels(dy: Array, dx: Array) -> None:
        dx.fill(0)
        share = workers.scratch(dy, dy.shape)
        module_of(dy).multiply(dy, scale, out=share)
        for _, pixels, into_y in _over(dx, dy, window):
            pixels += share[into_y]

    workers.channelwise(channels, dy, out)


def expected_pool(x: Array, window: Window, out: Array) -> None:
    """Stochastic pooling at test time: Σx² / Σx over the window (Zeiler and Fergus 2013), 0 where Σx is 0."""
    if not on_cpu(x):
        KERNELS["expected_pool"](out.size, x, out, *_sizes(x, out, window))
        return
    xp = module_of(x)
    squares, sums = xp.zeros_like(out), xp.zeros_like(out)
    for _, pixels, into_y in _over(x, out, window):
        squares[into_y] += pixels * pixels
        sums[into_y] += pixels
    xp.divide(squares, xp.where(sums == 0, 1, sums), out=out)


def sample_pool(x: Array, window: Window, threshold: Array, out: Array, picked: Array) -> None:
    """Stochastic pooling at train time: each window yields a pixel with probability x / Σx.

    ``threshold`` (C, OH, OW, N) holds uniform numbers in [0, 1): the first pixel, in row order, at which the
    running sum exceeds threshold · Σx is taken.
    """
    if not on_cpu(x):
        KERNELS["sample_pool"](
            out.size, x, threshold, out, picked, *_sizes(x, out, window), Place=picked.dtype
        )
        return
    xp = module_of(x)
    total = xp.zeros_like(out)
    for _, pixels, into_y in _over(x, out, window):
        total[into_y] += pixels
    limit, running = threshold * total, xp.zeros_like(out)
    taken = xp.zeros(out.shape, bool)
    out.fill(0)
    picked.fill(0)
    for number, pixels, into_y in _over(x, out, window):
        running[into_y] += pixels
        take = (running[into_y] > limit[into_y]) & ~taken[into_y]
        taken[into_y] |= take
        out[into_y] += pixels * take
        picked[into_y] += take.astype(picked.dtype) * picked.dtype.type(number)
