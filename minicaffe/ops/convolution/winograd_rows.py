"""Winograd's convolution along each row, F(4, 5): 8 products in place of 20, for windows that are 5 wide.

``winograd.py`` has the formula for windows of 3 × 3. Along both axes of 5 × 5 a tile would have 64 numbers, and its
transforms more terms than the sum over the channels of most layers. Along one axis they are small:

    D (8, H', C, q)                    the tiles: 8 pixels of a row of the padded image, one every 4 pixels
    V = Bᵀ · D                         one product (8 × 8) · (8 × H'·C·q)
    Z[k, h] = U[k] · V[k, h : h + kh]  8 products for each output row h; U = G · w, (8, M, kh·C)
    Y = Aᵀ · Z (+ b)                   one product (4 × 8) · (8 × OH·M·q)

    dw = Gᵀ · S,   S[k] = Σ over h of V[k, h : h + kh] · E[k, h]ᵀ,   E = A · dY
    dx                                 as forward, with the filters turned by 180°

q is the number of tiles in a row times the number of images. V[k, h : h + kh] is one matrix (kh·C × q): there is no
data matrix to copy. With g groups all this is done for each group.

The points are 0, ±1/2, ±1, ±2 and ∞; errors are a few times those of the direct sum (docs/speed.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device
from minicaffe.device.workers import Calls
from minicaffe.ops.convolution.blocks import Block, cut_columns, sizes_of, with_ends
from minicaffe.ops.convolution.dense import DenseConvolution, add_columns_up, total_of
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.winograd import OUTPUTS, Costs, TransformedFilters, is_cheaper, matrices
from minicaffe.ops.epilogue import Epilogue, split
from minicaffe.ops.runs import copy_runs

TAPS, TILE = 5, 8  # of a row of the window, and pixels of a tile
POINTS = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)  # and ∞
BLOCK_BYTES = 32 << 20  # of V, in a block
PART_BYTES = 1 << 20  # of D, or of Z, in a part of a step: it fits a core's cache
GROWTH = 2  # dx convolves with the turned filters, unless the image is so many times larger than the output

# Fitted by benchmarks/engines.py; ``start`` is for each of the products
FORWARD = Costs(0.029, 0.30, 0.028, 1.8, 0.84, 8.3, 3.5e3)
WEIGHT_GRAD = Costs(0.032, 0.24, 0.030, 0.97, 1.1, 15, 3.8e3)


class Part(NamedTuple):
    """Some rows of one group."""

    group: int
    rows: slice


def can_convolve(window: Window) -> bool:
    """Whether there is a convolution by rows with this window."""
    return len(window.kernel) == 2 and window.kernel[1] == TAPS and {*window.stride, *window.dilation} == {1}


def counts(geometry: Geometry) -> Costs:
    """How many there are of what each of the ``Costs`` is for."""
    (rows, width), (height, _) = geometry.output, geometry.padded
    columns = TILE * -(-width // OUTPUTS) * geometry.batch
    terms = geometry.depth // TAPS
    return Costs(
        multiply_add=geometry.multiply_adds * geometry.batch,
        x=geometry.depth * geometry.group * geometry.columns,
        product=terms * geometry.filters * rows * columns,
        v=geometry.channels * height * columns,
        z=geometry.filters * rows * columns,
        u=TILE * terms * geometry.filters,
        start=TILE * rows * geometry.group,
    )


def is_faster(geometry: Geometry, costs: Costs = FORWARD) -> bool:
    """Whether a product takes less time on a CPU than that of a DenseConvolution: forward, and so dx."""
    return can_convolve(geometry.window) and is_cheaper(costs, counts(geometry))


def is_weight_grad_faster(geometry: Geometry) -> bool:
    """The same for dw."""
    return is_faster(geometry, WEIGHT_GRAD)


class RowWinogradConvolution(DenseConvolution):
    """A DenseConvolution of windows 5 wide, stride 1 and dilation 1, with 2/5 of the products."""

    def __init__(self, geometry: Geometry, dtype: DTypeLike, device: Device = CPU) -> None:
        super().__init__(geometry, dtype, device)
        self.terms = geometry.depth // TAPS  # kh·C/g
        self.tiles = -(-geometry.output[1] // OUTPUTS)
        self.padded_size = geometry.padded[0], OUTPUTS * self.tiles + TAPS - 1
        column = TILE * self.padded_size[0] * geometry.channels * self.dtype.itemsize
        limit = max(1, BLOCK_BYTES // column)
        grid = 1, self.tiles
        self.tile_blocks = [with_ends(block, grid) for block in cut_columns(grid, geometry.batch, limit)]
        self._at, self._g, self._bt = (np.ascontiguousarray(m, dtype) for m in matrices(POINTS, TAPS))
        shape = (geometry.group, geometry.filters // geometry.group, self.terms)
        self._filters = TransformedFilters((TILE, *shape), self._transform_filters)

    def prepare_pad(self, x: Array) -> tuple[Array, Calls]:
        """As ``DenseConvolution.prepare_pad``, with zeros on the right up to whole tiles."""
        x = x.reshape(self.geometry.shape)
        return (x, []) if x.shape[1:3] == self.padded_size else self.prepare_border(x)

    def room_for_padded(self, like: Array) -> tuple[Array, Array]:
        """As ``DenseConvolution.room_for_padded``, for an image of ``padded_size``."""
        channels, *image, batch = self.geometry.shape
        size = channels, *self.padded_size, batch
        return self._room(like, size, self.geometry.window.inside(tuple(image)))

    def prepare_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Calls:
        """As ``DenseConvolution.prepare_padded``."""
        return [partial(self.forward_padded, padded, w, out, bias, epilogue)]

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``DenseConvolution.forward_padded``: Y = Aᵀ · Z + b, Z[k, h] = U[k] · V[k, h : h + kh]."""
        y, u = self._outputs(out), self._filters.of(w)
        in_blocks, afterwards = split(epilogue, out)
        for block in self.tile_blocks:
            self._forward_block(block, self._row_windows(padded, block), u, y, bias, in_blocks)
        if afterwards is not None:
            afterwards.over(out.reshape(len(out), -1))

    def _forward_block(
        self, block: Block, v: Array, u: Array, y: Array, bias: Array | None, epilogue: Epilogue | None
    ) -> None:
        filters = u.shape[2]

        def multiply(part: Part, worker: int) -> None:
            group, rows = part
            channels = slice(group * filters, (group + 1) * filters)
            shape = (rows.stop - rows.start, filters, v.shape[-1])
            z = workers.scratch(v, (TILE, *shape), slot=2)
            np.matmul(u[:, group, None], v[:, group, rows], out=z)
            tiles = workers.scratch(v, (OUTPUTS, *shape), slot=1)
            np.matmul(self._at, z.reshape(TILE, -1), out=tiles.reshape(OUTPUTS, -1))
            if bias is not None:
                tiles += bias[channels, None]
            if epilogue is not None:
                epilogue.apply(np.moveaxis(tiles, 2, 0), channels)
            for piece, pixels in _pieces(tiles, y[group, :, rows], block):
                copy_runs(pixels, piece)

        self._share(multiply, self.geometry.output[0], TILE * filters * v.shape[-1])

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``, in the faster way."""
        if is_weight_grad_faster(self.geometry):
            self.weight_grad_by_tiles(dy, padded, out)
            if bias_out is not None:
                add_columns_up(dy, bias_out)
        else:
            super().weight_grad(dy, padded, out, bias_out)

    def weight_grad_by_tiles(self, dy: Array, padded: Array, out: Array) -> None:
        """Write dw = Gᵀ · S into ``out``: S[k] = Σ over h of V[k, h : h + kh] · E[k, h]ᵀ, E = A · dY."""
        dy, group = self._outputs(dy), self.geometry.group
        filters, channels = dy.shape[1], self.geometry.channels
        shape = (workers.worker_count, TILE, group, self.terms, filters)
        sums = workers.scratch(dy, shape, slot=5)  # S of each worker
        sums.fill(0)
        for block in self.tile_blocks:
            self._add_block(block, self._row_windows(padded, block), dy, sums)
        s = total_of(list(sums))
        dw = workers.scratch(s, (TAPS, s[0].size))
        np.matmul(self._g.T, s.reshape(TILE, -1), out=dw)
        dw = dw.reshape(TAPS, group, self.geometry.window.kernel[0], channels // group, filters)
        dw = dw.transpose(1, 4, 3, 2, 0)
        out.reshape(dw.shape)[...] = dw

    def _add_block(self, block: Block, v: Array, dy: Array, sums: Array) -> None:
        def add_up(part: Part, worker: int) -> None:
            group, rows = part
            shape = (rows.stop - rows.start, dy.shape[1], v.shape[-1])
            tiles = workers.scratch(v, (OUTPUTS, *shape))
            if OUTPUTS * self.tiles > self.geometry.output[1]:
                tiles.fill(0)  # beyond the image
            for piece, pixels in _pieces(tiles, dy[group, :, rows], block):
                copy_runs(piece, pixels)
            e = workers.scratch(v, (TILE, *shape), slot=1)
            np.matmul(self._at.T, tiles.reshape(OUTPUTS, -1), out=e.reshape(TILE, -1))
            term = workers.scratch(v, sums[worker, :, group].shape)
            for row in range(len(e[0])):
                np.matmul(v[:, group, rows.start + row], e[:, row].swapaxes(1, 2), out=term)
                sums[worker, :, group] += term

        self._share(add_up, self.geometry.output[0], TILE * dy.shape[1] * v.shape[-1])

    @cached_property
    def turned(self) -> DenseConvolution | None:
        """The convolution that takes dy to dx, in the faster way; None if there is none, or if it is slower."""
        geometry, turned = self.geometry, self.geometry.turned
        grows = math.prod(geometry.image) > GROWTH * math.prod(geometry.output)
        if turned is not None and not grows and is_faster(turned):
            return RowWinogradConvolution(turned, self.dtype, self.device).in_shared_room()
        return super().turned

    def _transform_filters(self, w: Array, u: Array) -> None:
        """U = G · w, (T, g, M/g, kh·C/g)."""
        filters, channels, rows, taps = self.geometry.weight_shape
        columns = workers.scratch(w, (taps, filters, rows, channels))
        columns[...] = w.reshape(self.geometry.weight_shape).transpose(3, 0, 2, 1)
        np.matmul(self._g, columns.reshape(taps, -1), out=u.reshape(TILE, -1))

    def _row_windows(self, padded: Array, block: Block) -> Array:
        """The block's V as a view (T, g, OH, kh·C/g, q), in which windows share rows."""
        geometry, (_, cols, images) = self.geometry, sizes_of(block)
        group, channels = geometry.group, geometry.channels // geometry.group
        image = padded.reshape(group, channels, *padded.shape[1:])[..., OUTPUTS * block.cols.start :, :]
        image = image[..., block.batch]
        _, c, h, w, n = image.strides
        shape = (TILE, self.padded_size[0], channels, cols, images)
        stride = np.lib.stride_tricks.as_strided
        v = workers.scratch(padded, (TILE, group, shape[1], channels, cols * images), slot=3)

        def transform(part: Part, worker: int) -> None:
            tiles = stride(image[part.group], shape, (w, h, c, OUTPUTS * w, n))[:, part.rows]
            copied = workers.scratch(padded, tiles.shape)
            copy_runs(copied, tiles)
            rows = v[:, part.group].reshape(TILE, shape[1], -1)[:, part.rows]
            np.matmul(self._bt, copied.reshape(TILE, -1), out=rows.reshape(TILE, -1))

        self._share(transform, shape[1], TILE * channels * cols * images)
        windows = (TILE, group, geometry.output[0], self.terms, cols * images)
        return stride(v, windows, v.strides)

    def _share(self, task: Callable[[Part, int], None], rows: int, row_size: int) -> None:
        """Call ``task`` on parts of ``rows`` rows of each group, of about ``PART_BYTES``, on all workers."""
        count = workers.worker_count
        cuts = max(1, rows * row_size * self.dtype.itemsize // PART_BYTES)
        cuts = min(rows, -(-cuts // count) * count)
        parts = [Part(group, own) for group in range(self.geometry.group) for own in workers.cut(rows, cuts)]
        workers.share_products(task, parts, count)

    def _outputs(self, y: Array) -> Array:
        """y (M, OH, OW, N) as (g, M/g, OH, OW, N)."""
        return y.reshape(self.geometry.group, -1, *self.geometry.output, self.geometry.batch)


def _pieces(tiles: Array, image: Array, block: Block) -> Iterator[tuple[Array, Array]]:
    """For each of the four places in a tile: the outputs there, as a view (M, rows, tiles, images) of ``tiles``
    (4, rows, M, q), and their pixels in an image (M, rows, OW, N); without what lies beyond the image."""
    _, cols, images = sizes_of(block)
    tiles = tiles.reshape(*tiles.shape[:3], cols, images).swapaxes(1, 2)
    first, end = (OUTPUTS * col for col in (block.cols.start, block.cols.stop))
    for i, places in enumerate(tiles):
        pixels = image[:, :, first + i : end : OUTPUTS, block.batch]
        yield places[:, :, : pixels.shape[2]], pixels
