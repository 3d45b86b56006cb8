"""Factors of the spatial scheme: Ŵ[m, (a, j)] = Σ_r H[m, r, j]·V[r, a], rows a = (channel, row) of the window.

For a given V the best H is a least squares answer, and for a given H the best V is one too: alternating least
squares. It starts from a V that is good at once. If the covariances of the inputs were a Kronecker product,
xx = S ⊗ T, with S (a, a) between rows and T (kw, kw) between columns of the window, then the best V of rank r would
be the first r singular vectors of S^½·W·T^½, (a) × (m, kw). Of real inputs the nearest such product (Van Loan and
Pitsianis 1993) is a good guess: alternating least squares gain little more.

As these V of all ranks are the first rows of one another, one Cholesky factorization L·Lᵀ of the normal matrix of
H, ordered by rank, has those of all ranks in it. With the right-hand sides B, rank r explains what the first r·kw
rows of L⁻¹·B have in squares.

``missed`` has what these V miss: but for the ridge, a bound from above of what ``fit`` misses, which alternates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minicaffe.compress.layer_fits import Fit, LayerFits, balanced
from minicaffe.compress.lazy import cached_property
from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import one_blas_thread
from minicaffe.low_rank.factorization import leading_eigenvectors
from minicaffe.low_rank.schemes import SpatialScheme
from minicaffe.ops.linalg import cholesky, orthonormal

SMALLEST = 1e-30  # on a diagonal, so that zeros can be divided by
KRONECKER_STEPS = 2
SWEEPS = 12
ENOUGH = 1e-3  # of what is missed: a sweep that gains less is the last
CONJUGATE_STEPS = 4
RIDGE_STEP = 1e-4  # of λ, for a derivative


class SpatialFits(LayerFits):
    """``fit`` and ``missed`` for the spatial scheme."""

    scheme: SpatialScheme

    def start(self, rank: int) -> Fit:
        with one_blas_thread():
            return self._made_of([group.start(rank) for group in self._groups])

    def _fit(self, rank: int) -> Fit:
        return self._made_of([group.alternate(rank) for group in self._groups])

    def _made_of(self, pairs: Sequence[tuple[Array, Array]]) -> Fit:
        """The fit of each group's V and H: group by group, as their matrices are small."""
        rank, xp = len(pairs[0][0]), module_of(self.best)
        left = xp.stack([v.T for v, _ in pairs])
        right = xp.stack([h.transpose(1, 0, 2).reshape(rank, -1) for _, h in pairs])
        weights = self.scheme.weights(left @ right).reshape(self.best.shape)
        bias = self.seen.y_mean - (weights @ self.seen.x_mean[:, :, None])[:, :, 0]
        return Fit(*balanced(left, right), bias.reshape(-1), 1 - self._missed_by(weights))

    def _missed_by(self, weights: Array) -> float:
        """The share that is missed by weights (g, m, k) whose H is the best for their V."""
        if not self.variance:
            return 0.0
        explained = float((weights * self._target).sum() + self.beside_ridge(weights))
        return max(0.0, 1 - explained / self.variance)

    @cached_property
    def _missed(self) -> np.ndarray:
        """Beyond the rank at which two factors are as large as W, it is on a straight line to what W* misses."""
        rows, columns = self.scheme.matrix_shape
        most = max(1, rows * columns // (rows + columns))
        explained = module_of(self.best).stack([group.explained(most) for group in self._groups]).sum(axis=0)
        return self.down_to_least(self.shares(explained), self.full_rank)

    @cached_property
    def _target(self) -> Array:
        """W*·(xx + λ) (g, m, k)."""
        return self.seen.target(self.prior)

    @cached_property
    def _groups(self) -> list[_Group]:
        kw = self.scheme.shape[3]
        return [
            _Group(
                self.seen.of_group(g),
                self.best[g],
                self._target[g],
                self.prior[g],
                float(self.ridge[g, 0, 0]),
                kw,
            )
            for g in range(self.scheme.group)
        ]


class _Group:
    """One group: ``best``, ``target`` and ``prior`` (m, k)."""

    def __init__(
        self, seen: Moments, best: Array, target: Array, prior: Array, ridge: float, kw: int
    ) -> None:
        self.seen, self.ridge, self.kw = seen, ridge, kw
        self.best = best.reshape(len(best), -1, kw)  # (m, a, j)
        self.target = target.reshape(self.best.shape)
        self.prior = prior.reshape(self.best.shape)
        self.everything = float((self.best * self.target).sum())

    @cached_property
    def basis(self) -> Array:
        """V of the highest rank, with orthonormal rows; the first r of them are the V of rank r."""
        xp, (filters, rows, kw) = module_of(self.best), self.best.shape
        t = xp.eye(kw)
        for _ in range(KRONECKER_STEPS):
            t = t / (xp.trace(t) / kw)
            s = self.seen.between_rows(t) / kw + self.ridge * xp.eye(rows)
            t = self.seen.between_columns(s, kw)
            t = t + (self.ridge * xp.trace(s) + SMALLEST) * xp.eye(kw)
        s_root, t_root = cholesky(s), cholesky(t / (xp.trace(t) / kw))
        weights = s_root.T @ (self.best @ t_root).transpose(1, 0, 2).reshape(rows, -1)
        _, found = leading_eigenvectors(weights @ weights.T, min(rows, filters * kw))
        return orthonormal(xp.linalg.solve(s_root.T, found)).T

    def explained(self, most: int) -> Array:
        """The variance that each further rank explains, (most,), with the V of ``basis`` and the best H for these.

        The best H explains E with the ridge. Without it that H explains E − λ·dE/dλ, as a small change of H adds
        nothing to E.
        """
        v, step = self.basis[:most], RIDGE_STEP * self.ridge
        normal, right = self._normal(v), self._right(v)
        found = self._explained_with_ridge(normal, right)
        normal += step * module_of(v).eye(len(normal))
        right += step * self._with(self.prior, v)
        return found - (self._explained_with_ridge(normal, right) - found) / RIDGE_STEP

    def _explained_with_ridge(self, normal: Array, right: Array) -> Array:
        """E of each further rank, (most,)."""
        xp, (filters, size) = module_of(normal), right.shape
        bordered = xp.empty((size + filters, size + filters))
        bordered[:size, :size] = normal
        bordered[size:, :size] = right
        bordered[:size, size:] = right.T
        # large enough to be positive definite: it has no part in the rows that are wanted
        bordered[size:, size:] = (2 * self.everything + SMALLEST) * xp.eye(filters)
        solved = cholesky(bordered)[size:, :size]
        explained: Array = (solved * solved).sum(axis=0).reshape(-1, self.kw).sum(axis=1)
        return explained

    def start(self, rank: int) -> tuple[Array, Array]:
        """V (r, a) of the basis and the best H (m, r, kw) for it."""
        v = self.basis[:rank]
        return v, self._best_horizontal(v)[0]

    def alternate(self, rank: int) -> tuple[Array, Array]:
        """V (r, a) and H (m, r, kw) by alternating least squares."""
        v = self.basis[:rank]
        h, explained = self._best_horizontal(v)
        for _ in range(SWEEPS):
            v = orthonormal(self._better_vertical(v, h).T).T  # what that changes, the next h makes up for
            last = explained
            h, explained = self._best_horizontal(v)
            if explained - last <= ENOUGH * (self.everything - explained):
                break
        return v, h

    def _best_horizontal(self, v: Array) -> tuple[Array, float]:
        """H (m, r, kw) for a given V, in closed form; and the variance that Ŵ then explains."""
        right = self._right(v)
        h = module_of(v).linalg.solve(self._normal(v), right.T).T
        return h.reshape(-1, len(v), self.kw), float((h * right).sum())

    def _normal(self, v: Array) -> Array:
        """(r·kw, r·kw), for a V with orthonormal rows."""
        xp, normal = module_of(v), self.seen.within(v, self.kw)
        size = len(normal)
        normal += (self.ridge + 1e-10 * xp.trace(normal) / size) * xp.eye(size)
        return normal

    def _right(self, v: Array) -> Array:
        """(m, r·kw)."""
        return self._with(self.target, v)

    def _with(self, weights: Array, v: Array) -> Array:
        """Weights (m, a, kw) times v (r, a): (m, r·kw)."""
        product: Array = module_of(v).tensordot(weights, v, axes=(1, 1)).transpose(0, 2, 1)
        return product.reshape(len(product), -1)

    def _better_vertical(self, v: Array, h: Array) -> Array:
        """V (r, a) for a given H, by some steps of preconditioned conjugate gradients from the V before."""
        xp, (rank, rows), kw = module_of(v), v.shape, self.kw
        weights = xp.tensordot(h, h, axes=(0, 0))  # (r, j, r', j')
        right = xp.tensordot(h, self.target, axes=((0, 2), (0, 2)))
        mean_h = weights.trace(axis1=1, axis2=3)
        solve_h, solve_x = _inverse(mean_h), self._inverse_of_rows

        def apply(v: Array) -> Array:
            seen = self.seen.through(v, kw).transpose(3, 0, 1, 2)  # (j, r', j', a)
            product: Array = weights.reshape(rank, -1) @ seen.reshape(-1, rows)
            product += self.ridge * (mean_h @ v)
            return product

        return _conjugate_gradients(apply, right, v, lambda r: solve_h @ r @ solve_x)

    @cached_property
    def _inverse_of_rows(self) -> Array:
        """Of the second moments of the rows, averaged over the columns of the window."""
        xp, kw = module_of(self.best), self.kw
        mean = self.seen.between_rows(xp.eye(kw)) / kw
        return _inverse(mean + self.ridge * xp.eye(len(mean)))


def _inverse(a: Array) -> Array:
    """The inverse of a symmetric matrix, with a little on its diagonal."""
    xp = module_of(a)
    inverse: Array = xp.linalg.inv(a + (1e-8 * xp.trace(a) / len(a) + SMALLEST) * xp.eye(len(a)))
    return inverse


def _conjugate_gradients(
    apply: Callable[[Array], Array], right: Array, x: Array, precondition: Callable[[Array], Array]
) -> Array:
    """A few steps towards the x with apply(x) = right (Hestenes and Stiefel 1952)."""
    residual = right - apply(x)
    direction = z = precondition(residual)
    product = (residual * z).sum()
    for _ in range(CONJUGATE_STEPS):
        applied = apply(direction)
        curvature = (direction * applied).sum()
        if not curvature > 0:
            break
        step = product / curvature
        x = x + step * direction
        residual = residual - step * applied
        z = precondition(residual)
        product, last = (residual * z).sum(), product
        if not product > 1e-20 * last:
            break
        direction = z + product / last * direction
    return x
