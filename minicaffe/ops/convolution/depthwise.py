"""Convolution of each channel with its own filters: as many groups as channels, with m filters each.

Shapes: x (C, H, W, N), w (C·m, 1, kh, kw), y (C·m, OH, OW, N). With only kh·kw terms, the products are too thin to
be worth a data matrix. Here X is made along the width only, for some rows of some channels at a time:

    Z[c, j, h, (ow, n)] = x[c, h − p, ow·s + j·d − p, n], or 0 beyond the image
    y[c, oh]   = Σ_ij w[c, i, j] · Z[c, j, oh·s + i·d]    multiply-adds of runs of memory: all rows of an image
    dw[c, i]   = Σ Z[c, :, oh·s + i·d] · dy[c, oh]ᵀ       (kw × rows·OW·N) · (rows·OW·N × m), the same views
    dx         at stride 1: dy convolved with w turned by 180°; else a sum like y, for each h mod s and w mod s

With a stride, rows are grouped by h mod s, so that those under row i of the kernel are contiguous. A part of Z is
so large that it takes few calls of NumPy: workers would wait for the interpreter's lock after short ones. On a GPU
the products are kernels (``depthwise.cu``): one thread for each element of y and of dx; for dw several threads for
each weight, whose sums are then added up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import Calls
from minicaffe.ops.convolution.dense import DenseConvolution, total_of, turn_filters
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.ops.epilogue import Epilogue, split
from minicaffe.ops.runs import copy_runs

BLOCK_BYTES = 4 << 20  # of Z, in a part
WORTH_SHARING = 1 << 20  # multiply-adds: with fewer, one worker is faster
WEIGHT_THREADS = 256  # on a GPU, at most this many threads share the gradient of a weight
KERNELS = kernels_beside(__file__)


@dataclass(frozen=True)
class Part:
    """Some channels, and some output rows of them."""

    channels: slice
    rows: slice


class DepthwiseConvolution(DenseConvolution):
    """A DenseConvolution with a group for each channel, whose products need no data matrix."""

    def __init__(self, geometry: Geometry, dtype: DTypeLike, device: Device = CPU) -> None:
        super().__init__(geometry, dtype, device)
        self.multiplier = geometry.filters // geometry.group
        self.row = geometry.output[1] * geometry.batch  # numbers in a row of an output
        self.workers = workers.worker_count if self._is_worth_sharing() and device == CPU else 1
        self.parts = self._cut() if device == CPU else []
        step = geometry.window.stride[0] // math.gcd(geometry.window.stride[0], geometry.window.dilation[0])
        kernel_h = geometry.window.kernel[0]
        # kernel rows that meet rows of the same h mod s
        self.taps = [range(i, kernel_h, step) for i in range(min(step, kernel_h))]

    def _is_worth_sharing(self) -> bool:
        return self.geometry.multiply_adds * self.geometry.batch >= WORTH_SHARING

    def _block_bytes(self) -> int:
        return BLOCK_BYTES

    def _together(self, fitting: int) -> int:
        """How many whole images a part has, of which so many fit: all workers get as many parts."""
        channels = self.geometry.channels
        parts = -(-channels // min(fitting, -(-channels // self.workers)))
        return -(-channels // (-(-parts // self.workers) * self.workers))

    def _cut(self) -> list[Part]:
        """Whole images of several channels if they are small, some rows of one channel if they are large."""
        channels, rows, window = self.geometry.channels, self.geometry.output[0], self.geometry.window
        row_bytes = max(1, window.kernel[1] * self.row * self.dtype.itemsize)
        fitting = self._block_bytes() // row_bytes  # rows of the input
        if fitting >= self._input_rows(rows):
            together = self._together(fitting // self._input_rows(rows))
            step = rows
        else:
            together = 1
            step = max(1, (fitting - window.extent[0]) // window.stride[0] + 1)
        return [
            Part(slice(c, min(c + together, channels)), slice(r, min(r + step, rows)))
            for c in range(0, channels, together)
            for r in range(0, rows, step)
        ]

    def _input_rows(self, rows: int) -> int:
        """How many rows of the padded input ``rows`` rows of the output need."""
        return (rows - 1) * self.geometry.window.stride[0] + self.geometry.window.extent[0]

    def prepare_pad(self, x: Array) -> tuple[Array, Calls]:
        """x itself on a CPU, where Z is made from it; else as ``DenseConvolution.prepare_pad``."""
        return (x.reshape(self.geometry.shape), []) if on_cpu(x) else super().prepare_pad(x)

    def prepare_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Calls:
        """As ``DenseConvolution.prepare_padded``."""
        return [partial(self.forward_padded, padded, w, out, bias, epilogue)]

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``DenseConvolution.forward_padded``; x without its border will do on a CPU."""
        if not on_cpu(padded):
            given = w if bias is None else bias  # some array has to be passed
            KERNELS["depthwise_forward"](
                out.size, padded, w, given, out, int(bias is not None), *self._sizes(self.geometry.padded)
            )
            if epilogue is not None:
                epilogue.over(out)
            return
        w, y, channels = self._filters(w), self._outputs(out), out.reshape(len(out), -1)
        in_blocks, afterwards = split(epilogue, out)
        bias = None if bias is None else bias.reshape(self.geometry.group, self.multiplier, 1)

        def multiply(part: Part, worker: int) -> None:
            target = y[part.channels, :, self._run(part)]
            for number, taps in enumerate(self.taps):
                pixels = self._meeting(padded, part, taps)
                factors = w[part.channels, :, taps.start :: taps.step]
                for k in range(self.multiplier):
                    term = workers.scratch(padded, target[:, k].shape, slot=1) if number else target[:, k]
                    np.einsum("cjil,cij->cl", pixels, factors[:, k], out=term)
                    if number:
                        target[:, k] += term
            if bias is not None:
                target += bias[part.channels]
            if in_blocks is not None:
                own = slice(part.channels.start * self.multiplier, part.channels.stop * self.multiplier)
                in_blocks.apply(channels[own, self._run(part)], own)

        workers.share(multiply, self.parts, self.workers)
        if afterwards is not None:
            afterwards.over(channels)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``."""
        if not on_cpu(dy):
            self._weight_grad_on_device(dy, padded, out, bias_out)
            return
        dy = self._outputs(dy)
        shape = (dy.shape[0], *self.geometry.window.kernel, dy.shape[1])
        sums = [np.zeros(shape, dy.dtype) for _ in range(self.workers)]

        def add_up(part: Part, worker: int) -> None:
            outputs = dy[part.channels, :, self._run(part)].swapaxes(1, 2)
            for taps in self.taps:
                pixels = self._meeting(padded, part, taps)
                for number, i in enumerate(taps):
                    sums[worker][part.channels, i] += np.matmul(pixels[:, :, number], outputs)

        workers.share_products(add_up, self.parts, self.workers)
        total = np.moveaxis(total_of(sums), 3, 1)  # (C, m, kh, kw)
        out.reshape(total.shape)[...] = total
        if bias_out is not None:
            dy.sum(axis=2, out=bias_out.reshape(dy.shape[:2]))

    def _weight_grad_on_device(self, dy: Array, padded: Array, out: Array, bias_out: Array | None) -> None:
        threads = max(1, min(WEIGHT_THREADS, self.geometry.columns))
        sums = module_of(dy).empty((out.size, threads), dy.dtype)
        KERNELS["depthwise_weight_grad"](
            sums.size, padded, dy, sums, threads, *self._sizes(self.geometry.padded)
        )
        sums.sum(axis=1, out=out.reshape(-1))
        if bias_out is not None:
            dy.reshape(self.geometry.filters, self.geometry.columns).sum(axis=1, out=bias_out)

    def _sizes(self, pixels: tuple[int, ...]) -> list[int]:
        """The sizes that the kernels take; ``pixels`` is the size of their image."""
        geometry, window = self.geometry, self.geometry.window
        return [
            self.multiplier, *pixels, *geometry.output, geometry.batch,
            *window.kernel, *window.stride, *window.dilation,
        ]  # fmt: skip

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """As ``DenseConvolution.input_grad``."""
        if not on_cpu(dy):
            KERNELS["depthwise_input_grad"](
                out.size, dy, w, out, *self._sizes(self.geometry.image), *self.geometry.window.pad
            )
        elif self.turned is None:
            self._gather(dy, w, out.reshape(self.geometry.shape))
        else:
            turned = turn_filters(w.reshape(self.geometry.weight_shape), self.geometry.group)
            self.turned.forward(dy, turned, out)

    @cached_property
    def turned(self) -> DepthwiseConvolution | None:
        """The convolution that takes dy to dx; None unless the stride is 1 and each channel has one filter."""
        turned = self.geometry.turned
        if turned is None or self.multiplier > 1 or self.device != CPU:
            return None
        return type(self)(turned, self.dtype, self.device)

    def _gather(self, dy: Array, w: Array, out: Array) -> None:
        """dx: what dy (C, m, OH, OW, N) gives to the pixels of the same h mod s and w mod s, for all at a time."""
        (stride_h, stride_w), w = self.geometry.window.stride, self._filters(w)
        dy = dy.reshape(*w.shape[:2], *self.geometry.output_shape[1:])

        def gather(own: slice, worker: int) -> None:
            for phase_h, phase_w in product(range(stride_h), range(stride_w)):
                pixels = out[own, phase_h::stride_h, phase_w::stride_w]
                rows, columns = self._met(0, phase_h), self._met(1, phase_w)
                if rows and columns and pixels.size:
                    self._gather_phase(dy[own], w[own], rows, columns, pixels)
                else:
                    pixels[...] = 0

        workers.share(gather, [part.channels for part in self.parts if not part.rows.start], self.workers)

    def _met(self, axis: int, phase: int) -> list[tuple[int, int]]:
        """Pairs (i, first output) for pixels ``phase``, ``phase`` + s, …: w[i] took them to outputs in sequence."""
        window = self.geometry.window
        stride, dilation, last = window.stride[axis], window.dilation[axis], window.kernel[axis] - 1
        starts = [(i, phase + window.pad[axis] - i * dilation) for i in range(last, -1, -1)]
        return [(i, start // stride) for i, start in starts if start % stride == 0]

    def _gather_phase(
        self, dy: Array, w: Array, rows: list[tuple[int, int]], columns: list[tuple[int, int]], pixels: Array
    ) -> None:
        """Write what dy (n, m, OH, OW, N) gives to ``pixels`` (n, R, Q, N) through some rows and columns of w."""
        lines = range(rows[0][1], rows[-1][1] + pixels.shape[1])
        step = rows[1][1] - rows[0][1] if len(rows) > 1 else 1
        reached = [range(first, first + pixels.shape[2]) for _, first in columns]
        w = w[:, :, [i for i, _ in rows]][..., [j for j, _ in columns]]
        for k in range(self.multiplier):
            runs = _runs(dy[:, k], lines, reached, len(rows), step)
            term = workers.scratch(dy, (len(dy), runs.shape[3]), slot=1)
            np.einsum("cjil,cij->cl", runs, w[:, k], out=term)
            if k:
                pixels += term.reshape(pixels.shape)
            else:
                copy_runs(pixels, term.reshape(pixels.shape))

    def _outputs(self, y: Array) -> Array:
        """y as (C, m, OH·OW·N)."""
        return y.reshape(self.geometry.group, self.multiplier, self.geometry.columns)

    def _filters(self, w: Array) -> Array:
        """w as (C, m, kh, kw)."""
        return w.reshape(self.geometry.group, self.multiplier, *self.geometry.window.kernel)

    def _run(self, part: Part) -> slice:
        """The part's rows as a slice of OH·OW·N."""
        return slice(part.rows.start * self.row, part.rows.stop * self.row)

    def moments(self, padded: Array, shift: Array | None = None) -> tuple[Array, Array]:
        """As ``DenseConvolution.moments``, of what ``pad`` returns."""
        if on_cpu(padded):
            padded, calls = super().prepare_pad(padded)
            workers.make(calls)
        return super().moments(padded, shift)

    def _meeting(self, image: Array, part: Part, taps: range) -> Array:
        """Z for the kernel rows ``taps``, as a view (n, kw, taps, rows·OW·N): for each tap the run that it meets.

        ``image`` is x, or x with its border.
        """
        window, border = self.geometry.window, self.border(image)
        step = taps.step * window.dilation[0] // window.stride[0]
        rows = part.rows.stop - part.rows.start + (len(taps) - 1) * step
        lines = self._pixels(0, taps.start, rows, border, part.rows.start)
        columns = [self._pixels(1, j, self.geometry.output[1], border) for j in range(window.kernel[1])]
        return _runs(image[part.channels], lines, columns, len(taps), step)

    def border(self, image: Array) -> tuple[int, ...]:
        """How much of the border an image lacks: x all of it, a padded one nothing."""
        return self.geometry.window.pad if image.shape[1:3] == self.geometry.image else (0, 0)

    def _pixels(
        self, axis: int, position: int, outputs: int, border: tuple[int, ...], first: int = 0
    ) -> range:
        """As ``Window.pixels``, for an image without its border: some may lie beyond it."""
        pixels = self.geometry.window.pixels(axis, position, outputs, first)
        return range(pixels.start - border[axis], pixels.stop - border[axis], pixels.step)


