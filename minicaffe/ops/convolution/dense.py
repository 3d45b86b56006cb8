"""Convolution as one GEMM, by blocks of columns: the products of ``reference.py`` without a whole data matrix.

The columns of X are cut into blocks that fit a core's cache. Each block takes one strided copy and one GEMM, whose
result is already a slice of y. Workers take blocks in turns; a 5 × 5 layer runs as fast as its GEMM. If there is
one block, they share it: by channels where outputs are few, else by filters.

    forward        y[:, block] = w · X[:, block] (+ b)
    weight_grad    dwᵀ = Σ X[:, block] · dy[:, block]ᵀ         X is built again, block by block
    input_grad     dx = col2im(wᵀ · dy)                        or, at stride 1, dy convolved with w turned by 180°
    moments        Σ X[:, block] · 1, Σ X[:, block] · X[:, block]ᵀ      for data matrices of low rank

With g groups every product is a batch of g products.

On a GPU a block is as large as memory allows, usually all of X; ``columns.py`` copies it, and adds its gradients to
the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device import workers
from minicaffe.device.array import CPU, Array, Device, module_of, on_cpu
from minicaffe.device.workers import Calls
from minicaffe.ops import gemm
from minicaffe.ops.convolution.blocks import Block, cut_columns
from minicaffe.ops.convolution.columns import add_columns, copy_columns
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.ops.epilogue import WHOLE, WORTH_WORKERS, Affine, Epilogue, split
from minicaffe.ops.runs import as_runs, copy_runs

if TYPE_CHECKING:
    from typing_extensions import Self

BLOCK_BYTES = 3 << 19  # of the data matrix, in a block: with w and y it fits a core's cache of 2 MB
DEVICE_BLOCK_BYTES = 512 << 20  # the same on a GPU
SCATTER_BYTES = 4 << 20  # of wᵀ·dy, per worker: longer blocks, as they are added in many short steps
# input_grad convolves with the turned filters if
TURN_FILTERS = 48  # there are at most this many filters, which is how many terms each element of wᵀ·dy has,
TURN_CHANNELS = 16  # at least this many channels, the rows of the turned product,
TURN_GROWTH = 1.3  # and the image is at most this much larger than the output: so is the turned product
PIECE_BYTES = 96 << 10  # of the data matrix, in one GEMM of a block; …
SHORT_PIECE = 320  # … but at least this many columns
SMALL_COLUMNS = 1 << 10  # up to this many columns are one block if
SHORT_COLUMNS = 1 << 7  # there are fewer than these, or than filters,
SMALL = 1 << 23  # or fewer multiply-adds
FEW_OUTPUTS = (
    1 << 16
)  # up to this many are cheap to add up, where the workers divide that one block by channels
SLOT_OF_PADDED = 8  # of scratch memory
SHORT_BLOCK = 1 << 8  # columns: a shorter block is not worth the packing of w, unless a worker had none


Part = tuple[Block, slice]  # some columns of some groups


class DenseConvolution:
    """The products for one geometry with two spatial axes, in one number type on one device."""

    shared_product = staticmethod(gemm.calls)  # of matrices, on all workers

    def __init__(self, geometry: Geometry, dtype: DTypeLike, device: Device = CPU) -> None:
        self.geometry, self.device = geometry, device
        self.dtype = np.dtype(dtype)
        sharers = workers.worker_count if device == CPU else 1
        self.blocks = list(cut_columns(geometry.output, geometry.batch, self._longest_block(), sharers))
        self.workers = max(1, min(sharers, len(self.blocks)))
        is_large = geometry.multiply_adds * geometry.batch >= gemm.SMALL
        self._divides_product = device != CPU or (self.workers == 1 and is_large)
        self._padded: Array | None = None
        self._has_own_room = True
        self._terms: Array | None = None  # of y, see ``_prepare_by_channels``

    def _longest_block(self) -> int:
        """How many columns a block may have."""
        geometry = self.geometry
        column_bytes = geometry.depth * geometry.group * self.dtype.itemsize
        if self.device != CPU:
            return max(1, geometry.columns if geometry.is_pointwise else DEVICE_BLOCK_BYTES // column_bytes)
        if geometry.is_pointwise or self._is_small():
            return max(1, geometry.columns)
        rows = -(-geometry.output[0] // workers.worker_count)  # for each worker, or fewer for the last one
        share = rows * geometry.output[1] * geometry.batch
        return max(1, min(max(BLOCK_BYTES // column_bytes, SHORT_BLOCK), share))

    def _is_small(self) -> bool:
        """Whether all columns are one block, whose product is divided among the workers by filters.

        A worker that has a block packs all of w for its product; one that has some filters packs all columns.
        """
        geometry = self.geometry
        if geometry.columns > SMALL_COLUMNS:
            return False
        is_short = geometry.columns < max(SHORT_COLUMNS, geometry.filters // geometry.group)
        return is_short or geometry.multiply_adds * geometry.batch < SMALL

    def pad(self, x: Array) -> Array:
        """x (C, H, W, N), in any shape with the same order, with its border of zeros: (C, H', W', N).

        The result is valid until the next call, which reuses its memory.
        """
        padded, calls = self.prepare_pad(x)
        workers.make(calls)
        return padded

    def prepare_pad(self, x: Array) -> tuple[Array, Calls]:
        """What ``pad`` returns, and the calls that it makes."""
        x = x.reshape(self.geometry.shape)
        if self.geometry.window.pad == (0, 0):
            return x, []
        return self.prepare_border(x)

    def prepare_border(self, x: Array) -> tuple[Array, Calls]:
        """The buffer for a padded input, and the calls that copy x (C, H, W, N) into it."""
        padded, inner = self.room_for_padded(x)
        if x.size < workers.CHUNK:
            return padded, [partial(copy, *as_runs(inner, x))]
        return padded, [partial(workers.channelwise, copy, inner, x)]

    def room_for_padded(self, like: Array) -> tuple[Array, Array]:
        """The buffer for a padded input, with its border of zeros, and the view of its inside, where x belongs."""
        channels, *image, batch = self.geometry.shape
        size = channels, *self.geometry.padded, batch
        return self._room(like, size, self.geometry.window.inside(tuple(image)))

    def in_shared_room(self) -> Self:
        """This, for products that need no padded input afterwards: on a CPU it lies in memory that all share."""
        self._has_own_room = self.device != CPU
        return self

    def _room(self, like: Array, shape: tuple[int, ...], inside: tuple[slice, ...]) -> tuple[Array, Array]:
        """A padded image (C, H', W', N), 0 but for the inside, and a view of that."""
        if not self._has_own_room:
            shared = workers.scratch(like, shape, SLOT_OF_PADDED)
            _clear_around(shared, inside)
            return shared, shared[(slice(None), *inside)]
        if self._padded is None:
            self._padded = module_of(like).zeros(shape, like.dtype)
        return self._padded, self._padded[(slice(None), *inside)]

    def forward(
        self, x: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Array:
        """Write y (M, OH, OW, N) into ``out``, and apply the epilogue to it, if there is one.

        Returns the padded input, which ``weight_grad`` takes.
        """
        padded, calls = self.prepare(x, w, out, bias, epilogue)
        workers.make(calls)
        return padded

    def prepare(
        self, x: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> tuple[Array, Calls]:
        """What ``forward`` returns, and the calls that it makes: they are right as long as the arrays are these."""
        padded, calls = self.prepare_pad(x)
        return padded, calls + self.prepare_padded(padded, w, out, bias, epilogue)

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``forward``, for an input that already has its border of zeros."""
        workers.make(self.prepare_padded(padded, w, out, bias, epilogue))

    def prepare_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Calls:
        """The calls that ``forward_padded`` makes."""
        if self._divides_channels:
            return self._prepare_by_channels(padded, w, out, bias, epilogue)
        if bias is not None:
            epilogue = Epilogue([Affine(shift=bias), *(epilogue.maps if epilogue is not None else ())])
        w, y, channels = self._grouped(w), self._grouped(out), out.reshape(len(out), -1)
        in_parts, afterwards = self._split(epilogue, out)
        sharers = min(workers.worker_count, len(self.forward_parts)) if self.device == CPU else 1
        shares: list[Calls] = [[] for _ in range(max(1, sharers))]
        is_divided = self._divides_product and len(shares) == 1

        def prepare_part(part: Part, worker: int) -> Calls:
            block, groups = part
            columns, calls = self._prepare_columns(padded, block, worker, groups)
            target = y[groups, :, block.columns]
            then = partial(self._epilogue_calls, in_parts, channels, part)
            if is_divided:
                return calls + self.shared_product(w[groups], columns, target, then)
            product = module_of(w).matmul
            pieces, out_pieces = self._pieces(columns), self._pieces(target)
            return [*calls, partial(product, w[groups, None], pieces, out=out_pieces), *then(WHOLE)]

        def make_part(part: Part) -> None:
            workers.make(prepare_part(part, 0))

        for number, part in enumerate(self.forward_parts):
            if self.device == CPU:
                shares[number % sharers] += prepare_part(part, number % sharers)
            else:  # a GPU has room for the columns of one block
                shares[0].append(partial(make_part, part))
        calls = shares[0] if is_divided else [partial(workers.together, shares)]
        return calls + (afterwards.calls_over(channels) if afterwards is not None else [])

    def _split(self, epilogue: Epilogue | None, y: Array) -> tuple[Epilogue | None, Epilogue | None]:
        """As ``split``; but workers that compute whole rows of y also finish those."""
        columns = self.forward_parts[0][0].columns if self.forward_parts else WHOLE
        has_whole_rows = columns == slice(0, self.geometry.columns)
        is_worth_it = has_whole_rows and on_cpu(y) and y.size > WORTH_WORKERS
        return (epilogue, None) if is_worth_it else split(epilogue, y)

    def _epilogue_calls(self, epilogue: Epilogue | None, y: Array, part: Part, filters: slice) -> Calls:
        """The calls that finish what has been computed of y (M, columns): some filters of each group of a part."""
        if epilogue is None:
            return []
        (block, groups), per_group = part, self.geometry.filters // self.geometry.group
        if groups == filters == WHOLE and len(self.forward_parts) == 1:
            return epilogue.calls_over(y)
        first, last, _ = filters.indices(per_group)
        calls: Calls = []
        for group in range(self.geometry.group)[groups]:
            own = slice(group * per_group + first, group * per_group + last)
            calls += epilogue.calls(y[own, block.columns], own)
        return calls

    @cached_property
    def forward_parts(self) -> list[Part]:
        """What forward does at a time: a block, of all groups or, where all workers get as many, of some.

        A worker that has its own groups copies their windows and packs their weights: nothing is done twice.
        """
        geometry, sharers = self.geometry, workers.worker_count
        is_large = geometry.multiply_adds * geometry.batch >= gemm.SMALL
        has_own = self.device == CPU and geometry.group % sharers == 0 and is_large
        if not has_own or sharers == 1 or geometry.is_pointwise:
            return [(block, WHOLE) for block in self.blocks]
        column_bytes = geometry.depth * geometry.group // sharers * self.dtype.itemsize
        longest = max(BLOCK_BYTES // column_bytes, SHORT_BLOCK)
        blocks = cut_columns(geometry.output, geometry.batch, longest)
        return [(block, groups) for block in blocks for groups in workers.cut(geometry.group, sharers)]

    def _prepare_columns(
        self, padded: Array, block: Block, worker: int, groups: slice = WHOLE
    ) -> tuple[Array, Calls]:
        """X[groups, block] as (g', K/g, columns), and the calls that make it."""
        geometry = self.geometry
        if geometry.is_pointwise:
            return self._grouped(padded), []
        view = windows(padded, geometry)
        view = view.reshape(geometry.group, geometry.channels // geometry.group, *view.shape[1:])
        source = view[groups, ..., block.rows, block.cols, block.batch]
        columns = workers.scratch(padded, source.shape, worker=worker)
        if on_cpu(padded):
            call: Callable[[], object] = partial(np.copyto, *as_runs(columns, source))
        else:
            call = partial(copy_columns, padded, geometry, block, columns)
        return columns.reshape(len(source), geometry.depth, -1), [call]

    def _prepare_product(self, a: Array, b: Array, out: Array) -> Calls:
        """A block's product: on the worker that has the block, or on all workers if it is a single, large one."""
        return (
            self.shared_product(a, b, out)
            if self._divides_product
            else [partial(module_of(a).matmul, a, b, out=out)]
        )

    @cached_property
    def _divides_channels(self) -> bool:
        """Whether the workers share forward by channels: of one large block, a part of X for each."""
        geometry = self.geometry
        has_own = geometry.channels >= workers.worker_count > 1 and geometry.group == 1
        copies = math.prod(geometry.window.kernel) > 1
        is_worth_it = copies and geometry.filters * geometry.columns <= FEW_OUTPUTS
        return has_own and is_worth_it and self._divides_product and self.device == CPU

    def _prepare_by_channels(
        self, padded: Array, w: Array, out: Array, bias: Array | None, epilogue: Epilogue | None
    ) -> Calls:
        """y = Σ w[:, own] · X[own], where each worker has its own channels: no copy is made twice or waited for."""
        count, filters = min(workers.worker_count, self.geometry.channels), self.geometry.filters
        w, y = w.reshape(filters, self.geometry.channels, -1), out.reshape(filters, -1)
        view = windows(padded, self.geometry)
        if self._terms is None or len(self._terms) != count - 1:
            self._terms = module_of(padded).empty((count - 1, *y.shape), padded.dtype)
        terms = [y, *self._terms]
        shares: list[Calls] = []
        for worker, own in enumerate(workers.cut(self.geometry.channels, count)):
            columns = workers.scratch(padded, view[own].shape, worker=worker)
            factors = w[:, own].reshape(filters, -1)
            product = partial(np.matmul, factors, columns.reshape(factors.shape[1], -1), out=terms[worker])
            shares.append([partial(np.copyto, *as_runs(columns, view[own])), product])
        calls: Calls = [partial(workers.together, shares)]
        calls += [partial(np.add, y, term, out=y) for term in terms[1:]]
        if bias is not None:
            calls.append(partial(np.add, y, bias[:, None], out=y))
        return calls + (epilogue.calls_over(y) if epilogue is not None else [])

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw (M, C/g, kh, kw) into ``out`` and, where given, db (M,) into ``bias_out``."""
        dy = self._grouped(dy)
        if len(self.blocks) == 1:
            self._weight_grad_of_one_block(dy, padded, out, bias_out)
        else:
            self._weight_grad_of_blocks(dy, padded, out, bias_out)

    def _weight_grad_of_blocks(self, dy: Array, padded: Array, out: Array, bias_out: Array | None) -> None:
        group, filters, _ = dy.shape
        shape = (group, self.geometry.depth, filters)
        sums, bias_sums = (
            workers.scratch(dy, (self.workers, *of_one), slot)
            for of_one, slot in ((shape, 5), ((group, filters), 6))
        )
        sums.fill(0)
        bias_sums.fill(0)

        def add_up(block: Block, columns: Array, worker: int) -> None:
            dy_block = dy[:, :, block.columns]
            columns, pieces = self._pieces(columns), self._pieces(dy_block)
            terms = workers.scratch(dy, (*columns.shape[:2], *shape[1:]), slot=1)
            workers.make(self._prepare_product(columns, pieces.swapaxes(2, 3), terms))
            sums[worker] += terms[:, 0] if terms.shape[1] == 1 else terms.sum(axis=1)
            if bias_out is not None:  # here, while this block of dy is in the cache
                bias_sums[worker] += dy_block.sum(axis=2)

        self._over_blocks(padded, add_up)
        self._grouped(out)[...] = total_of([*sums]).swapaxes(1, 2)
        if bias_out is not None:
            bias_out[...] = total_of([*bias_sums]).reshape(-1)

    def _weight_grad_of_one_block(self, dy: Array, padded: Array, out: Array, bias_out: Array | None) -> None:
        """dw = dy · Xᵀ in one product: there are no partial sums."""

        def multiply(block: Block, columns: Array, worker: int) -> None:
            gemm.matmul(dy, columns.swapaxes(1, 2), self._grouped(out))

        self._over_blocks(padded, multiply)
        if bias_out is not None:
            add_columns_up(dy, bias_out)

    def moments(self, padded: Array, shift: Array | None = None) -> tuple[Array, Array]:
        """X·1 (g, K/g) and X·Xᵀ (g, K/g, K/g): each block in the input's type, their sums in float64.

        With ``shift`` (g, K/g), of X − shift: near the mean of X, so that less cancels in the variances.
        """
        xp = module_of(padded)
        shape = (self.geometry.group, self.geometry.depth, self.geometry.depth)
        sums = [xp.zeros(shape[:2], np.float64) for _ in range(self.workers)]
        squares = [xp.zeros(shape, np.float64) for _ in range(self.workers)]
        matmul = gemm.matmul if self.workers == 1 else xp.matmul

        def add_up(block: Block, columns: Array, worker: int) -> None:
            term = workers.scratch(padded, shape, slot=1)
            if shift is not None:
                shifted = workers.scratch(padded, columns.shape, slot=2)
                columns = xp.subtract(columns, shift[:, :, None], out=shifted)
            matmul(columns, columns.swapaxes(1, 2), out=term)
            squares[worker] += term
            sums[worker] += columns.sum(axis=2)

        self._over_blocks(padded, add_up)
        return total_of(sums), total_of(squares)

    def gram(self, padded: Array) -> Array:
        """X·Xᵀ (g, K/g, K/g), in float64."""
        return self.moments(padded)[1]

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx (C, H, W, N) into ``out``."""
        out = out.reshape(self.geometry.shape)
        if self.geometry.is_pointwise:
            transposed, dy, dx = self._grouped(w).swapaxes(1, 2), self._grouped(dy), self._grouped(out)
            workers.make(self.shared_product(transposed, dy, dx))
        elif self.turned is not None:
            turned = turn_filters(w.reshape(self.geometry.weight_shape), self.geometry.group)
            self.turned.forward(dy, turned, out)
        elif on_cpu(dy):
            self._scatter(dy, w, out)
        else:
            self._gather(dy, w, out)

    @cached_property
    def turned(self) -> DenseConvolution | None:
        """The convolution that takes dy to dx; None if there is none, or if it is slower."""
        geometry, turned = self.geometry, self.geometry.turned
        growth = math.prod(geometry.image) / math.prod(geometry.output)
        rows, depth = geometry.channels // geometry.group, geometry.filters // geometry.group
        suits = depth <= TURN_FILTERS and rows >= TURN_CHANNELS and growth <= TURN_GROWTH
        return self.direct(turned).in_shared_room() if turned is not None and suits else None

    def direct(self, geometry: Geometry) -> DenseConvolution:
        """The direct sum for other shapes, in the same type on the same device."""
        return DenseConvolution(geometry, self.dtype, self.device)

    def _scatter(self, dy: Array, w: Array, out: Array) -> None:
        """dx = col2im(wᵀ·dy) by blocks; each worker owns some input channels, so no two add to the same pixel."""
        geometry, (kh, kw), (ph, pw) = self.geometry, self.geometry.window.kernel, self.geometry.window.pad
        xp, (channels, height, width, batch), group = module_of(dy), geometry.shape, geometry.group
        dx = workers.scratch(dy, (channels, *geometry.padded, batch), slot=5) if ph or pw else out
        dx.fill(0)
        per_group = channels // group
        pixels = windows(dx, geometry).reshape(group, per_group, kh, kw, *geometry.output, batch)
        filters = w.reshape(group, -1, per_group, kh * kw)
        dy = self._grouped(dy)
        owners = min(workers.worker_count, per_group)

        def add_own(own: slice, worker: int) -> None:
            transposed = filters[:, :, own].reshape(group, filters.shape[1], -1).swapaxes(1, 2)
            for block in self._scatter_blocks:
                source = dy[:, :, block.columns]
                columns = workers.scratch(dy, (*transposed.shape[:2], source.shape[2]))
                xp.matmul(transposed, source, out=columns)
                _add_shifted(columns, pixels[:, own, ..., block.rows, block.cols, block.batch])

        workers.share_products(add_own, workers.cut(per_group, owners), owners)
        if dx is not out:
            out[...] = dx[:, ph : ph + height, pw : pw + width]

    @cached_property
    def _scatter_blocks(self) -> list[Block]:
        geometry = self.geometry
        owners = min(workers.worker_count, geometry.channels // geometry.group)
        limit = owners * SCATTER_BYTES // (geometry.depth * geometry.group * self.dtype.itemsize)
        return list(cut_columns(geometry.output, geometry.batch, max(1, limit), owners))

    def _gather(self, dy: Array, w: Array, out: Array) -> None:
        """dx = col2im(wᵀ·dy) by blocks on a GPU, where each pixel adds up its own gradients."""
        transposed, dy = self._grouped(w).swapaxes(1, 2), self._grouped(dy)
        out.fill(0)
        for block in self.blocks:
            source = dy[:, :, block.columns]
            columns = module_of(dy).empty((*transposed.shape[:2], source.shape[2]), dy.dtype)
            gemm.matmul(transposed, source, columns)
            add_columns(columns, self.geometry, block, out)

    def _pieces(self, columns: Array) -> Array:
        """Columns (g, rows, n) as a view (g, pieces, rows, n/pieces): a GEMM with few rows is faster in pieces that
        stay in the innermost caches, and one call multiplies them all."""
        group, rows, count = columns.shape
        longest = max(SHORT_PIECE, PIECE_BYTES // (self.geometry.depth * self.dtype.itemsize))
        pieces = max(1, count // longest) if self.workers > 1 else 1
        while count % pieces:
            pieces -= 1
        return columns.reshape(group, rows, pieces, -1).swapaxes(1, 2)

    def _grouped(self, array: Array) -> Array:
        """(g·m, …) as a stack of matrices (g, m, rest), one for each group."""
        group = self.geometry.group
        return array.reshape(group, array.shape[0] // group, math.prod(array.shape[1:]))

    def _over_blocks(self, padded: Array, visit: Callable[[Block, Array, int], None]) -> None:
        """Call ``visit(block, X[:, block] as (g, K/g, columns), worker)`` for every block, on the workers."""
        geometry = self.geometry
        if geometry.is_pointwise:
            for block in self.blocks:  # one, or none for an empty batch
                visit(block, self._grouped(padded), 0)
            return
        view = windows(padded, geometry)

        def copy_and_visit(block: Block, worker: int) -> None:
            source = view[..., block.rows, block.cols, block.batch]
            columns = workers.scratch(padded, source.shape)
            if on_cpu(padded) and self.workers == 1:  # the others have nothing else to do
                workers.channelwise(copy_runs, columns, source)
            elif on_cpu(padded):
                copy_runs(columns, source)
            else:
                copy_columns(padded, geometry, block, columns)
            visit(block, columns.reshape(geometry.group, geometry.depth, -1), worker)

        workers.share_products(copy_and_visit, self.blocks, self.workers)


def windows(padded: Array, geometry: Geometry) -> Array:
    """The data matrix as a view (C, kh, kw, OH, OW, N) of a padded image (C, H, W, N), without a copy."""
    window, (channels, _, _, batch), (c, h, w, n) = geometry.window, padded.shape, padded.strides
    (dh, dw), (sh, sw) = window.dilation, window.stride
    shape = (channels, *window.kernel, *geometry.output, batch)
    strides = (c, dh * h, dw * w, sh * h, sw * w, n)
    view: Array = module_of(padded).lib.stride_tricks.as_strided(padded, shape, strides)
    return view


def turn_filters(w: Array, group: int) -> Array:
    """w (M, C/g, kh, kw) turned by 180°, with inputs and outputs exchanged: (C, M/g, kh, kw)."""
    filters, channels, kh, kw = w.shape
    w = w.reshape(group, filters // group, channels, kh, kw)[..., ::-1, ::-1]
    turned: Array = module_of(w).ascontiguousarray(w.swapaxes(1, 2))
    return turned.reshape(group * channels, filters // group, kh, kw)


def add_columns_up(dy: Array, out: Array) -> None:
    """out (M,) = the sums of dy (M, …): db."""
    workers.channelwise(lambda dy, out: dy.sum(axis=1, out=out), dy.reshape(len(out), -1), out)


def _clear_around(image: Array, inside: tuple[slice, ...]) -> None:
    """Write 0 around the inside of an image (C, H, W, N)."""
    rows, cols = inside
    for beyond in (image[:, : rows.start], image[:, rows.stop :]):
        beyond[...] = 0
    for beyond in (image[:, rows, : cols.start], image[:, rows, cols.stop :]):
        beyond[...] = 0


def total_of(parts: list[Array]) -> Array:
    """The sum of the workers' parts, in a fixed order; it overwrites the first."""
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def copy(target: Array, source: Array) -> None:
    """target = source, as an array of the device."""
    target[...] = source


def _add_shifted(columns: Array, pixels: Array) -> None:
    """Add columns to the pixels that they came from: one strided addition for each kernel position."""
    columns = columns.reshape(pixels.shape)
    for i in range(pixels.shape[2]):
        for j in range(pixels.shape[3]):
            pixels[:, :, i, j] += columns[:, :, i, j]
