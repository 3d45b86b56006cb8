"""Arithmetic with one coefficient for each channel: scaling and sums.

Everything here views a blob's stored array as x (R, I, T), and the coefficients as (R, 1, T): R rows, I elements
that share a coefficient, and T coefficients side by side (N if each image has its own, else 1). For the channels
of a (C, H, W, N) array this is (C, H·W·N, 1); ``Broadcast`` works it out for any axes.

Work is cut into blocks that stay in a core's cache: whole rows if they are short, parts of one row if they are
long. A sum over a row is the sum of its blocks' sums, in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.workers import CHUNK, scratch
from minicaffe.ops.engine import keeps_order

BLOCK = (
    1 << 19
)  # elements of x and of y, in a block; after shorter calls workers wait for the interpreter's lock

LONG_ROW, BUFFER = 400, 8192  # elements: rows that are faster without NumPy's buffer
WORTH_A_SETTING = 1 << 16  # elements


@dataclass(frozen=True)
class Broadcast:
    """How coefficients spread over a blob: they have the shape of its ``num_axes`` axes from ``axis`` on.

    With ``num_axes`` 0 there is one coefficient for the whole blob.
    """

    shape: tuple[int, ...]
    axis: int
    num_axes: int

    @property
    def coefficient_shape(self) -> tuple[int, ...]:
        """The coefficients' logical shape."""
        return self.shape[self.axis : self.axis + self.num_axes]

    @property
    def is_per_channel(self) -> bool:
        """Whether each channel has a coefficient of its own."""
        return (self.axis, self.num_axes) == (1, 1)

    @property
    def _is_per_image(self) -> bool:
        return self.axis == 0 and self.num_axes > 0

    @property
    def _repeats(self) -> int:
        """How often the coefficients are repeated along the axes between the batch axis and theirs."""
        return math.prod(self.shape[1 : self.axis]) if self.num_axes else 1

    @property
    def _rows_shape(self) -> tuple[int, int, int]:
        """(R, I, T)."""
        shape, num_axes = self.shape, self.num_axes
        if self._is_per_image:
            return math.prod(shape[1:num_axes]), math.prod(shape[num_axes:]), shape[0]
        if not num_axes:
            return 1, math.prod(shape), 1
        rows = self._repeats * math.prod(self.coefficient_shape)
        return rows, shape[0] * math.prod(shape[self.axis + num_axes :]), 1

    def rows(self, stored: Array) -> Array:
        """A stored array viewed as (R, I, T)."""
        return stored.reshape(self._rows_shape)

    def spread(self, coefficients: Array) -> Array:
        """Coefficients, given in their logical shape, as (R, 1, T)."""
        xp = module_of(coefficients)
        rows, _, side = self._rows_shape
        if self._is_per_image:
            spread: Array = xp.moveaxis(coefficients, 0, -1)
        else:
            flat = coefficients.reshape(1, -1)
            spread = xp.broadcast_to(flat, (self._repeats, flat.size))
        return spread.reshape(rows, 1, side)

    def gather(self, sums: Array) -> Array:
        """Row sums (R, 1, T) added up to one sum per coefficient, in the logical shape."""
        if self._is_per_image:
            batch_last = sums.reshape(*self.shape[1 : self.num_axes], self.shape[0])
            gathered: Array = module_of(sums).moveaxis(batch_last, -1, 0)
        else:
            gathered = sums.reshape(self._repeats, -1).sum(axis=0)
        return gathered.reshape(self.coefficient_shape)


