"""Pooling on batch-last arrays: x (C, H, W, N) -> y (C, OH, OW, N).

A kernel position (i, j) meets each output pixel once, so pooling is k·k operations on strided views of whole
images, and no loop over pixels. A window is clipped to the image (and, for the average's divisor, to the
padded image), as Caffe clips it.

Ties: the gradient of MAX goes to the first maximum in row order. Its place is kept as the number i·kw + j.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from minicaffe.array import Array, module_of
from minicaffe.ops import workers
from minicaffe.ops.im2col import Window

LOWEST = -float(np.finfo(np.float32).max)  # the maximum of a window that sees no pixel, as in Caffe


def output_size(image: tuple[int, int], window: Window, round_up: bool = True) -> tuple[int, int]:
    """(OH, OW) as Caffe's pooling has it: rounded up, but no window starts in the padding behind the image."""
    sizes = []
    for size, k, s, p in zip(image, window.kernel, window.stride, window.pad, strict=True):
        steps = (size + 2 * p - k) / s
        out = (math.ceil(steps) if round_up else math.floor(steps)) + 1
        if p and (out - 1) * s >= size + p:
            out -= 1
        sizes.append(out)
    return sizes[0], sizes[1]


def _overlap(offset: int, size: int, out: int, stride: int) -> tuple[slice, slice]:
    """Where pixels ``o · stride + offset`` of outputs o lie in an image of ``size``: the outputs, the pixels."""
    lo = max(0, -(offset // stride))
    hi = max(lo, min(out, (size - 1 - offset) // stride + 1))
    start = lo * stride + offset
    return slice(lo, hi), slice(start, start + (hi - lo - 1) * stride + 1 if hi > lo else start, stride)


@lru_cache(maxsize=256)
def _positions(
    image: tuple[int, int], output: tuple[int, int], window: Window
) -> list[tuple[int, tuple[slice, slice, slice], int, tuple[slice, slice, slice]]]:
    """For each kernel position: its number, its slice of y, and which columns of x it meets.

    Those are given as a residue of columns modulo the stride, and a slice of the columns of that residue.
    """
    every, stride = slice(None), window.stride[1]
    found = []
    for i in range(window.kernel[0]):
        rows, pixel_rows = _overlap(i - window.pad[0], image[0], output[0], window.stride[0])
        for j in range(window.kernel[1]):
            shift, residue = divmod(j - window.pad[1], stride)
            columns_of_residue = len(range(residue, image[1], stride))
            cols, pixel_cols = _overlap(shift, columns_of_residue, output[1], 1)
            number = i * window.kernel[1] + j
            found.append((number, (every, rows, cols), residue, (every, pixel_rows, pixel_cols)))
    return found


def _split_columns(x: Array, stride: int) -> list[Array]:
    """Room for the columns of x (C, H, W, N) by residue modulo the stride, each residue's contiguous.

    A slice of every other column has runs of only N numbers; here, a kernel position meets whole rows.
    """
    if stride == 1:
        return [x]
    channels, height, width, batch = x.shape
    widths = [len(range(residue, width, stride)) for residue in range(stride)]
    room, parts, start = workers.scratch(x, (x.size,)), [], 0
    for columns in widths:
        size = channels * height * columns * batch
        parts.append(room[start : start + size].reshape(channels, height, columns, batch))
        start += size
    return parts


def _over(x: Array, y: Array, window: Window) -> Iterator[tuple[int, Array, tuple[slice, slice, slice]]]:
    """(number, pixels of x, index into y) for each kernel position."""
    parts = _split_columns(x, window.stride[1])
    if len(parts) > 1:
        for residue, part in enumerate(parts):
            part[...] = x[:, :, residue :: window.stride[1]]
    for number, into_y, residue, pixels in _positions(x.shape[1:3], y.shape[1:3], window):
        yield number, parts[residue][pixels], into_y


def _add_over(dx: Array, y: Array, window: Window) -> Iterator[tuple[int, Array, tuple[slice, slice, slice]]]:
    """The same over dx, which starts as zeros and has what was added to the pixels when the loop is done."""
    parts = _split_columns(dx, window.stride[1])
    for part in parts:
        part.fill(0)
    for number, into_y, residue, pixels in _positions(dx.shape[1:3], y.shape[1:3], window):
        yield number, parts[residue][pixels], into_y
    if len(parts) > 1:
        for residue, part in enumerate(parts):
            dx[:, :, residue :: window.stride[1]] = part


def place_type(window: Window) -> type:
    """The smallest number type that holds a place in the window."""
    return np.uint8 if window.kernel[0] * window.kernel[1] <= 255 else np.int32


def max_pool(x: Array, window: Window, out: Array, places: Array | None = None) -> None:
    """Write the maxima into ``out`` and, where given, the place in the window of the first one into ``places``."""
    if places is None:
        workers.channelwise(lambda x, y: _max(x, window, y), x, out)
    else:
        workers.channelwise(lambda x, y, at: _max_with_places(x, window, y, at), x, out, places)


def _max(x: Array, window: Window, y: Array) -> None:
    xp = module_of(x)
    y.fill(LOWEST)
    for _, pixels, into_y in _over(x, y, window):
        xp.maximum(y[into_y], pixels, out=y[into_y])


def _max_with_places(x: Array, window: Window, y: Array, places: Array) -> None:
    """Positions come in rising order, so the last one that was greater than all before is their maximum."""
    xp = module_of(x)
    y.fill(LOWEST)
    places.fill(0)
    for number, pixels, into_y in _over(x, y, window):
        greater = pixels > y[into_y]
        xp.maximum(y[into_y], pixels, out=y[into_y])
        at = greater.view(np.uint8) * places.dtype.type(number)
        xp.maximum(places[into_y], at, out=places[into_y])


def max_pool_grad(dy: Array, places: Array, window: Window, out: Array) -> None:
    """dx: each dy is added to the pixel that was the maximum of its window."""

    def channels(dy: Array, places: Array, dx: Array) -> None:
        for number, pixels, into_y in _add_over(dx, dy, window):
            pixels += dy[into_y] * (places[into_y] == number)

    workers.channelwise(channels, dy, places, out)


def flat_places(places: Array, window: Window, width: int) -> Array:
    """Places in the window as indices h·W + w into the image: what Caffe's mask top holds."""
    xp = module_of(places)
    _, rows, cols, _ = places.shape
    i, j = xp.divmod(places.astype(np.int64), window.kernel[1])
    h = xp.arange(rows)[:, None, None] * window.stride[0] - window.pad[0] + i
    w = xp.arange(cols)[:, None] * window.stride[1] - window.pad[1] + j
    return h * width + w


@lru_cache(maxsize=256)
def _divisors(image: tuple[int, int], output: tuple[int, int], window: Window) -> np.ndarray:
    """1 / (the window's size, clipped to the padded image), (OH, OW, 1)."""
    spans = []
    for axis in range(2):
        start = np.arange(output[axis]) * window.stride[axis] - window.pad[axis]
        end = np.minimum(start + window.kernel[axis], image[axis] + window.pad[axis])
        spans.append(np.maximum(end - start, 1))  # a window behind the image sees nothing: its average is 0
    return 1.0 / (spans[0][:, None, None] * spans[1][None, :, None])


def _scale(x: Array, y: Array, window: Window) -> Array:
    return module_of(x).asarray(_divisors(x.shape[1:3], y.shape[1:3], window), dtype=x.dtype)


def ave_pool(x: Array, window: Window, out: Array) -> None:
    """Write the averages into ``out``; pixels in the padding count as zeros."""
    scale = _scale(x, out, window)

    def channels(x: Array, y: Array) -> None:
        y.fill(0)
        for _, pixels, into_y in _over(x, y, window):
            y[into_y] += pixels
        y *= scale

    workers.channelwise(channels, x, out)


def ave_pool_grad(dy: Array, window: Window, out: Array) -> None:
    """dx: each dy is spread evenly over its window."""
    scale = _scale(out, dy, window)

    def channels(dy: Array, dx: Array) -> None:
        share = dy * scale
        for _, pixels, into_y in _add_over(dx, dy, window):
            pixels += share[into_y]

    workers.channelwise(channels, dy, out)


def expected_pool(x: Array, window: Window, out: Array) -> None:
    """Stochastic pooling at test time: Σx² / Σx over the window (Zeiler and Fergus 2013), 0 where Σx is 0."""
    xp = module_of(x)
    squares, sums = xp.zeros_like(out), xp.zeros_like(out)
    for _, pixels, into_y in _over(x, out, window):
        squares[into_y] += pixels * pixels
        sums[into_y] += pixels
    xp.divide(squares, xp.where(sums == 0, 1, sums), out=out)


def sample_pool(x: Array, window: Window, threshold: Array, out: Array, places: Array) -> None:
    """Stochastic pooling at train time: each window yields a pixel with probability x / Σx.

    ``threshold`` (C, OH, OW, N) holds uniform numbers in [0, 1): the first pixel, in row order, at which the
    running sum exceeds threshold · Σx is taken.
    """
    xp = module_of(x)
    total = xp.zeros_like(out)
    for _, pixels, into_y in _over(x, out, window):
        total[into_y] += pixels
    limit, running = threshold * total, xp.zeros_like(out)
    taken = xp.zeros(out.shape, bool)
    out.fill(0)
    places.fill(0)
    for number, pixels, into_y in _over(x, out, window):
        running[into_y] += pixels
        take = (running[into_y] > limit[into_y]) & ~taken[into_y]
        taken[into_y] |= take
        out[into_y] += pixels * take
        places[into_y] += take.astype(places.dtype) * places.dtype.type(number)
