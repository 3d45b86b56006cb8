"""Matrix product on the workers: each computes some rows (or columns) of the result, with a BLAS of one thread.

BLAS's own threads would be as fast for one product, but they keep spinning for a while afterwards, and slow down
whatever the cores do next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.workers import Calls
from minicaffe.ops.engine import keeps_order

SMALL = 3 << 22  # multiply-adds: with fewer, sharing the work costs more than it saves
SMALL_VECTOR = 1 << 20  # the same of a matrix with a vector: as many numbers are read, and each is used once
FEW_COLUMNS = 64  # of b, but more than one: a product takes little longer than BLAS's copy of a, …
PANEL = 512  # … which stays in a core's cache if it has at most this many rows, …
LARGE = 1 << 20  # … and, if a has this many elements, is faster where a is stored by rows
MANY_ROWS = 256  # with as many, and not much longer ones, a worker takes rows: what it computes is contiguous
SHORT_ROW = 1 << 12
WHOLE = slice(None)


def matmul(a: Array, b: Array, out: Array) -> None:
    """Write a (…, m, k) · b (…, k, n) into ``out`` (…, m, n), as NumPy's matmul does.

    Not to be called on a worker: use ``xp.matmul`` there.
    """
    workers.make(calls(a, b, out))


def calls(a: Array, b: Array, out: Array, then: Callable[[slice], Calls] | None = None) -> Calls:
    """The calls that ``matmul`` makes, and those that ``then(rows)`` makes of the rows of ``out`` afterwards.

    Each worker makes these for the rows that it has computed, as they are in the cache of its core; but where each
    has computed some columns they are made for all rows at the end.
    """
    if keeps_order():
        return calls_in_order(a, b, out, then)
    rows, columns = out.shape[-2:]
    by_rows = rows >= columns or (rows >= MANY_ROWS and columns <= SHORT_ROW)
    by_panels = 1 < columns <= FEW_COLUMNS and not _is_by_columns(a)
    smallest = SMALL_VECTOR if columns == 1 else SMALL
    return _calls(_multiply, a, b, out, by_rows, smallest, then, PANEL if by_panels else None)


def calls_in_order(a: Array, b: Array, out: Array, then: Callable[[slice], Calls] | None = None) -> Calls:
    """The same, where a worker computes all of its rows (or columns) in one product, with a and b as they are."""
    return _calls(_multiply_in_order, a, b, out, out.shape[-2] >= out.shape[-1], SMALL, then)


def _calls(
    multiply: Callable[[Array, Array, Array], None],
    a: Array,
    b: Array,
    out: Array,
    by_rows: bool,
    smallest: int,
    then: Callable[[slice], Calls] | None,
    most: int | None = None,
) -> Calls:
    """Calls of ``multiply`` for some rows of a, ``most`` of them at a time, or for some columns of b.

    Products with fewer multiply-adds than the ``smallest`` are not shared.
    """
    next_calls = then or (lambda rows: [])
    if not on_cpu(a):
        return [partial(_matmul_on_device, a, b, out), *next_calls(WHOLE)]
    parts = workers.worker_count
    length = out.shape[-2 if by_rows else -1]
    if length < parts or parts == 1 or math.prod(out.shape) * a.shape[-1] < smallest:
        return [partial(multiply, a, b, out), *next_calls(WHOLE)]
    pieces = parts if most is None or not by_rows else parts * -(-length // (parts * most))
    shares: list[Calls] = [[] for _ in range(parts)]
    for number, own in enumerate(workers.cut(length, pieces)):
        if by_rows:
            product = partial(multiply, a[..., own, :], b, out[..., own, :])
            shares[number % parts] += [product, *next_calls(own)]
        else:
            shares[number % parts].append(partial(multiply, a, b[..., own], out[..., own]))
    return [partial(workers.together, shares), *([] if by_rows else next_calls(WHOLE))]


def _matmul_on_device(a: Array, b: Array, out: Array) -> None:
    """cuBLAS takes a transposed matrix as it is, but CuPy's product of stacks copies it first: so a stack of one
    matrix is multiplied as a matrix."""
    if math.prod(out.shape[:-2]) == 1:
        a, b, out = (matrix[(0,) * (matrix.ndim - 2)] for matrix in (a, b, out))
    module_of(a).matmul(a, b, out=out)


def side_by_side(
    products: Sequence[Callable[[Callable[..., object]], object]], like: Array, size: int
) -> None:
    """Call each of ``products`` with the matmul that it should use; at the same time, if that is worth it.

    Each has ``size`` multiply-adds; ``like`` is an array on their device. This wakes the workers once, instead of
    once for each product.
    """
    if len(products) == 1 or not on_cpu(like) or workers.worker_count == 1 or size < SMALL:
        for product in products:
            product(matmul)
        return

    def multiply(product: Callable[[Callable[..., object]], object], worker: int) -> None:
        product(_multiply_in_order if keeps_order() else _multiply)

    workers.share_products(multiply, products, len(products))


def _multiply(a: Array, b: Array, out: Array) -> None:
    """One product on one core, or on the GPU."""
    xp = module_of(a)
    if 1 < out.shape[-1] <= FEW_COLUMNS and a.size >= LARGE and _is_by_columns(a):
        transposed = workers.scratch(out, out.shape[::-1], slot=5)
        xp.matmul(b.T, a.T, out=transposed)
        out[...] = transposed.T
    elif out.shape[-1] == 1 and a.ndim == b.ndim == 2 and on_cpu(a) and out.flags.c_contiguous:
        xp.dot(a, b, out=out)  # matmul keeps the interpreter's lock here, unless a is large
    else:
        xp.matmul(a, b, out=out)


def _multiply_in_order(a: Array, b: Array, out: Array) -> None:
    """The same, with the matrices as they are."""
    module_of(a).matmul(a, b, out=out)


def _is_by_columns(a: Array) -> bool:
    """Whether it is a matrix on a CPU, stored column by column."""
    return on_cpu(a) and a.ndim == 2 and a.strides[0] == a.itemsize < a.strides[1]
