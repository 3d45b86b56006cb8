"""What CuPy copies around a matrix product: see ``matmul`` and ``dot`` in its ``_core/_routines_linalg.pyx``.

A copy costs a launch, and as much memory traffic as a small product itself.
"""

from __future__ import annotations

import numpy as np


def copies_of(a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> int:
    """How many copies ``matmul(a, b, out)`` makes of its factors and its result."""
    dtype = np.promote_types(a.dtype, b.dtype)
    fit = [factor for factor in (a, b) if factor.dtype == dtype and _fits(factor, max(a.ndim, b.ndim))]
    copies = 2 - len(fit)
    if out is None:
        return copies
    aside = not out.flags.c_contiguous or out.dtype != dtype or any(np.may_share_memory(out, f) for f in fit)
    return copies + aside


def _fits(factor: np.ndarray, ndim: int) -> bool:
    """Whether cuBLAS takes it as it is: a matrix or its transpose, but a stack of matrices in C order alone."""
    return factor.flags.c_contiguous or (ndim <= 2 and factor.flags.f_contiguous)
