"""Matrix product on the workers: each computes some rows (or columns) of the result, with a BLAS of one thread.

BLAS's own threads would be as fast for one product, but they keep spinning for a while afterwards, and slow down
whatever the cores do next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu

SMALL = 3 << 22  # multiply-adds: with fewer, sharing the work costs more than it saves


def matmul(a: Array, b: Array, out: Array) -> None:
    """Write a (…, m, k) · b (…, k, n) into ``out`` (…, m, n), as NumPy's matmul does.

    Not to be called on a worker: use ``xp.matmul`` there.
    """
    if not on_cpu(a):
        _matmul_on_device(a, b, out)
        return
    xp, parts = module_of(a), workers.worker_count
    axis = max((-2, -1), key=lambda axis: out.shape[axis])
    length = out.shape[axis]
    if length < parts or parts == 1 or math.prod(out.shape) * a.shape[-1] < SMALL:
        xp.matmul(a, b, out=out)
        return

    def multiply(own: slice, worker: int) -> None:
        if axis == -2:
            xp.matmul(a[..., own, :], b, out=out[..., own, :])
        else:
            xp.matmul(a, b[..., own], out=out[..., own])

    workers.share_products(multiply, workers.cut(length, parts), parts)


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
        product(_plain_matmul)

    workers.share_products(multiply, products, len(products))


def _plain_matmul(a: Array, b: Array, out: Array) -> None:
    module_of(a).matmul(a, b, out=out)
