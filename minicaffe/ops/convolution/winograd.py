"""Winograd's convolution F(4 × 4, 3 × 3): 36 products where the sum of a 3 × 3 window for 4 × 4 outputs has 144.

Along one axis: four outputs y of three taps w see six pixels d. As a product of polynomials, y is found from its
values at six points, and there each value takes one multiplication:

    y = Aᵀ · [(G · w) ⊙ (Bᵀ · d)]           6 products in place of 12

Along two axes each matrix acts on rows and on columns: as its Kronecker product with itself, on a tile of 6 × 6
pixels as a column of 36. A sum over channels makes the 36 products 36 matrix products. For q tiles:

    D (C, 36, q)                     the tiles: 6 × 6 pixels, one every 4 rows and 4 columns of the padded image
    V[c] = (Bᵀ ⊗ Bᵀ) · D[c]          a product (36 × 36) · (36 × q) for each channel
    Z[:, k] = U[k] · V[:, k]         36 products (M × C) · (C × q), with U = (G ⊗ G) · w
    Y[m] = (Aᵀ ⊗ Aᵀ) · Z[m] (+ b)    a product (16 × 36) · (36 × q) for each filter: the tiles' 4 × 4 outputs

    dw = (G ⊗ G)ᵀ · S,   S[k] = Σ over tiles of E[:, k] · V[:, k]ᵀ,   E[m] = (A ⊗ A) · dY[m]
    dx                               as forward, with the filters turned by 180°

Blocks of tiles are as long as V and Z fit a cache; the workers share each of the three steps.

The points are 0, ±3/4, ±3/2 and ∞: with them the error in float32 is a quarter of that with the usual 0, ±1, ±2 and
∞, and some ten times that of the direct sum (docs/speed.md). ``engine: CAFFE`` is the direct sum.

Winograd 1980, Arithmetic Complexity of Computations; Lavin & Gray 2016 (arXiv 1509.09308). On points: Barabasz et
al. 2020 (arXiv 1803.10986).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, module_of, on_cpu
from minicaffe.device.workers import Calls
from minicaffe.ops import gemm
from minicaffe.ops.convolution.blocks import Block, cut_columns, sizes_of, with_ends
from minicaffe.ops.convolution.dense import DenseConvolution, add_columns_up
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.epilogue import Epilogue, split
from minicaffe.ops.remember import is_same, remembered
from minicaffe.ops.runs import copy_runs

TAPS, OUTPUTS, TILE = 3, 4, 6  # of a window, of a tile, and pixels of a tile, along an axis
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and ∞
BLOCK_BYTES = 32 << 20  # of V and Z, in a block
SLOT_OF_U = 7  # of scratch memory
REPEATS = 2  # calls with the same filters after the first: then they are not in training
PART_BYTES = 2 << 20  # of D, in a part of a step: it fits a core's cache


class Costs(NamedTuple):
    """Nanoseconds of a product, on two cores: of the direct sum, and of Winograd's. Only their ratios matter."""

    multiply_add: float
    x: float  # a number of the data matrix X
    product: float  # a multiply-add of the 36 products
    v: float  # a number of V
    z: float  # of Z, or of E
    u: float  # of U, or of S
    start: float  # whatever the size


# Fitted by benchmarks/engines.py
FORWARD = Costs(0.035, 0.20, 0.025, 3.3, 0.67, 1.2, 0.75e6)
WEIGHT_GRAD = Costs(0.039, 0.014, 0.029, 3.0, 1.1, 2.1, 0.81e6)


def can_convolve(window: Window) -> bool:
    """Whether there is a Winograd convolution with this window."""
    return window.kernel == (TAPS, TAPS) and {*window.stride, *window.dilation} == {1}


