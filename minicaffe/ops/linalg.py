"""Factorizations of matrices and stacks of them (…, m, n), by LAPACK on a CPU, by cuSOLVER on a GPU.

CuPy hands stacks to Jacobi solvers, which are made for many small matrices: of larger ones, each is factorized by
itself (gesvd, syevd, geqrf). ``svd`` and ``eigh`` raise numpy.linalg.LinAlgError where they do not converge; on a
GPU they wait for the device to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minicaffe.array import Array, checked_linalg, module_of, on_cpu

JACOBI_SIZE = 32  # rows and columns up to which a stack is one call


def svd(a: Array) -> tuple[Array, Array, Array]:
    """U (…, m, k), s (…, k) descending and Vᵀ (…, k, n), with k = min(m, n)."""
    with checked_linalg(a):
        return _of_stack(lambda m: module_of(a).linalg.svd(m, full_matrices=False), a)


def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (…, m), ascending, and eigenvectors (…, m, m) of symmetric a (…, m, m)."""
    with checked_linalg(a):
        return _of_stack(module_of(a).linalg.eigh, a)


def orthonormal(a: Array) -> Array:
    """An orthonormal basis (…, m, k) of the columns of a (…, m, k), k ≤ m, by QR."""
    return _of_stack(module_of(a).linalg.qr, a)[0]


def completed(a: Array) -> Array:
    """An orthonormal basis (…, m, m) whose first columns span those of a (…, m, k)."""
    return _of_stack(lambda m: module_of(a).linalg.qr(m, mode="complete"), a)[0]


def _of_stack(factorize: Callable[[Array], tuple[Array, ...]], a: Array) -> tuple[Array, ...]:
    if on_cpu(a) or a.ndim == 2 or max(a.shape[-2:]) <= JACOBI_SIZE:
        return tuple(factorize(a))
    xp, stack = module_of(a), a.shape[:-2]
    found = [factorize(matrix) for matrix in a.reshape(math.prod(stack), *a.shape[-2:])]
    return tuple(xp.stack(parts).reshape(*stack, *parts[0].shape) for parts in zip(*found, strict=True))
