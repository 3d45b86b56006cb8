"""Three ways to the leading singular vectors of a matrix.

    X (m × n) ≈ U · diag(s) · Vᵀ,  rank r,     ‖X − X̂‖_F² = Σ_{i>r} s_i²  for the best of them (Eckart, Young 1936)

``svd``         LAPACK's or cuSOLVER's SVD of X itself.
``gram``        eigenvectors of the smaller of X·Xᵀ and Xᵀ·X (syevd): cheaper where X is long; half the digits of
                small singular values are lost, so it computes in float64.
``randomized``  a range finder (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4): X is multiplied
                with a few random vectors; power iterations then turn the result towards the leading vectors.

All take stacks of matrices (…, m, n), as the groups of a convolution are, on NumPy or CuPy arrays. ``Truncation``
is the matrix of rank r that such triplets make, with its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.device.array import Array, module_of, to_host
from minicaffe.ops import linalg
from minicaffe.ops.linalg import orthonormal

POWER_ITERATIONS = 2
OVERSAMPLING = 8  # more random vectors than the rank: the last ones found are the least exact


@dataclass(frozen=True)
class Svd:
    """Leading singular triplets: u (…, m, r), s (…, r) descending, vt (…, r, n).

    ``total`` is ‖X‖_F² of the whole stack and ``tail`` the part that is left out: float64 scalars on the device.
    """

    u: Array
    s: Array
    vt: Array
    total: Array
    tail: Array

    @property
    def rank(self) -> int:
        """r."""
        return int(self.s.shape[-1])

    @property
    def energy(self) -> float:
        """The share of ‖X‖_F² that the triplets have, in 0 … 1."""
        return 1.0 - float(self.tail) / float(self.total) if self.total else 1.0

    def truncate(self, rank: int) -> Svd:
        """The leading ``rank`` triplets."""
        tail = self.tail + _squares(self.s[..., rank:])
        return Svd(self.u[..., :rank], self.s[..., :rank], self.vt[..., :rank, :], self.total, tail)

    def rank_for(self, energy: float) -> int:
        """The smallest rank with this share of ‖X‖_F², at least 1; the whole rank where even that has less."""
        squares = to_host(self.s).astype(np.float64).reshape(-1, self.rank) ** 2
        reached = np.cumsum(squares.sum(axis=0))
        rounding = 4 * np.finfo(self.s.dtype).eps  # by which all squares together may miss the total
        needed = energy * float(self.total) * (1 - rounding)
        return min(self.rank, int(np.searchsorted(reached, needed)) + 1)

    def factors(self) -> tuple[Array, Array]:
        """X̂ as left (…, m, r) · right (…, r, n), both with the root of the singular values."""
        root = module_of(self.s).sqrt(self.s)
        return self.u * root[..., None, :], root[..., :, None] * self.vt


def svd(x: Array) -> Svd:
    """All singular triplets, by SVD."""
    u, s, vt = linalg.svd(x)
    return Svd(u, s, vt, _squares(x), _squares(s[..., :0]))


def gram(x: Array) -> Svd:
    """All singular triplets, by the eigenvectors of the smaller Gram matrix, in float64."""
    xp = module_of(x)
    if x.shape[-2] > x.shape[-1]:
        turned = gram(x.swapaxes(-1, -2))
        return Svd(turned.vt.swapaxes(-1, -2), turned.s, turned.u.swapaxes(-1, -2), turned.total, turned.tail)
    wide = x.astype(np.float64)
    values, vectors = leading_eigenvectors(wide @ wide.swapaxes(-1, -2))
    s = xp.sqrt(xp.maximum(values, 0))
    smallest = np.finfo(np.float64).eps * xp.maximum(s[..., :1], np.finfo(np.float64).tiny)
    vt = (vectors.swapaxes(-1, -2) @ wide) / xp.maximum(s, smallest)[..., :, None]
    return Svd(
        vectors.astype(x.dtype), s.astype(x.dtype), vt.astype(x.dtype), _squares(x), _squares(s[..., :0])
    )


def leading_eigenvectors(g: Array, rank: int | None = None) -> tuple[Array, Array]:
    """Eigenvalues (…, r), the largest first, and eigenvectors (…, m, r) of symmetric g (…, m, m)."""
    values, vectors = linalg.eigh(g)
    return values[..., ::-1][..., :rank], vectors[..., ::-1][..., :rank]


def randomized(
    x: Array,
    rank: int,
    rng: Any,
    power_iterations: int = POWER_ITERATIONS,
    oversampling: int = OVERSAMPLING,
) -> Svd:
    """The leading ``rank`` triplets, by a range finder that starts from random vectors of ``rng``."""
    xp = module_of(x)
    width = min(rank + oversampling, *x.shape[-2:])
    start = x @ rng.standard_normal((*x.shape[:-2], x.shape[-1], width), dtype=x.dtype)
    basis = find_range(lambda q: x @ (x.swapaxes(-1, -2) @ q), start, power_iterations)
    u, s, vt = linalg.svd(basis.swapaxes(-1, -2) @ x)
    total = _squares(x)
    found = Svd(basis @ u, s, vt, total, xp.maximum(total - _squares(s), 0))
    return found.truncate(min(rank, found.rank))


def find_range(apply: Callable[[Array], Array], start: Array, iterations: int) -> Array:
    """An orthonormal basis (…, m, k) near the leading eigenvectors of a symmetric operator.

    ``apply(q)`` is X·(Xᵀ·q); it is called ``iterations`` times, with the basis made orthonormal before each.
    """
    basis = orthonormal(start)
    for _ in range(iterations):
        basis = orthonormal(apply(basis))
    return basis


def _squares(x: Array) -> Array:
    """‖x‖_F², summed in float64."""
    wide = x.astype(np.float64)
    total: Array = (wide * wide).sum()
    return total


SMALLEST_GAP = 1e-4  # of σ_i², relative: T_r jumps where σ_r = σ_{r+1}, and has no gradient there


class Truncation:
    """The best approximation of rank r of a stack of matrices, from an SVD of at least r triplets; its gradient.

        T_r(W) = Σ_{i≤r} σ_i u_i v_iᵀ

    Its derivative is symmetric. With Ĝ = Uᵀ·G·V for a gradient G of the loss with respect to T_r(W), and i ≤ r < j,
    the gradient with respect to W is

        Ĝ_ii'                                          between retained vectors
        (σ_i²·Ĝ_ij + σ_i·σ_j·Ĝ_ji) / (σ_i² − σ_j²)     from retained u_i to discarded v_j, and from v_i to u_j alike
        0                                              between discarded vectors

    (Feppon and Lermusiaux 2018, doi 10.1137/16M1095202). Only the rows and columns of Ĝ with a retained vector are
    needed, so the gradients of the two factors suffice: G·rightᵀ and leftᵀ·G. At full rank T_r(W) = W, and the
    gradient is G. Where a retained singular value is 0 below full rank, T_r has no derivative: weights that are all
    0 do not learn.
    """

    def __init__(self, svd: Svd, rank: int) -> None:
        self.svd = svd
        self.leading = svd.truncate(rank)
        m, n = svd.u.shape[-2], svd.vt.shape[-1]
        self.is_full = rank == min(m, n)
        self.left, self.right = self._whole(m, n) if self.is_full else self.leading.factors()

    def _whole(self, m: int, n: int) -> tuple[Array, Array]:
        """W as the product of W and an identity."""
        xp, s = module_of(self.svd.s), self.svd.s
        w = (self.svd.u * s[..., None, :]) @ self.svd.vt
        identity = xp.broadcast_to(xp.eye(min(m, n), dtype=s.dtype), (*s.shape[:-1], min(m, n), min(m, n)))
        return (identity, w) if m <= n else (w, identity)

    def gradient(self, dleft: Array, dright: Array) -> Array:
        """The gradient of W (…, m, n) from those of the factors (…, m, r) and (…, r, n)."""
        if self.is_full:
            return dright if self.left.shape[-2] <= self.right.shape[-1] else dleft
        u, s, vt = self.leading.u, self.leading.s, self.leading.vt
        inverse_root = _inverse(module_of(s).sqrt(s))
        columns = dleft * inverse_root[..., None, :]  # G·V₁
        rows = inverse_root[..., :, None] * dright  # U₁ᵀ·G
        dw: Array = u @ rows + (columns - u @ (u.swapaxes(-1, -2) @ columns)) @ vt
        rank = self.leading.rank
        if rank == self.svd.rank:
            return dw
        discarded_u, discarded_vt = self.svd.u[..., rank:], self.svd.vt[..., rank:, :]
        retained, discarded = s[..., :, None], self.svd.s[..., None, rank:]
        to_v, to_u = rows @ discarded_vt.swapaxes(-1, -2), columns.swapaxes(-1, -2) @ discarded_u
        scale = discarded / _gaps(retained, discarded)
        dw += u @ (scale * (discarded * to_v + retained * to_u)) @ discarded_vt
        dw += discarded_u @ (scale * (discarded * to_u + retained * to_v)).swapaxes(-1, -2) @ vt
        return dw


def _gaps(retained: Array, discarded: Array) -> Array:
    """σ_i² − σ_j², but never close to 0."""
    differences = (retained - discarded) * (retained + discarded)
    gaps: Array = module_of(retained).maximum(differences, SMALLEST_GAP * retained * retained)
    gaps += gaps == 0
    return gaps


def _inverse(s: Array) -> Array:
    """1/s, and 0 where s vanishes beside the largest."""
    xp = module_of(s)
    vanishes = s <= xp.finfo(s.dtype).eps * s[..., :1]
    inverse: Array = xp.where(vanishes, 0, 1 / xp.where(vanishes, 1, s))
    return inverse
