"""Convolution along the height only, with kh × 1 windows: no data matrix at all.

    U[i] = w[:, :, i] · x          one GEMM over whole rows of pixels, for all i at once: (kh·M × C) · (C × rows)
    y[:, oh] = Σ_i U[i][:, oh − p + i·d]

The rows of x, as they are in memory, are columns of the product: nothing is copied, and each is read once. Shapes
are those of ``geometry.py``, with kw = 1; a row y[:, oh] has W·N elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.workers import Calls
from minicaffe.ops.convolution.dense import DenseConvolution, copy
from minicaffe.ops.epilogue import Epilogue

PRODUCT_BYTES = 1 << 20  # of U, at a time: it stays in a core's cache until it has been added up
FEW_IMAGES, MANY_FILTERS = 8, 64  # a data matrix is faster for at most so many images and more filters
SHARED_PRODUCT = 1 << 19  # elements of U, for the whole image: with fewer, one worker is faster


class VerticalConvolution(DenseConvolution):
    """A DenseConvolution of kh × 1 windows whose forward, at stride 1, needs no data matrix.

    On a GPU it does make one, of kh times the input: that is one launch, instead of many.
    """

    @cached_property
    def _needs_a_data_matrix(self) -> bool:
        """Whether that is faster: of few images U is larger than the data matrix, and does not fit a cache."""
        geometry = self.geometry
        return geometry.batch <= FEW_IMAGES and geometry.filters // geometry.group > MANY_FILTERS

    def prepare(
        self, x: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> tuple[Array, Calls]:
        """x, for ``weight_grad``, and the calls that write y (M, OH, OW, N) into ``out``, of contiguous rows."""
        x = x.reshape(self.geometry.shape)
        if not x.size:
            return x, []
        window = self.geometry.window
        if window.stride != (1, 1) or window.pad[1] or not on_cpu(x) or self._needs_a_data_matrix:
            y = module_of(x).empty(self.geometry.output_shape, x.dtype)
            _, calls = super().prepare(x, w, y, bias, epilogue)
            return x, [*calls, partial(copy, out, y)]
        return x, [partial(self._by_rows, x, w, out, bias, epilogue)]

    def _by_rows(self, x: Array, w: Array, out: Array, bias: Array | None, epilogue: Epilogue | None) -> None:
        geometry = self.geometry
        _, height, width, batch = geometry.shape
        # a view, as the rows are contiguous
        y = out.reshape(geometry.group, -1, geometry.output[0], width * batch)
        self._rows(x.reshape(geometry.group, -1, height, width * batch), self._stacked(w), y)
        if bias is not None:
            out += bias[:, None, None, None]
        if epilogue is not None:
            epilogue.apply(out)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``; ``padded`` is the input itself."""
        super().weight_grad(dy, self.pad(padded), out, bias_out)

    def _stacked(self, w: Array) -> Array:
        """w (M, C/g, kh, 1) as (g, kh·M/g, C/g), with the kernel's rows below each other."""
        group = self.geometry.group
        by_row = w.reshape(group, -1, *w.shape[1:3]).transpose(0, 3, 1, 2)
        stacked: Array = module_of(w).ascontiguousarray(by_row).reshape(group, -1, w.shape[1])
        return stacked

    def _rows(self, x: Array, stacked: Array, y: Array) -> None:
        """Write y (g, M/g, OH, W·N) of x (g, C/g, H, W·N); each worker has some of the W·N columns."""
        xp, length = module_of(x), x.shape[3]
        work = stacked.shape[0] * stacked.shape[1] * x.shape[2] * length
        parts = workers.worker_count if work > SHARED_PRODUCT and length >= workers.worker_count else 1
        for oh in self._unreached():
            y[:, :, oh] = 0

        def multiply(own: slice, worker: int) -> None:
            for rows, columns in self._blocks(own, stacked.shape[1]):
                pixels = x[:, :, rows, columns]
                product = workers.scratch(x, (*stacked.shape[:2], pixels.shape[2] * pixels.shape[3]))
                xp.matmul(stacked, pixels.reshape(*pixels.shape[:2], -1), out=product)
                self._add_up(product, rows, y[..., columns])

        workers.share_products(multiply, workers.cut(length, parts), parts)

    def _blocks(self, columns: slice, depth: int) -> Iterator[tuple[slice, slice]]:
        """Cut a worker's pixels: several rows if they are short, parts of one row if they are long."""
        _, height, width, batch = self.geometry.shape
        count = columns.stop - columns.start
        limit = max(1, PRODUCT_BYTES // (self.geometry.group * depth * self.dtype.itemsize))
        whole_rows = max(1, limit // max(1, count)) if count == width * batch else 1
        pieces = -(-count // limit) if whole_rows == 1 else 1
        for piece in workers.cut(count, pieces):
            part = slice(columns.start + piece.start, columns.start + piece.stop)
            for h in range(0, height, whole_rows):
                yield slice(h, min(h + whole_rows, height)), part

    def _add_up(self, product: Array, rows: slice, y: Array) -> None:
        """Add U (g, kh·M/g, rows·columns) of some rows of x to the rows of y that they contribute to.

        x is read from the top, so the first contribution to a row of y comes from its first kernel row: that one
        is written, the others are added.
        """
        geometry, window = self.geometry, self.geometry.window
        kernel, pad, dilation = window.kernel[0], window.pad[0], window.dilation[0]
        product = product.reshape(geometry.group, kernel, -1, rows.stop - rows.start, y.shape[3])
        for i in range(kernel):
            shift = pad - i * dilation
            low, high = max(0, rows.start + shift), min(geometry.output[0], rows.stop + shift)
            fresh = high if i == 0 else min(high, max(low, shift + dilation))
            source = product[:, i, :, low - shift - rows.start :]
            if fresh > low:
                y[:, :, low:fresh] = source[:, :, : fresh - low]
            if high > fresh:
                y[:, :, fresh:high] += source[:, :, fresh - low : high - low]

    def _unreached(self) -> list[int]:
        """The rows of y whose windows see only padding."""
        geometry, window = self.geometry, self.geometry.window
        kernel, pad, dilation = window.kernel[0], window.pad[0], window.dilation[0]
        seen = {h + pad - i * dilation for h in range(geometry.shape[1]) for i in range(kernel)}
        return [oh for oh in range(geometry.output[0]) if oh not in seen]
