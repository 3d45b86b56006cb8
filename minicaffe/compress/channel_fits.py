"""Factors by principal components, for the channel scheme and for bases of the data: in closed form, at any rank.

``ChannelFits``   the first r principal components U of the responses W*·x, Ŵ = U·(Uᵀ·W*) (reduced-rank regression,
                  Izenman 1975; for convolutions Zhang et al. 2015, arXiv 1505.06798).
``BasisFits``     a basis of the data (``target: data``), chosen for the responses: that of ``ChannelFits``.
``DataFits``      no fit of W: the principal components of the data themselves (Osawa et al. 2017).
"""

from __future__ import annotations

import numpy as np

from minicaffe.compress.layer_fits import Fit, LayerFits, balanced
from minicaffe.compress.lazy import cached_property
from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.linalg import orthonormal


class ChannelFits(LayerFits):
    """``fit`` and ``missed`` for the channel scheme, from the principal components of the responses."""

    scheme: ChannelScheme

    def _fit(self, rank: int) -> Fit:
        left = self.components(rank)
        right = left.swapaxes(1, 2) @ self.best
        means = left @ (right @ self.seen.x_mean[:, :, None])
        missed = self._from_main if rank < len(self._from_main) else self._shares(*self._all)
        factors = balanced(left, right)
        return Fit(*factors, (self.seen.y_mean - means[:, :, 0]).reshape(-1), 1 - float(missed[rank]))

    @cached_property
    def _main(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of the covariance of W*·x, with the ridge: of n or all m."""
        return self.seen.main_answers(self.best, self.prior)

    @cached_property
    def _all(self) -> tuple[Array, Array]:
        """All of them, where there are fewer columns than these."""
        return self.seen.main_answers(self.best, self.prior, self._rank_of_best)

    @property
    def _rank_of_best(self) -> int:
        return min(self.scheme.matrix_shape)

    def components(self, rank: int) -> Array:
        """U (g, m, r)."""
        _, found = self._main if rank <= self._main[1].shape[2] else self._all
        return found[..., :rank]

    @cached_property
    def _missed(self) -> np.ndarray:
        """Fewer columns than m show some directions only: beyond, it is on a straight line to what W* misses."""
        return self.down_to_least(self._from_main, self._rank_of_best)

    @cached_property
    def _from_main(self) -> np.ndarray:
        return self._shares(*self._main)

    def _shares(self, values: Array, u: Array) -> np.ndarray:
        """What is missed with the first 0, 1, … of these components."""
        u, values = u[..., : self._rank_of_best], values[..., : self._rank_of_best]
        rows, near = u.swapaxes(1, 2) @ self.best, u.swapaxes(1, 2) @ self.prior
        beside = self.ridge[:, :, 0] * (rows * (rows - 2 * near)).sum(axis=2)
        return self.shares((values + beside).sum(axis=0))


class BasisFits(ChannelFits):
    """The same as a basis Q of the data, for ``target: data``: right Qᵀ, left the best answer to Qᵀ·x.

    Beyond the rank of W* the principal components of the data follow.
    """

    @property
    def full_rank(self) -> int:
        return self.scheme.matrix_shape[1]

    def _fit(self, rank: int) -> Fit:
        found = super()._fit(min(rank, *self.scheme.matrix_shape))
        _, components = self.seen.main_inputs(rank)
        candidates = module_of(components).concatenate([found.right.swapaxes(1, 2), components], axis=2)
        q = orthonormal(candidates[..., : self.full_rank])[..., :rank]
        return Fit(found.left @ (found.right @ q), q.swapaxes(1, 2), found.bias, found.energy)


class DataFits(LayerFits):
    """The basis Q of the data that keeps most of their energy: left w·Q, right Qᵀ; w and the bias stay the same."""

    def __init__(self, scheme: ChannelScheme, seen: Moments, w: Array, bias: Array | None = None) -> None:
        super().__init__(scheme, seen, w)
        self.w = scheme.matrix(w).astype(np.float64)
        self.bias = module_of(w).zeros(scheme.shape[0]) if bias is None else bias

    @property
    def full_rank(self) -> int:
        return self.scheme.matrix_shape[1]

    def _fit(self, rank: int) -> Fit:
        values, q = self._main
        q = q[..., :rank]
        total = float(values.sum())
        kept = float(values[..., :rank].sum()) / total if total else 1.0
        return Fit(self.w @ q, q.swapaxes(1, 2), self.bias, kept)

    @cached_property
    def _main(self) -> tuple[Array, Array]:
        return self.seen.main_inputs()

    @cached_property
    def _missed(self) -> np.ndarray:
        """With E[y·xᵀ] = yx + ȳ·x̄ᵀ, y less the bias: a direction q explains 2·(w·q)·(E[y·xᵀ]·q) − λ·‖w·q‖²."""
        values, q = self._main
        y_mean = self.seen.y_mean - self.bias.reshape(self.seen.y_mean.shape)
        answers = self.w @ q  # (g, m, k)
        wanted = self.seen.yx @ q + y_mean[:, :, None] * (self.seen.x_mean[:, None, :] @ q)
        explained = (answers * (2 * wanted - values[:, None, :] * answers)).sum(axis=(0, 1))
        means = float((y_mean * y_mean).sum())  # is missed without any x
        return self.shares(explained, -means)