def _runs(image: Array, lines: range, columns: list[range], taps: int, step: int) -> Array:
    """Pixels of an image (n, H, W, N), 0 beyond it, as a view (n, kw, taps, rows·OW·N).

    It has some lines of the image, and of them ``columns`` for each column of the kernel. The lines that each tap
    meets begin ``step`` of them further down.
    """
    z = workers.scratch(image, (len(image), len(columns), len(lines), len(columns[0]), image.shape[3]))
    for j, pixels in enumerate(columns):
        copy_reached(z[:, j], image, lines, pixels)
    c, j, h = z.strides[:3]
    run = (len(lines) - (taps - 1) * step) * len(columns[0]) * image.shape[3]
    return np.ndarray((len(z), len(columns), taps, run), z.dtype, z, strides=(c, j, step * h, z.itemsize))


def copy_reached(target: Array, image: Array, rows: range, columns: range) -> None:
    """Write some pixels of an image (C, H, W, N) into ``target`` (C, rows, columns, N): 0 for those beyond it."""
    (top, bottom), (left, right) = _reached(rows, image.shape[1]), _reached(columns, image.shape[2])
    inner = target[:, top:bottom]
    for beyond in (target[:, :top], target[:, bottom:], inner[:, :, :left], inner[:, :, right:]):
        if beyond.size:
            beyond[...] = 0
    if inner.size and right > left:
        pixels = image[:, _slice(rows[top:bottom]), _slice(columns[left:right])]
        if columns.step > 1:
            copy_runs(inner[:, :, left:right], pixels)
        else:  # a row is one run
            inner[:, :, left:right] = pixels


def _reached(pixels: range, size: int) -> tuple[int, int]:
    """Which of ``pixels`` lie within an axis of that size: from the first to before the last of these numbers."""
    first = min(len(pixels), max(0, -(pixels.start // pixels.step)))
    return first, max(first, min(len(pixels), -((pixels.start - size) // pixels.step)))


def _slice(pixels: range) -> slice:
    """Pixels within an image as a slice."""
    return slice(pixels.start, pixels.stop, pixels.step)
