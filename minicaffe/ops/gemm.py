"""Matrix product on the workers: each has some rows (or columns) of the result, and a BLAS of one thread.

BLAS's own threads would do as well in one product, but they keep spinning for a while after it, and then slow
whatever else the cores are given.
"""

from __future__ import annotations

import math

from minicaffe.array import Array, module_of, on_cpu
from minicaffe.ops import workers

SMALL = 1 << 21  # multiply-adds: below this, handing out work costs more than it saves


def matmul(a: Array, b: Array, out: Array) -> None:
    """Write a (m, k) · b (k, n) into ``out`` (m, n); or a batch of products, (g, m, k) · (g, k, n), likewise.

    Not to be called on a worker: there, it is ``xp.matmul``.
    """
    xp, parts = module_of(a), workers.worker_count
    axes = [axis for axis in range(out.ndim) if out.shape[axis] >= parts]
    if not on_cpu(a) or parts == 1 or not axes or math.prod(out.shape) * a.shape[-1] < SMALL:
        xp.matmul(a, b, out=out)
        return
    axis = 0 if out.ndim == 3 and axes[0] == 0 else max(axes, key=lambda axis: out.shape[axis])

    def task(worker: int) -> None:
        own = slice(out.shape[axis] * worker // parts, out.shape[axis] * (worker + 1) // parts)
        in_out = (slice(None),) * axis + (own,)
        in_a = in_out if axis < out.ndim - 1 else ...
        in_b = in_out if axis != out.ndim - 2 else ...
        xp.matmul(a[in_a], b[in_b], out=out[in_out])

    with workers.one_blas_thread():
        workers.run(task, parts)