def _steps(x: Array) -> tuple[int, int]:
    """The number of rows in a block, and of elements of each row."""
    rows, elements, side = x.shape
    if not on_cpu(x) or x.size <= CHUNK:
        return max(rows, 1), max(elements, 1)
    block = CHUNK if keeps_order() else BLOCK
    fitting = block // (2 * elements * side)  # rows of x and of y
    if fitting == 0:
        return 1, max(1, block // (2 * side))
    return min(fitting, -(-rows // workers.worker_count)), elements


def _part(array: Array | None, rows: slice, elements: slice) -> Array | None:
    """The block's part of an array; coefficients are cut by rows only."""
    if array is None:
        return None
    return array[rows] if array.shape[1] == 1 else array[rows, elements]


def _visit(
    visit: Callable[[slice, int, list[Array | None]], None], first: Array, others: Sequence[Array | None]
) -> None:
    """Call ``visit(rows, number of the block in its rows, parts of the arrays)`` for all blocks, on all workers."""
    rows, elements, _ = first.shape
    row_step, step = _steps(first)
    arrays = [first, *others]
    blocks = [(row, start) for row in range(0, rows, row_step) for start in range(0, elements, step)]
    used = max(1, min(workers.worker_count, len(blocks)))

    def visit_block(block: tuple[int, int], worker: int) -> None:
        row, start = block
        row_part, part = slice(row, row + row_step), slice(start, start + step)
        visit(row_part, start // step, [_part(array, row_part, part) for array in arrays])

    workers.share_products(visit_block, blocks, used)


class RowLoops:
    """Within it NumPy works on each row of x (R, I, 1) as it lies in memory, where each has a number of its own.

    Otherwise it copies rows of some hundred to 8,191 elements (its buffer) first, which takes twice the time.
    Nothing in it may change the type of numbers, which needs the buffer.
    """

    def __init__(self, x: Array) -> None:
        elements = math.prod(x.shape[1:])
        self.is_needed = on_cpu(x) and LONG_ROW <= elements < BUFFER and x.size >= WORTH_A_SETTING

    def __enter__(self) -> None:
        if self.is_needed:
            self._before = np.setbufsize(16)

    def __exit__(self, *error: object) -> None:
        if self.is_needed:
            np.setbufsize(self._before)


def elements_per_block(x: Array) -> int:
    """How many elements of a row each block of ``in_blocks`` has."""
    return _steps(x)[1]


def in_blocks(function: Callable[..., None], first: Array, *others: Array | None) -> None:
    """Call ``function`` on blocks of the arrays, the first of which is (R, I, T), on all workers.

    It gets the block's part of each array: of an (R, I, T) array, of coefficients (R, 1, T), or None for None.
    """
    _visit(lambda rows, number, parts: function(*parts), first, others)


def block_sums(
    function: Callable[..., Sequence[Array]], count: int, first: Array, *others: Array | None
) -> Array:
    """Like ``in_blocks``, but ``function`` returns ``count`` sums over the elements of its rows, each (rows, T).

    Returns them for the B blocks of each row, (count, R, B, T).
    """
    rows, elements, side = first.shape
    per_row = -(-elements // _steps(first)[1])
    sums: Array = module_of(first).empty((count, rows, per_row, side), first.dtype)

    def visit(row_part: slice, number: int, parts: list[Array | None]) -> None:
        for k, found in enumerate(function(*parts)):
            sums[k, row_part, number] = found

    _visit(visit, first, others)
    return sums


def row_sums(
    function: Callable[..., Sequence[Array]], count: int, first: Array, *others: Array | None
) -> Array:
    """Like ``block_sums``, with the sums of the blocks added up: (count, R, 1, T)."""
    sums: Array = block_sums(function, count, first, *others).sum(axis=2, keepdims=True)
    return sums


def product_sums(a: Array, b: Array) -> Array:
    """Σ a · b over the elements of each row, (rows, T); on a CPU by BLAS, which writes no products.

    ``engine: CAFFE`` does write them: NumPy adds them up by halves, with a quarter of the rounding.
    """
    xp = module_of(a)
    if on_cpu(a) and a.shape[2] == 1 and not keeps_order():
        sums: Array = xp.matmul(a.swapaxes(1, 2), b)[:, 0]
        return sums
    products = scratch(a, a.shape, slot=1)
    xp.multiply(a, b, out=products)
    sums = products.sum(axis=1)
    return sums


def mean(x: Array) -> Array:
    """The mean of each row, (R, 1, T)."""
    total: Array = row_sums(lambda x: [x.sum(axis=1)], 1, x)[0]
    total /= x.shape[1]
    return total
