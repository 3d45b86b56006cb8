"""Factorizations of matrices and stacks of them (…, m, n), by LAPACK on a CPU, by cuSOLVER on a GPU.

``svd``, ``eigh`` and ``cholesky`` raise numpy.linalg.LinAlgError if they do not converge, or where a matrix is not
positive definite; on a GPU they have to wait for the device to know.
"""

from __future__ import annotations

from minicaffe.device.array import Array, checked_linalg, module_of, on_cpu

JACOBI_SIZE = 32  # CuPy hands stacks to syevj, which is made for many matrices of at most about this size


def svd(a: Array) -> tuple[Array, Array, Array]:
    """U (…, m, k), s (…, k) descending and Vᵀ (…, k, n), with k = min(m, n)."""
    with checked_linalg(a):
        return tuple(module_of(a).linalg.svd(a, full_matrices=False))


def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues (…, m), ascending, and eigenvectors (…, m, m) of symmetric a (…, m, m)."""
    with checked_linalg(a):
        if on_cpu(a) or a.ndim == 2 or a.shape[-1] <= JACOBI_SIZE:
            return tuple(module_of(a).linalg.eigh(a))
        xp, stack = module_of(a), a.shape[:-2]
        found = [xp.linalg.eigh(matrix) for matrix in a.reshape(-1, *a.shape[-2:])]
        return tuple(xp.stack(parts).reshape(*stack, *parts[0].shape) for parts in zip(*found, strict=True))


def cholesky(a: Array) -> Array:
    """The lower triangular L (…, m, m) with L·Lᵀ = a, for symmetric, positive definite a (…, m, m)."""
    with checked_linalg(a):
        factor: Array = module_of(a).linalg.cholesky(a)
    return factor


def orthonormal(a: Array) -> Array:
    """An orthonormal basis (…, m, k) of the columns of a (…, m, k), k ≤ m, by QR."""
    q: Array = module_of(a).linalg.qr(a)[0]
    return q


def completed(a: Array) -> Array:
    """An orthonormal basis (…, m, m) whose first columns span those of a (…, m, k)."""
    q: Array = module_of(a).linalg.qr(a, mode="complete")[0]
    return q
