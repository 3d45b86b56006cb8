"""``engine: CAFFE``: the direct sum in an order that stays the same, where ``DEFAULT`` takes whichever is fastest.

A result is the same to the last bit for the same shapes, type of number, number of workers and NumPy with its BLAS.
Other kinds of convolution are cut in another way once another way is found to be faster; here the rules are fixed.

Blocks of columns of X: all of them, if there are up to 1,024 or the kernel is 1 × 1; else as many as 1.5 MB hold,
or a worker's share if that is less. Workers take blocks in turns, each in pieces; of one block they share the
product.

    y            one product for each piece: w · X[:, piece], then + b
    dw, db       pieces are added up to blocks, blocks to what each worker has, and that from the first worker on
    dx           as y with the turned filters, or as ``DenseConvolution`` has it

    depthwise y  Σ_i w[:, i] · Z[:, i]: one product for each row i of the kernel, added from the first on
    depthwise dx as y with the turned filters; else, filter by filter, a product for each kernel position

``tests/ops/test_ops_in_order.py`` has these rules once more, plainly, and compares all bits.
"""

from __future__ import annotations

from functools import cached_property
from itertools import groupby, product

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, on_cpu
from minicaffe.ops import gemm
from minicaffe.ops.convolution.blocks import Block
from minicaffe.ops.convolution.dense import BLOCK_BYTES, SMALL_COLUMNS, DenseConvolution, windows
from minicaffe.ops.convolution.depthwise import DepthwiseConvolution, Part
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.ops.convolution.vertical import VerticalConvolution
from minicaffe.ops.epilogue import WHOLE, Epilogue

Z_BYTES, SHARED_Z_BYTES = 3 << 17, 3 << 20  # of a part of Z, for one worker and for several


class InOrderConvolution(DenseConvolution):
    """A DenseConvolution whose blocks follow from the number of columns alone."""

    shared_product = staticmethod(gemm.calls_in_order)

    @cached_property
    def _divides_channels(self) -> bool:
        return False

    @cached_property
    def forward_parts(self) -> list[tuple[Block, slice]]:
        return [(block, WHOLE) for block in self.blocks]

    def _longest_block(self) -> int:
        if self.device != CPU:
            return super()._longest_block()
        geometry = self.geometry
        if geometry.columns <= SMALL_COLUMNS or geometry.is_pointwise:
            return max(1, geometry.columns)
        column_bytes = geometry.depth * geometry.group * self.dtype.itemsize
        return max(1, min(BLOCK_BYTES // column_bytes, -(-geometry.columns // workers.worker_count)))

    def _weight_grad_of_one_block(self, dy: Array, padded: Array, out: Array, bias_out: Array | None) -> None:
        of_block = self._weight_grad_of_blocks if self.device == CPU else super()._weight_grad_of_one_block
        of_block(dy, padded, out, bias_out)

    def direct(self, geometry: Geometry) -> DenseConvolution:
        """As ``DenseConvolution.direct``, in order too."""
        return InOrderConvolution(geometry, self.dtype, self.device)


class InOrderVertical(InOrderConvolution, VerticalConvolution):
    """A VerticalConvolution whose gradients are in order; its forward without a data matrix always is."""

    _needs_a_data_matrix = False


class InOrderDepthwise(InOrderConvolution, DepthwiseConvolution):
    """A DepthwiseConvolution by products of matrices: for each row of the kernel one, of all its columns."""

    def __init__(self, geometry: Geometry, dtype: DTypeLike, device: Device = CPU) -> None:
        super().__init__(geometry, dtype, device)
        if len(self.taps) > 1:
            self.taps = [range(i, i + 1) for i in range(geometry.window.kernel[0])]

    def _is_worth_sharing(self) -> bool:
        return self.geometry.filters * self.geometry.columns >= workers.WORTH_SHARING

    def _block_bytes(self) -> int:
        return SHARED_Z_BYTES if self.workers > 1 else Z_BYTES

    def _together(self, fitting: int) -> int:
        return min(fitting, -(-self.geometry.channels // self.workers))

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``DepthwiseConvolution.forward_padded``."""
        if not on_cpu(padded):
            super().forward_padded(padded, w, out, bias, epilogue)
            return
        w, y = self._filters(w), self._outputs(out)
        bias = None if bias is None else bias.reshape(*w.shape[:2], 1)

        def multiply(part: Part, worker: int) -> None:
            target, factors = y[part.channels, :, self._run(part)], w[part.channels]
            for taps in self.taps:
                pixels = self._meeting(padded, part, taps)
                for number, i in enumerate(taps):
                    term = workers.scratch(padded, target.shape, slot=1) if i else target
                    np.matmul(factors[:, :, i], pixels[:, :, number], out=term)
                    if i:
                        target += term
            if bias is not None:
                target += bias[part.channels]

        workers.share_products(multiply, self.parts, self.workers)
        if epilogue is not None:
            epilogue.over(out)

    def _gather(self, dy: Array, w: Array, out: Array) -> None:
        """dx: each kernel position's products are added to the pixels under it; for some rows of dy at a time."""
        geometry, w = self.geometry, self._filters(w)
        dx = np.zeros((geometry.channels, *geometry.padded, geometry.batch), dy.dtype)
        pixels, dy = windows(dx, geometry), dy.reshape(*w.shape[:2], *geometry.output_shape[1:])

        def add(parts: list[Part], worker: int) -> None:
            for own, rows in ((part.channels, part.rows) for part in parts):
                term = workers.scratch(dy, dy[own, 0, rows].shape)
                for k, (i, j) in product(range(self.multiplier), geometry.window.positions()):
                    np.multiply(dy[own, k, rows], w[own, k, i, j, None, None, None], out=term)
                    pixels[own, i, j, rows] += term

        together = [[*parts] for _, parts in groupby(self.parts, lambda part: part.channels.start)]
        workers.share(add, together, self.workers)
        out[...] = dx[(slice(None), *geometry.window.inside(geometry.image))]


def vertical_like(dense: DenseConvolution, geometry: Geometry) -> VerticalConvolution:
    """The convolution with kh × 1 windows that is as fast, or as much in order, as ``dense``."""
    kind = InOrderVertical if isinstance(dense, InOrderConvolution) else VerticalConvolution
    return kind(geometry, dense.dtype, dense.device)
