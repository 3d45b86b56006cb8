"""Pooling on batch-last arrays: x (C, H, W, N) -> y (C, OH, OW, N).

A kernel position (i, j) meets each output pixel once, so pooling is k·k operations on strided views of whole
images, and no loop over pixels; the maximum is 2·k of them, along one axis and then along the other. A window is
clipped to the image (and, for the average's divisor, to the padded image), as Caffe clips it.

Ties: the gradient of MAX goes to the first maximum in row order. Its position in the window is kept as the number
i·kw + j.

With few images and a stride of several columns, NumPy would meet a new run of memory at every pixel. Then columns
are put in order of their phase first, number mod stride: those under a kernel position are one run in each row.

On a GPU a kernel has one thread for each output, or in backward for each pixel, which gathers from its windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import Calls
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.engine import keeps_order
from minicaffe.ops.runs import SHORT, as_runs, copy_runs

LOWEST = -float(np.finfo(np.float32).max)  # the maximum of a window with no pixel in it, as in Caffe

KERNELS = kernels_beside(__file__)
Index = tuple[slice, slice, slice]  # of channels, rows and columns


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
) -> list[tuple[int, Index, Index]]:
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


class _Columns:
    """An array (C, H, W, N) whose columns are read or written every ``step`` pixels, in order of phase if that is
    faster."""

    def __init__(self, x: Array, step: int) -> None:
        self.x, self.step = x, step
        self.phases: Array | None = None
        if step > 1 and x.shape[3] <= SHORT:
            channels, height, width, batch = x.shape
            self.phases = workers.scratch(x, (step, channels, height, -(-width // step), batch), slot=4)

    def gather(self) -> _Columns:
        """Read the array. Returns self."""
        workers.make(self.gather_calls())
        return self

    def gather_calls(self) -> Calls:
        """The calls that ``gather`` makes."""
        return [partial(np.copyto, *as_runs(phase, pixels)) for phase, pixels in self._pairs()]

    def fill(self, value: float) -> _Columns:
        """Fill the array. Returns self."""
        (self.x if self.phases is None else self.phases).fill(value)
        return self

    def scatter(self) -> None:
        """Write the array."""
        for phase, pixels in self._pairs():
            copy_runs(pixels, phase)

    def _pairs(self) -> Iterator[tuple[Array, Array]]:
        """Each phase, and its pixels in the array."""
        for i, phase in enumerate([] if self.phases is None else self.phases):
            pixels = self.x[:, :, i :: self.step]
            yield phase[:, :, : pixels.shape[2]], pixels

    def __getitem__(self, index: Index) -> Array:
        """The view of some channels, rows and columns; the columns are a slice with the step."""
        if self.phases is None:
            return self.x[index]
        channels, rows, cols = index
        first, phase = divmod(cols.start, self.step)
        count = max(0, -(-(cols.stop - cols.start) // self.step))
        view: Array = self.phases[phase][channels, rows, first : first + count]
        return view


def _over(
    x: Array | _Columns, image: tuple[int, ...], y: Array, window: Window
) -> Iterator[tuple[int, Array, Index]]:
    """(number, pixels of x, index into y) for each kernel position; the ``image`` of x is (H, W)."""
    for number, into_y, into_x in _positions((image[0], image[1]), y.shape[1:3], window):
        yield number, x[into_x], into_y


def _along(axis: int, size: int, y: Array, window: Window) -> Iterator[tuple[int, Index, Index]]:
    """For each place of the kernel along the rows' axis (0) or the columns' (1), which has ``size`` pixels: its
    number, index into y, and index into x."""
    every = slice(None)
    for k in range(window.kernel[axis]):
        outputs, pixels = _overlap(k - window.pad[axis], size, y.shape[axis + 1], window.stride[axis])
        if axis == 0:
            yield k, (every, outputs, every), (every, pixels, every)
        else:
            yield k, (every, every, outputs), (every, every, pixels)


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
        workers.make(max_pool_calls(x, window, out))
    else:
        workers.channelwise(lambda x, y, at: _max_with_argmax(x, window, y, at), x, out, argmax)


def max_pool_calls(x: Array, window: Window, out: Array) -> Calls:
    """The calls that ``max_pool`` makes on a CPU, without positions."""
    if x.size + out.size > workers.CHUNK:
        return [partial(workers.channelwise, lambda x, y: workers.make(_max_calls(x, window, y)), x, out)]
    return _max_calls(x, window, out)


def _max_calls(x: Array, window: Window, y: Array) -> Calls:
    """Down the columns first: the rows are long runs."""
    height, width = x.shape[1:3]
    down = workers.scratch(x, (x.shape[0], y.shape[1], width, x.shape[3]))
    calls = _maximum_calls([(0, x[from_x], into) for _, into, from_x in _along(0, height, y, window)], down)
    columns = _Columns(down, window.stride[1])
    across = [(0, columns[from_x], into) for _, into, from_x in _along(1, width, y, window)]
    return calls + columns.gather_calls() + _maximum_calls(across, y)


def _max_with_argmax(x: Array, window: Window, y: Array, argmax: Array) -> None:
    """Along the rows first, then down the columns, where the first of equal maxima is the first in row order.

    Where windows share no pixels, that would only be one more step.
    """
    height, width = x.shape[1:3]
    columns = _Columns(x, window.stride[1]).gather()
    if all(k <= s for k, s in zip(window.kernel, window.stride, strict=True)):
        _first_maximum([*_over(columns, (height, width), y, window)], y, argmax)
        return
    shape = (x.shape[0], height, *y.shape[2:])
    across, at = workers.scratch(x, shape, slot=0), workers.scratch(argmax, shape, slot=1)
    _first_maximum(
        [(j, columns[from_x], into) for j, into, from_x in _along(1, width, y, window)], across, at
    )
    lines = _along(0, height, y, window)
    numbers = ((i * window.kernel[1], from_x, into) for i, into, from_x in lines)
    _first_maximum([(i, across[from_x], into, at[from_x]) for i, from_x, into in numbers], y, argmax)


def _first_maximum(parts: Sequence[tuple[Any, ...]], y: Array, argmax: Array | None = None) -> None:
    """y = the largest of several ``parts``: (number, values, index into y, numbers to be added to the first).

    ``argmax``: the number of the first part that has it. Numbers come in rising order, so the last part that was
    greater than all before it has the maximum.
    """
    workers.make(_maximum_calls(parts, y, argmax))


def _maximum_calls(parts: Sequence[tuple[Any, ...]], y: Array, argmax: Array | None = None) -> Calls:
    """The calls that ``_first_maximum`` makes."""
    best, calls = y, Calls()
    for part in parts:
        number, values, into, *more = part
        is_whole = values.shape == y.shape
        if part is parts[0]:
            if is_whole:
                best = values  # not copied, if the next part is whole, too
            else:
                calls.append(partial(y.fill, LOWEST))
            if argmax is not None:
                calls.append(partial(argmax.fill, number))
                if is_whole and more:
                    calls.append(partial(np.add, argmax, more[0], out=argmax))
            if is_whole:
                continue
        if best is not y and not is_whole:
            calls.append(partial(np.copyto, y, best))
            best = y
        if argmax is not None:
            calls.append(partial(_note_greater, values, best[into], number, argmax[into], *more))
        calls.append(partial(np.maximum, best[into], values, out=y[into]))
        best = y
    if best is not y:
        calls.append(partial(np.copyto, y, best))
    return calls


def _note_greater(values: Array, best: Array, number: int, at: Array, more: Array | None = None) -> None:
    """at = number, or number + more, where values are greater than the best so far."""
    greater = workers.scratch(at, values.shape, slot=2)
    np.greater(values, best, out=greater.view(bool) if greater.itemsize == 1 else greater)
    numbers: Any = at.dtype.type(number)
    if more is not None:
        numbers = np.add(more, numbers, out=workers.scratch(at, values.shape, slot=3))
    np.multiply(greater, numbers, out=greater)
    np.maximum(at, greater, out=at)


def max_pool_grad(dy: Array, argmax: Array, window: Window, out: Array) -> None:
    """dx: each dy is added to the pixel that was the maximum of its window."""
    if not on_cpu(dy):
        KERNELS["max_pool_grad"](out.size, dy, argmax, out, *_sizes(out, dy, window), Place=argmax.dtype)
        return
    tiles = _tiles(out.shape[1:3], dy.shape[1:3], window)
    workers.channelwise(lambda dy, at, dx: _route(dy, at, window, dx, tiles), dy, argmax, out)


def _route(dy: Array, argmax: Array, window: Window, dx: Array, tiles: bool) -> None:
    chosen, share = workers.scratch(argmax, dy.shape, slot=0), workers.scratch(dy, dy.shape, slot=1)
    chosen = chosen.view(bool) if argmax.itemsize == 1 else chosen
    columns = _Columns(dx, window.stride[1])
    if not tiles:
        columns.fill(0)
    for number, pixels, into_y in _over(columns, dx.shape[1:3], dy, window):
        np.equal(argmax[into_y], argmax.dtype.type(number), out=chosen[into_y])
        np.multiply(dy[into_y], chosen[into_y], out=pixels if tiles else share[into_y])
        if not tiles:
            pixels += share[into_y]
    columns.scatter()


def flat_positions(positions: Array, window: Window, width: int, out: Array) -> None:
    """Write positions in the window as indices h·W + w into the image: what Caffe's mask top holds."""
    xp, (rows, columns) = module_of(positions), positions.shape[1:3]
    i, j = np.divmod(np.arange(math.prod(window.kernel)), window.kernel[1])
    first_rows, first_columns = (
        np.arange(count) * stride - pad
        for count, stride, pad in zip((rows, columns), window.stride, window.pad, strict=True)
    )
    firsts = xp.asarray(first_rows[:, None, None] * width + first_columns[:, None], dtype=out.dtype)
    within = xp.asarray(i * width + j, dtype=out.dtype)  # a table: to divide each number takes longer

    def channels(at: Array, flat: Array) -> None:
        flat[...] = within[at]
        flat += firsts

    workers.channelwise(channels, positions, out)


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
    workers.make(ave_pool_calls(x, window, out))


