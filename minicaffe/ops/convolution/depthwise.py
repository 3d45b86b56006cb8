"""Convolution of each channel with its own filters: as many groups as channels, with m filters each.

Shapes: x (C, H, W, N), w (C·m, 1, kh, kw), y (C·m, OH, OW, N). With only kh·kw terms, the products are too thin to
be worth a data matrix. Here X is made along the width only, for a few rows of a few channels at a time:

    Z[c, j, h, (ow, n)] = padded x[c, h, ow·s + j·d, n]
    y[c, oh]   = Σ_i w[c, i] · Z[c, :, oh·s + i·d]        (m × kw) · (kw × rows·OW·N), a run of memory for each i
    dw[c, i]   = Σ Z[c, :, oh·s + i·d] · dy[c, oh]ᵀ       the same views
    dx         at stride 1: dy convolved with w turned by 180°; else kh·kw multiply-adds of dy to the pixels

With a stride, rows are grouped by h mod s, so that those under row i of the kernel are contiguous. Each part of Z
fits a core's cache; workers take parts in turns. On a GPU the products are kernels (``depthwise.cu``): one thread
for each element of y and of dx; for dw several threads for each weight, whose sums are then added up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.ops.convolution.dense import DenseConvolution, total_of, turn_filters
from minicaffe.ops.convolution.geometry import Geometry

BLOCK_BYTES = 3 << 17  # of Z, in a part, with one worker
SHARED_BLOCK_BYTES = 3 << 20  # with several, which would wait for the interpreter's lock after short calls
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
        shares = geometry.filters * geometry.columns >= workers.WORTH_SHARING
        self.workers = workers.worker_count if shares and device == CPU else 1
        block_bytes = SHARED_BLOCK_BYTES if self.workers > 1 else BLOCK_BYTES
        self.parts = self._cut(block_bytes) if device == CPU else []

    def _cut(self, block_bytes: int) -> list[Part]:
        """Whole images of several channels if they are small, some rows of one channel if they are large."""
        channels, rows, window = self.geometry.channels, self.geometry.output[0], self.geometry.window
        row_bytes = max(1, window.kernel[1] * self.row * self.dtype.itemsize)
        fitting = block_bytes // row_bytes  # rows of the input
        if fitting >= self._input_rows(rows):
            together = min(fitting // self._input_rows(rows), -(-channels // self.workers))
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

    def forward_padded(self, padded: Array, w: Array, out: Array, bias: Array | None = None) -> None:
        """As ``DenseConvolution.forward_padded``."""
        if not on_cpu(padded):
            given = w if bias is None else bias  # some array has to be passed
            KERNELS["depthwise_forward"](
                out.size, padded, w, given, out, int(bias is not None), *self._sizes(self.geometry.padded)
            )
            return
        w, y = self._filters(w), self._outputs(out)
        bias = None if bias is None else bias.reshape(self.geometry.group, self.multiplier, 1)

        def multiply(part: Part, meeting: list[Array], worker: int) -> None:
            target, factors = y[part.channels, :, self._run(part)], w[part.channels]
            for i, rows in enumerate(meeting):
                term = workers.scratch(padded, target.shape, slot=1) if i else target
                np.matmul(factors[:, :, i], rows, out=term)
                if i:
                    target += term
            if bias is not None:
                target += bias[part.channels]

        self._over_parts(padded, multiply)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``."""
        if not on_cpu(dy):
            self._weight_grad_on_device(dy, padded, out, bias_out)
            return
        dy = self._outputs(dy)
        shape = (dy.shape[0], *self.geometry.window.kernel, dy.shape[1])
        sums = [np.zeros(shape, dy.dtype) for _ in range(self.workers)]

        def add_up(part: Part, meeting: list[Array], worker: int) -> None:
            outputs = dy[part.channels, :, self._run(part)].swapaxes(1, 2)
            for i, rows in enumerate(meeting):
                sums[worker][part.channels, i] += np.matmul(rows, outputs)

        self._over_parts(padded, add_up)
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
            self._add_to_pixels(dy, w, out.reshape(self.geometry.shape))
        else:
            turned = turn_filters(w.reshape(self.geometry.weight_shape), self.geometry.group)
            self.turned.forward(dy, turned, out)

    @cached_property
    def turned(self) -> DepthwiseConvolution | None:
        """The convolution that takes dy to dx; None unless the stride is 1 and each channel has one filter."""
        turned = self.geometry.turned
        if turned is None or self.multiplier > 1 or self.device != CPU:
            return None
        return DepthwiseConvolution(turned, self.dtype, self.device)

    def _add_to_pixels(self, dy: Array, w: Array, out: Array) -> None:
        """dx by multiply-adds, one for each filter and kernel position; each worker has whole channels."""
        geometry, (ph, pw) = self.geometry, self.geometry.window.pad
        channels, height, width, batch = geometry.shape
        dx = np.zeros((channels, *geometry.padded, batch), dy.dtype)
        dy = dy.reshape(channels, self.multiplier, *geometry.output, batch)
        w = self._filters(w)[..., None, None, None]

        def add_own(own: slice, worker: int) -> None:
            for part in self.parts:
                both = slice(max(part.channels.start, own.start), min(part.channels.stop, own.stop))
                if both.start < both.stop:
                    self._add_part(dx[both], w[both], dy[both, :, part.rows], part.rows.start)

        workers.share(add_own, workers.cut(channels, self.workers), self.workers)
        out[...] = dx[:, ph : ph + height, pw : pw + width]

    def _add_part(self, dx: Array, w: Array, dy: Array, first_row: int) -> None:
        """Add the gradients of some rows of y, dy (n, m, R, OW, N) from ``first_row`` on, to the padded dx."""
        term, window = workers.scratch(dy, dy[:, 0].shape), self.geometry.window
        for k in range(self.multiplier):
            for i, j in window.positions():
                np.multiply(dy[:, k], w[:, k, i, j], out=term)
                rows = window.pixels(0, i, dy.shape[2], first_row)
                dx[:, rows, window.pixels(1, j, dy.shape[3])] += term

    def _outputs(self, y: Array) -> Array:
        """y as (C, m, OH·OW·N)."""
        return y.reshape(self.geometry.group, self.multiplier, self.geometry.columns)

    def _filters(self, w: Array) -> Array:
        """w as (C, m, kh, kw)."""
        return w.reshape(self.geometry.group, self.multiplier, *self.geometry.window.kernel)

    def _run(self, part: Part) -> slice:
        """The part's rows as a slice of OH·OW·N."""
        return slice(part.rows.start * self.row, part.rows.stop * self.row)

    def _over_parts(self, padded: Array, visit: Callable[[Part, list[Array], int], None]) -> None:
        """Call ``visit(part, [Z for each kernel row, (n, kw, rows·OW·N)], worker)`` for all parts."""

        workers.share_products(
            lambda part, worker: visit(part, self._meeting(padded, part), worker), self.parts, self.workers
        )

    def _meeting(self, padded: Array, part: Part) -> list[Array]:
        """For each kernel row, the view of Z that it is multiplied with."""
        geometry, window = self.geometry, self.geometry.window
        (kernel_h, kernel_w), stride, dilation = window.kernel, window.stride[0], window.dilation[0]
        rows = part.rows.stop - part.rows.start
        needed = self._input_rows(rows)
        first = part.rows.start * stride
        source = padded[part.channels, first : first + needed]
        z = workers.scratch(
            padded, (len(source), kernel_w, stride, -(-needed // stride), geometry.output[1], geometry.batch)
        )
        for j in range(kernel_w):
            columns = source[:, :, window.pixels(1, j, geometry.output[1])]
            for phase in {i * dilation % stride for i in range(kernel_h)}:
                met = columns[:, phase::stride]
                z[:, j, phase, : met.shape[1]] = met
        views = []
        for i in range(kernel_h):
            start, phase = divmod(i * dilation, stride)
            views.append(z[:, :, phase, start : start + rows].reshape(len(source), kernel_w, -1))
        return views
