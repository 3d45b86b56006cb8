"""Convolution of each channel with filters of its own: as many groups as channels, and m filters in each.

Shapes as in ``im2col.py``: x (C, H, W, N), w (C·m, 1, kh, kw), y (C·m, OH, OW, N). Products that are kh·kw deep are
too thin to be worth a data matrix. Here X is made along the width alone, a few rows of a few channels at a time:

    Z[c, j, h, (ow, n)] = padded x[c, h, ow·s + j·d, n]
    y[c, oh]   = Σ_i w[c, i] · Z[c, :, oh·s + i·d]        (m × kw) · (kw × rows·OW·N), a run of memory for each i
    dw[c, i]   = Σ Z[c, :, oh·s + i·d] · dy[c, oh]ᵀ       the same views
    dx         at stride 1: dy convolved with w turned by 180°; else kh·kw multiply-adds of dy to the pixels

With a stride the rows h are kept apart by h mod s, so that those which meet row i of the kernel lie together. What
is made at a time stays in a core's cache; workers take alternate parts. On a GPU the products are kernels: a thread
for each number of y and of dx, and for dw some threads for each weight, whose sums are added up afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, module_of, on_cpu
from minicaffe.device.kernel import Kernel
from minicaffe.ops.convolution.dense import Convolution2d, total_of, turn_filters
from minicaffe.ops.convolution.im2col import Window

BLOCK_BYTES = 3 << 17  # of Z, for one worker
SHARED_BLOCK_BYTES = 3 << 20  # for several, which wait for the interpreter's lock after short calls
WEIGHT_THREADS = 256  # on a GPU, at the most so many threads share a weight's gradient

FORWARD = Kernel("depthwise_forward", """
KERNEL depthwise_forward(Index count, const T* x, const T* w, const T* bias, T* y, Index has_bias, Index multiplier,
                         Index height, Index width, Index rows, Index cols, Index batch,
                         Index kernel_h, Index kernel_w, Index stride_h, Index stride_w,
                         Index dilation_h, Index dilation_w)
{
    EACH(i) {  // (filter, r, q, n): one thread for each number of y; x has its border
        Index n = i % batch, rest = i / batch;
        Index q = rest % cols;
        rest /= cols;
        Index r = rest % rows, filter = rest / rows, c = filter / multiplier;
        T sum = has_bias ? bias[filter] : 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index line = (c * height + r * stride_h + ki * dilation_h) * width + q * stride_w;
            for (Index kj = 0; kj < kernel_w; kj++)
                sum += w[(filter * kernel_h + ki) * kernel_w + kj] * x[(line + kj * dilation_w) * batch + n];
        }
        y[i] = sum;
    }
}
""")  # fmt: skip

WEIGHT_GRAD = Kernel("depthwise_weight_grad", """
KERNEL depthwise_weight_grad(Index count, const T* x, const T* dy, T* sums, Index threads, Index multiplier,
                             Index height, Index width, Index rows, Index cols, Index batch,
                             Index kernel_h, Index kernel_w, Index stride_h, Index stride_w,
                             Index dilation_h, Index dilation_w)
{
    EACH(i) {  // (filter, ki, kj, thread): each thread of a weight adds up every threads-th column
        Index rest = i / threads, columns = rows * cols * batch;
        Index kj = rest % kernel_w;
        rest /= kernel_w;
        Index ki = rest % kernel_h, filter = rest / kernel_h, c = filter / multiplier;
        T sum = 0;
        for (Index column = i % threads; column < columns; column += threads) {
            Index n = column % batch, place = column / batch;
            Index h = place / cols * stride_h + ki * dilation_h, v = place % cols * stride_w + kj * dilation_w;
            sum += x[((c * height + h) * width + v) * batch + n] * dy[filter * columns + column];
        }
        sums[i] = sum;
    }
}
""")  # fmt: skip

INPUT_GRAD = Kernel("depthwise_input_grad", """
KERNEL depthwise_input_grad(Index count, const T* dy, const T* w, T* dx, Index multiplier,
                            Index height, Index width, Index rows, Index cols, Index batch,
                            Index kernel_h, Index kernel_w, Index stride_h, Index stride_w,
                            Index dilation_h, Index dilation_w, Index pad_h, Index pad_w)
{
    EACH(i) {  // (c, h, v, n): one thread for each pixel, which gathers what it has added to
        Index n = i % batch, rest = i / batch;
        Index v = rest % width;
        rest /= width;
        Index h = rest % height, c = rest / height;
        T sum = 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index above = h + pad_h - ki * dilation_h, r = above / stride_h;
            if (above < 0 || r * stride_h != above || r >= rows) continue;
            for (Index kj = 0; kj < kernel_w; kj++) {
                Index left = v + pad_w - kj * dilation_w, q = left / stride_w;
                if (left < 0 || q * stride_w != left || q >= cols) continue;
                for (Index filter = c * multiplier; filter < (c + 1) * multiplier; filter++)
                    sum += w[(filter * kernel_h + ki) * kernel_w + kj]
                         * dy[((filter * rows + r) * cols + q) * batch + n];
            }
        }
        dx[i] = sum;
    }
}
""")  # fmt: skip


@dataclass(frozen=True)
class Share:
    """Some channels, and some rows of their outputs."""

    channels: slice
    rows: slice


def grouped_convolution(
    shape: tuple[int, ...], filters: int, window: Window, group: int, dtype: np.dtype, device: Device = CPU
) -> Convolution2d:
    """The quicker of the two for these settings; arguments as for ``Convolution2d``.

    Depthwise kernels that take several steps at a time have few pixels in common: then a data matrix is quicker,
    on a CPU.
    """
    suits = device != CPU or (window.kernel != (1, 1) and max(window.stride) <= 2)
    is_depthwise = suits and group == shape[0] > 1
    kind = DepthwiseConvolution2d if is_depthwise else Convolution2d
    return kind(shape, filters, window, group, dtype, device)


class DepthwiseConvolution2d(Convolution2d):
    """A Convolution2d with a group for each channel, whose products need no data matrix.

    ``shape`` is the input's (C, H, W, N), ``group`` is C. Raises ValueError where no window fits.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        filters: int,
        window: Window,
        group: int,
        dtype: np.dtype,
        device: Device = CPU,
    ) -> None:
        super().__init__(shape, filters, window, group, dtype, device)
        self.multiplier = filters // group
        self.row = self.output[1] * self.batch  # numbers in a row of an output
        shares = self.filters * self.columns >= workers.WORTH_SHARING
        self.workers = workers.worker_count if shares and device == CPU else 1
        self.parts = (
            self._cut(SHARED_BLOCK_BYTES if self.workers > 1 else BLOCK_BYTES) if device == CPU else []
        )

    def _cut(self, block_bytes: int) -> list[Share]:
        """Whole images of several channels where they are small, rows of one channel where they are large."""
        channels, rows = self.shape[0], self.output[0]
        row_bytes = max(1, self.window.kernel[1] * self.row * self.dtype.itemsize)
        fitting = block_bytes // row_bytes  # rows of the input
        if fitting >= self._input_rows(rows):
            together = min(fitting // self._input_rows(rows), -(-channels // self.workers))
            step = rows
        else:
            together = 1
            step = max(1, (fitting - self.window.extent[0]) // self.window.stride[0] + 1)
        return [
            Share(slice(c, min(c + together, channels)), slice(r, min(r + step, rows)))
            for c in range(0, channels, together)
            for r in range(0, rows, step)
        ]

    def _input_rows(self, rows: int) -> int:
        """How many rows of the padded input so many rows of the output meet."""
        return (rows - 1) * self.window.stride[0] + self.window.extent[0]

    def forward_padded(self, padded: Array, w: Array, out: Array, bias: Array | None = None) -> None:
        """As ``Convolution2d.forward_padded``."""
        if not on_cpu(padded):
            given = w if bias is None else bias  # some array has to be passed
            FORWARD(out.size, padded, w, given, out, int(bias is not None), *self._sizes(self._padded_size()))
            return
        w, y = self._filters(w), self._outputs(out)
        bias = None if bias is None else bias.reshape(self.group, self.multiplier, 1)

        def one(part: Share, meeting: list[Array], worker: int) -> None:
            target, factors = y[part.channels, :, self._run(part)], w[part.channels]
            for i, rows in enumerate(meeting):
                term = workers.scratch(padded, target.shape, slot=1) if i else target
                np.matmul(factors[:, :, i], rows, out=term)
                if i:
                    target += term
            if bias is not None:
                target += bias[part.channels]

        self._over_parts(padded, one)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``Convolution2d.weight_grad``."""
        if not on_cpu(dy):
            self._weight_grad_on_device(dy, padded, out, bias_out)
            return
        dy = self._outputs(dy)
        shape = (self.group, *self.window.kernel, dy.shape[1])
        sums = [np.zeros(shape, dy.dtype) for _ in range(self.workers)]

        def one(part: Share, meeting: list[Array], worker: int) -> None:
            outputs = dy[part.channels, :, self._run(part)].swapaxes(1, 2)
            for i, rows in enumerate(meeting):
                sums[worker][part.channels, i] += np.matmul(rows, outputs)

        self._over_parts(padded, one)
        total = np.moveaxis(total_of(sums), 3, 1)  # (C, m, kh, kw)
        out.reshape(total.shape)[...] = total
        if bias_out is not None:
            dy.sum(axis=2, out=bias_out.reshape(dy.shape[:2]))

    def _weight_grad_on_device(self, dy: Array, padded: Array, out: Array, bias_out: Array | None) -> None:
        threads = max(1, min(WEIGHT_THREADS, self.columns))
        sums = module_of(dy).empty((out.size, threads), dy.dtype)
        WEIGHT_GRAD(sums.size, padded, dy, sums, threads, *self._sizes(self._padded_size()))
        sums.sum(axis=1, out=out.reshape(-1))
        if bias_out is not None:
            dy.reshape(self.filters, self.columns).sum(axis=1, out=bias_out)

    def _sizes(self, pixels: tuple[int, ...]) -> list[int]:
        """What the kernels are told of the shapes; ``pixels`` is the size of their image."""
        window = self.window
        return [
            self.multiplier, *pixels, *self.output, self.batch, *window.kernel, *window.stride, *window.dilation
        ]  # fmt: skip

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """As ``Convolution2d.input_grad``."""
        if not on_cpu(dy):
            INPUT_GRAD(out.size, dy, w, out, *self._sizes(self.shape[1:3]), *self.window.pad)
        elif self.turned is None:
            self._add_to_pixels(dy, w, out.reshape(self.shape))
        else:
            dy = dy.reshape(self.turned.shape)
            self.turned.forward(
                dy, turn_filters(w.reshape(self.filters, 1, *self.window.kernel), self.group), out
            )

    @cached_property
    def turned(self) -> Convolution2d | None:
        """The convolution that takes dy to dx, where stride 1 and one filter for each channel allow one."""
        pad = tuple(e - 1 - p for e, p in zip(self.window.extent, self.window.pad, strict=True))
        if self.window.stride != (1, 1) or min(pad) < 0 or self.filters != self.group or self.device != CPU:
            return None
        window = Window(self.window.kernel, (1, 1), pad, self.window.dilation)
        shape = (self.filters, *self.output, self.batch)
        return DepthwiseConvolution2d(shape, self.shape[0], window, self.group, self.dtype, self.device)

    def _add_to_pixels(self, dy: Array, w: Array, out: Array) -> None:
        """dx by multiply-adds, for each filter and each position in the kernel; a worker has whole channels."""
        (ph, pw), (_, height, width, batch) = self.window.pad, self.shape
        dx = np.zeros((self.shape[0], *self._padded_size(), batch), dy.dtype)
        dy = dy.reshape(self.group, self.multiplier, *self.output, batch)
        w = self._filters(w)[..., None, None, None]

        def task(worker: int) -> None:
            own = slice(self.group * worker // self.workers, self.group * (worker + 1) // self.workers)
            for part in self.parts:
                channels = slice(max(part.channels.start, own.start), min(part.channels.stop, own.stop))
                if channels.start < channels.stop:
                    self._add_part(dx[channels], w[channels], dy[channels, :, part.rows], part.rows.start)

        workers.run(task, self.workers)
        out[...] = dx[:, ph : ph + height, pw : pw + width]

    def _add_part(self, dx: Array, w: Array, dy: Array, first_row: int) -> None:
        """Add what rows of dy (n, m, R, OW, N), from ``first_row`` on, give to the padded dx (n, H, W, N)."""
        term = workers.scratch(dy, dy[:, 0].shape)
        for k, i, j in np.ndindex(dy.shape[1], *self.window.kernel):
            np.multiply(dy[:, k], w[:, k, i, j], out=term)
            rows = self._met(0, i, dy.shape[2], first_row)
            dx[:, rows, self._met(1, j, self.output[1])] += term

    def _met(self, axis: int, place: int, outputs: int, first: int = 0) -> slice:
        """The padded input's rows (or columns) that a place in the kernel meets, from output ``first`` on."""
        stride = self.window.stride[axis]
        start = first * stride + place * self.window.dilation[axis]
        return slice(start, start + (outputs - 1) * stride + 1, stride)

    def _outputs(self, y: Array) -> Array:
        """y as (C, m, OH·OW·N)."""
        return y.reshape(self.group, self.multiplier, self.columns)

    def _filters(self, w: Array) -> Array:
        """w as (C, m, kh, kw)."""
        return w.reshape(self.group, self.multiplier, *self.window.kernel)

    def _run(self, part: Share) -> slice:
        """The part's rows as places in OH·OW·N."""
        return slice(part.rows.start * self.row, part.rows.stop * self.row)

    def _over_parts(self, padded: Array, one: Callable[[Share, list[Array], int], None]) -> None:
        """Call ``one(part, [Z as row i of the kernel meets it, (n, kw, rows·OW·N)], worker)``, on the workers."""

        def task(worker: int) -> None:
            for part in self.parts[worker :: self.workers]:
                one(part, self._meeting(padded, part), worker)

        with workers.one_blas_thread():
            workers.run(task, self.workers)

    def _meeting(self, padded: Array, part: Share) -> list[Array]:
        """For each row of the kernel, the view of Z that it is multiplied with."""
        (kernel_h, kernel_w), stride, dilation = (
            self.window.kernel,
            self.window.stride[0],
            self.window.dilation[0],
        )
        rows = part.rows.stop - part.rows.start
        needed = self._input_rows(rows)
        first = part.rows.start * stride
        source = padded[part.channels, first : first + needed]
        z = workers.scratch(
            padded, (len(source), kernel_w, stride, -(-needed // stride), self.output[1], self.batch)
        )
        for j in range(kernel_w):
            columns = source[:, :, self._met(1, j, self.output[1])]
            for phase in {i * dilation % stride for i in range(kernel_h)}:
                met = columns[:, phase::stride]
                z[:, j, phase, : met.shape[1]] = met
        views = []
        for i in range(kernel_h):
            start, phase = divmod(i * dilation, stride)
            views.append(z[:, :, phase, start : start + rows].reshape(len(source), kernel_w, -1))
        return views