def ave_pool_calls(x: Array, window: Window, out: Array) -> Calls:
    """The calls that ``ave_pool`` makes on a CPU."""
    scale = _scale(x, out, window)
    if x.size + out.size > workers.CHUNK:
        return [
            partial(
                workers.channelwise, lambda x, y: workers.make(_average_calls(x, window, scale, y)), x, out
            )
        ]
    return _average_calls(x, window, scale, out)


def _covers(window: Window, x: Array) -> bool:
    """Whether a window that begins with the image takes all of it."""
    return not any(window.pad) and all(
        kernel >= size for kernel, size in zip(window.kernel, x.shape[1:3], strict=True)
    )


def _average_calls(x: Array, window: Window, scale: Array, y: Array) -> Calls:
    calls = Calls()
    if y.shape[1:3] == (1, 1) and _covers(window, x) and not keeps_order():
        pixels = x.reshape(len(x), -1, x.shape[3])
        calls.append(partial(pixels.sum, axis=1, out=y[:, 0, 0]))
    else:
        columns = _Columns(x, window.stride[1])
        calls += [partial(y.fill, 0), *columns.gather_calls()]
        calls += [
            partial(np.add, y[into_y], pixels, out=y[into_y])
            for _, pixels, into_y in _over(columns, x.shape[1:3], y, window)
        ]
    return [*calls, partial(np.multiply, y, scale, out=y)]