def tiles_of(geometry: Geometry) -> tuple[int, ...]:
    """The rows and columns of tiles that cover the output."""
    return tuple(-(-size // OUTPUTS) for size in geometry.output)


def counts(geometry: Geometry) -> Costs:
    """How many there are of what each of the ``Costs`` is for."""
    tiles = TILE**2 * math.prod(tiles_of(geometry)) * geometry.batch
    depth, filters = geometry.channels // geometry.group, geometry.filters
    return Costs(
        multiply_add=geometry.multiply_adds * geometry.batch,
        x=geometry.depth * geometry.group * geometry.columns,
        product=depth * filters * tiles,
        v=geometry.channels * tiles,
        z=filters * tiles,
        u=TILE**2 * depth * filters,
        start=1,
    )


def is_faster(geometry: Geometry, costs: Costs = FORWARD) -> bool:
    """Whether a product takes less time on a CPU than that of a DenseConvolution: forward, and so dx."""
    return can_convolve(geometry.window) and is_cheaper(costs, counts(geometry))


def is_cheaper(costs: Costs, counts: Costs) -> bool:
    """Whether Winograd's product costs less than the direct sum."""
    multiply_add, x, *ours = (cost * count for cost, count in zip(costs, counts, strict=True))
    return sum(ours) < multiply_add + x


def is_weight_grad_faster(geometry: Geometry) -> bool:
    """The same for dw."""
    return is_faster(geometry, WEIGHT_GRAD)


def matrices(points: Sequence[float], taps: int = TAPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ (4, T), G (T, taps) and Bᵀ (T, T): Toom and Cook's for T − 1 points p and ∞, in float64.

    Column p of Aᵀ and row p of G, times f = Π (p − other points), hold the powers of p; row p of Bᵀ the polynomial
    that is 0 at the other points. At ∞ stand the highest power and the polynomial that is 0 at all of them.
    """
    others = [[q for q in points if q != p] for p in points]
    infinity = np.eye(len(points) + 1)[-1]
    values = np.array([[p**i for p in points] for i in range(OUTPUTS)])
    a = np.column_stack([values, infinity[-OUTPUTS:]])
    powers = [
        [p**i / math.prod(p - q for q in rest) for i in range(taps)]
        for p, rest in zip(points, others, strict=True)
    ]
    g = np.vstack([powers, infinity[-taps:]])
    b = [[*np.poly(rest)[::-1], 0] for rest in others]
    return a, g, np.vstack([b, np.poly(points)[::-1]])


class TransformedFilters:
    """U of some ``shape``, which ``transform(w, u)`` writes.

    On a CPU it is kept until the filters w change, once three calls had the same; before that, and so in training,
    it lies in memory that all share. To find out whether w has changed, a GPU would have to wait.
    """

    def __init__(self, shape: tuple[int, ...], transform: Callable[[Array, Array], None]) -> None:
        self.shape, self._transform = shape, transform
        self._w: Array | None = None
        self._u: Array | None = None
        self._repeats = 0

    def of(self, w: Array) -> Array:
        """U for these filters; valid until the next call, of these or others, on this thread."""
        before = self._w
        is_known = before is not None and is_same(w, before)
        if is_known and self._u is not None:
            return self._u
        kept, self._w, self._u = self._u, None, None  # nothing is known if the transform is interrupted
        self._repeats = self._repeats + 1 if is_known else 0
        if self._repeats == REPEATS:
            kept = module_of(w).empty(self.shape, w.dtype)
        u: Array = workers.scratch(w, self.shape, SLOT_OF_U) if kept is None else kept
        self._transform(w, u)
        if on_cpu(w):
            self._w = before if is_known else remembered(w, before)
        self._u = kept
        return u


class WinogradConvolution(DenseConvolution):
    """A DenseConvolution of 3 × 3 windows, stride 1 and dilation 1, with a quarter of the products."""

    def __init__(self, geometry: Geometry, dtype: DTypeLike, device: Device = CPU) -> None:
        super().__init__(geometry, dtype, device)
        self.tiles = tiles = tiles_of(geometry)
        column = TILE**2 * (geometry.channels + geometry.filters) * self.dtype.itemsize
        self.tile_blocks = [
            with_ends(block, tiles)
            for block in cut_columns(tiles, geometry.batch, max(1, BLOCK_BYTES // column))
        ]
        with device.entered():
            self._at, self._g, self._bt = (device.xp.asarray(np.kron(m, m), dtype) for m in matrices(POINTS))
        shape = (geometry.group, geometry.filters // geometry.group, geometry.channels // geometry.group)
        self._filters = TransformedFilters((TILE**2, *shape), self._transform_filters)

    def room_for_padded(self, like: Array) -> tuple[Array, Array]:
        """As ``DenseConvolution.room_for_padded``, with zeros below and on the right up to whole tiles."""
        (channels, *image, batch), rest = self.geometry.shape, TILE - OUTPUTS
        size = [OUTPUTS * tiles + rest for tiles in self.tiles]
        return self._room(like, (channels, *size, batch), self.geometry.window.inside(tuple(image)))

    def prepare_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Calls:
        """As ``DenseConvolution.prepare_padded``."""
        return [partial(self.forward_padded, padded, w, out, bias, epilogue)]

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``DenseConvolution.forward_padded``."""
        self._forward(padded, self._filters.of(w), out, bias, epilogue)

    def _forward(
        self, padded: Array, u: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """Y = (Aᵀ ⊗ Aᵀ) · Z + b, Z[k] = U[k] · V[k]."""
        y = out.reshape(self.geometry.output_shape)
        in_blocks, afterwards = split(epilogue, y)
        for block in self.tile_blocks:
            v = self._transform(self._bt, padded, block, slot=3)
            z = workers.scratch(v, (len(y), *v.shape[1:]), slot=4)
            self._multiply(u, self._by_place(v), self._by_place(z))
            self._write_outputs(z, bias, in_blocks, block, y)
        if afterwards is not None:
            afterwards.over(y)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``, in the faster way."""
        if self.device != CPU or is_weight_grad_faster(self.geometry):
            self.weight_grad_by_tiles(dy, padded, out)
            if bias_out is not None:
                add_columns_up(dy, bias_out)
        else:
            super().weight_grad(dy, padded, out, bias_out)

    def weight_grad_by_tiles(self, dy: Array, padded: Array, out: Array) -> None:
        """Write dw = (G ⊗ G)ᵀ · S into ``out``: S[k] = Σ E[k] · V[k]ᵀ, E = (A ⊗ A) · dY."""
        dy, xp = dy.reshape(self.geometry.output_shape), module_of(dy)
        group, depth = self.geometry.group, self.geometry.channels // self.geometry.group
        s = workers.scratch(dy, (TILE**2, group, self.geometry.filters // group, depth), slot=5)
        if len(self.tile_blocks) != 1:
            s.fill(0)
        for block in self.tile_blocks:
            v = self._by_place(self._transform(self._bt, padded, block, slot=3))
            e = self._by_place(self._transform(self._at.T, dy, block, slot=4))

            def add_up(own: slice, v: Array = v, e: Array = e) -> None:
                for k in range(own.start, own.stop):
                    is_all = len(self.tile_blocks) == 1
                    term = s[k] if is_all else workers.scratch(v, s.shape[1:])
                    xp.matmul(e[k], v[k].swapaxes(1, 2), out=term)
                    if not is_all:
                        s[k] += term

            self._share(add_up, len(s))
        dw = workers.scratch(s, (TAPS**2, out.size // TAPS**2))
        gemm.matmul(self._g.T, s.reshape(TILE**2, -1), dw)
        out.reshape(dw.T.shape)[...] = dw.T

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """As ``DenseConvolution.input_grad``: the turned filters' taps meet the columns of G ⊗ G in reverse."""
        turned = self.turned
        if turned is None:
            super().input_grad(dy, w, out)
        else:
            turned._forward(turned.pad(dy), self._turned_filters.of(w).swapaxes(2, 3), out)

    @cached_property
    def turned(self) -> WinogradConvolution | None:
        """The convolution that takes dy to dx; None where the padding is wider than the window."""
        turned = self.geometry.turned
        return (
            WinogradConvolution(turned, self.dtype, self.device).in_shared_room()
            if turned is not None
            else None
        )

    @cached_property
    def _turned_filters(self) -> TransformedFilters:
        """U of the turned filters, (36, g, M/g, C/g) too."""
        return TransformedFilters(self._filters.shape, partial(self._transform_filters, is_turned=True))

    def _transform_filters(self, w: Array, u: Array, is_turned: bool = False) -> None:
        """U = (G ⊗ G) · w, (36, g, M/g, C/g)."""
        matrix = self._g[:, ::-1].copy() if is_turned else self._g  # BLAS takes no negative steps
        gemm.matmul(matrix, w.reshape(-1, TAPS**2).T, u.reshape(TILE**2, -1))

    def _transform(self, matrix: Array, image: Array, block: Block, slot: int) -> Array:
        """``matrix`` (36, s²) times the block's tiles of s × s pixels of an image (C, H, W, N): (C, 36, q)."""
        side, (rows, cols, images) = math.isqrt(matrix.shape[1]), sizes_of(block)
        result = workers.scratch(image, (len(image), TILE**2, rows * cols * images), slot)

        def transform(own: slice) -> None:
            tiles = workers.scratch(image, (own.stop - own.start, side, side, rows, cols, images))
            pieces = _pieces(tiles.transpose(0, 3, 1, 4, 2, 5), image[own], block)
            if sum(piece.size for piece, _ in pieces) < tiles.size:
                tiles.fill(0)  # beyond the image
            for piece, pixels in pieces:
                copy_runs(piece, pixels)
            module_of(image).matmul(matrix, tiles.reshape(len(tiles), side**2, -1), out=result[own])

        self._share(transform, len(image), result.nbytes)
        return result

    def _write_outputs(
        self, z: Array, bias: Array | None, epilogue: Epilogue | None, block: Block, y: Array
    ) -> None:
        """Write the block's outputs (Aᵀ ⊗ Aᵀ) · Z[m] + b into y (M, OH, OW, N); z (M, 36, q).

        They are copied in runs: of the images or, where there is one, of a tile's four columns.
        """
        (rows, cols, images), xp = sizes_of(block), module_of(z)

        def write(own: slice) -> None:
            count, side = own.stop - own.start, OUTPUTS
            if images == 1:
                tiles = workers.scratch(z, (count, rows, cols, side, side, 1), slot=1)
                xp.matmul(z[own].swapaxes(1, 2), self._at.T, out=tiles.reshape(count, -1, side**2))
                by_rows = tiles.swapaxes(2, 3)
            else:
                tiles = workers.scratch(z, (count, side, side, rows, cols, images), slot=1)
                xp.matmul(self._at, z[own], out=tiles.reshape(count, side**2, -1))
                by_rows = tiles.transpose(0, 3, 1, 4, 2, 5)
            flat = tiles.reshape(count, -1)
            if bias is not None:
                flat += bias[own, None]
            if epilogue is not None:
                epilogue.apply(flat, own)
            for piece, pixels in _pieces(by_rows, y[own], block):
                copy_runs(pixels, piece)

        self._share(write, len(y), z.nbytes)

    def _multiply(self, u: Array, v: Array, z: Array) -> None:
        """Z[k] = U[k] · V[k]."""
        self._share(lambda own: module_of(v).matmul(u[own], v[own], out=z[own]), TILE**2)

    def _by_place(self, tiles: Array) -> Array:
        """(g·m, 36, q) as a view (36, g, m, q)."""
        return tiles.reshape(self.geometry.group, -1, *tiles.shape[1:]).transpose(2, 0, 1, 3)

    def _share(self, task: Callable[[slice], None], length: int, nbytes: int = 0) -> None:
        """Call ``task`` on slices of a length, of about ``PART_BYTES`` each, on all workers; on a GPU once."""
        count = workers.worker_count if self.device == CPU else 1
        parts = max(count, nbytes // PART_BYTES) if self.device == CPU else 1
        slices = workers.cut(length, min(length, -(-parts // count) * count))
        workers.share_products(lambda own, worker: task(own), slices, count)


def _pieces(tiles: Array, image: Array, block: Block) -> list[tuple[Array, Array]]:
    """Pairs of a piece of ``tiles`` (C, rows, s, cols, s, images) and its pixels, a view of an image (C, H, W, N).

    Tiles that lie within the image are one piece. Those of the last row, and of the last column, that reach beyond
    it are pieces of their own, without what lies there.
    """
    strided, side = module_of(image).lib.stride_tricks.as_strided, tiles.shape[2]
    image = image[..., block.batch]
    (c, h, w, n), pieces = image.strides, []
    for (rows, top, height), (cols, left, width) in product(
        _cuts(block.rows, image.shape[1], side), _cuts(block.cols, image.shape[2], side)
    ):
        piece = tiles[:, rows, :height, cols, :width]
        pixels = strided(image[:, top:, left:], piece.shape, (c, OUTPUTS * h, h, OUTPUTS * w, w, n))
        pieces.append((piece, pixels))
    return pieces


def _cuts(part: slice, size: int, side: int) -> Iterator[tuple[slice, int, int]]:
    """Cut a block's tiles along one axis into those that are whole and one that is not: (tiles, first pixel, pixels
    of each)."""
    whole = min(part.stop, max(part.start, (size - side) // OUTPUTS + 1))
    for tiles in (slice(part.start, whole), slice(whole, part.stop)):
        if tiles.start < tiles.stop:
            first = OUTPUTS * tiles.start
            yield slice(tiles.start - part.start, tiles.stop - part.start), first, min(side, size - first)