def ave_pool_grad(dy: Array, window: Window, out: Array) -> None:
    """dx: each dy is spread evenly over its window."""
    if not on_cpu(dy):
        KERNELS["ave_pool_grad"](out.size, dy, out, *_sizes(out, dy, window))
        return
    scale = _scale(out, dy, window)

    def channels(dy: Array, dx: Array) -> None:
        columns = _Columns(dx, window.stride[1]).fill(0)
        share = workers.scratch(dy, dy.shape)
        np.multiply(dy, scale, out=share)
        for _, pixels, into_y in _over(columns, dx.shape[1:3], dy, window):
            pixels += share[into_y]
        columns.scatter()

    workers.channelwise(channels, dy, out)


def expected_pool(x: Array, window: Window, out: Array) -> None:
    """Stochastic pooling at test time: Σx² / Σx over the window (Zeiler and Fergus 2013), 0 where Σx is 0."""
    if not on_cpu(x):
        KERNELS["expected_pool"](out.size, x, out, *_sizes(x, out, window))
        return
    xp = module_of(x)
    squares, sums = xp.zeros_like(out), xp.zeros_like(out)
    for _, pixels, into_y in _over(x, x.shape[1:3], out, window):
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
    for _, pixels, into_y in _over(x, x.shape[1:3], out, window):
        total[into_y] += pixels
    limit, running = threshold * total, xp.zeros_like(out)
    taken = xp.zeros(out.shape, bool)
    out.fill(0)
    picked.fill(0)
    for number, pixels, into_y in _over(x, x.shape[1:3], out, window):
        running[into_y] += pixels
        take = (running[into_y] > limit[into_y]) & ~taken[into_y]
        taken[into_y] |= take
        out[into_y] += pixels * take
        picked[into_y] += take.astype(picked.dtype) * picked.dtype.type(number)
