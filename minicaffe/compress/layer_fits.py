"""Factors of one layer at any rank, and what each rank misses: what is expensive is done once for all ranks.

Every Ŵ is, up to the ridge, as much further from y than the best W* (``moments.py``) is, as

    tr((W* − Ŵ)·(xx + λ)·(W* − Ŵ)ᵀ)              b̂ = ȳ − Ŵ·x̄

``ChannelFits``   closed form: the first r principal components U of the responses W*·x, Ŵ = U·(Uᵀ·W*) (reduced-rank
                  regression, Izenman 1975; for convolutions Zhang et al. 2015, arXiv 1505.06798).
``SpatialFits``   alternating least squares for the two windows, in ``spatial_fits.py``.
``BasisFits``     a basis of the data (``target: data``), chosen for the responses: that of ``ChannelFits``.
``DataFits``      no fit of W: the principal components of the data themselves (Osawa et al. 2017).

All in float64. Shapes, for each of g groups: W (m, k) with k = (channel, row, column) of the window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.lazy import cached_property
from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of, to_host
from minicaffe.device.workers import one_blas_thread
from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.schemes import ChannelScheme, Scheme
from minicaffe.ops.linalg import orthonormal

ROUNDING = 1e-6  # of a mean


@dataclass
class Fit:
    """Factors left (g, m, r) · right (g, r, n) of a scheme's matrix, and the bias (M,).

    ``energy``: the share that they keep of the responses' variance, or for a data basis of the data's energy.
    """

    left: Array
    right: Array
    bias: Array
    energy: float


class LayerFits(ABC):
    """The fits of one layer in one scheme, given the moments of what it sees.

    ``w``: weights, of the elements of (M, C/g, kh, kw), to stay near to where the moments say little: the dense
    ones. ``prior`` (g, m, k) is these, or the layer's own weights where the moments know them.
    """

    def __init__(self, scheme: Scheme, seen: Moments, w: Array) -> None:
        self.scheme, self.seen = scheme, seen
        self.prior = seen.known(w.reshape(*seen.y_mean.shape, -1))
        self.ridge = seen.ridge

    @property
    def full_rank(self) -> int:
        """The rank that misses no more than W* does."""
        return min(self.scheme.matrix_shape)

    def fit(self, rank: int) -> Fit:
        """The factors of a rank."""
        with one_blas_thread():  # of many small factorizations: several threads mostly wait for each other
            return self._fit(rank)

    def start(self, rank: int) -> Fit:
        """The factors that ``missed`` is of. ``fit`` may have better ones, which take longer."""
        return self.fit(rank)

    def missed(self) -> np.ndarray:
        """E‖y − ŷ‖² as a share of the variance of y, at ranks 0 … full: float64, never rising."""
        with one_blas_thread():
            return self._missed

    @abstractmethod
    def _fit(self, rank: int) -> Fit:
        """What ``fit`` returns."""

    @cached_property
    @abstractmethod
    def _missed(self) -> np.ndarray:
        """What ``missed`` returns."""

    @cached_property
    def best(self) -> Array:
        """W* (g, m, k)."""
        return self.seen.best(self.prior)

    @cached_property
    def variance(self) -> float:
        """Of the responses, all filters together; 0 where it is rounding."""
        seen = self.seen
        variance, power = float(seen.yy.sum()), float((seen.y_mean * seen.y_mean).sum())
        return variance if variance > ROUNDING**2 * power else 0.0

    @cached_property
    def least(self) -> float:
        """The share that W* itself misses."""
        if self.seen.own is not None or not self.variance:
            return 0.0
        everything = (self.best * self.seen.target(self.prior)).sum()
        return max(0.0, 1 - float(everything + self.beside_ridge(self.best)) / self.variance)

    def beside_ridge(self, weights: Array) -> Array:
        """λ·(‖Ŵ‖² − 2·⟨Ŵ, prior⟩): by how much Ŵ (g, m, k) explains more than ⟨Ŵ, W*·(xx + λ)⟩.

        That is what it explains with the ridge, provided that one factor is the best for the other.
        """
        beside: Array = (self.ridge * weights * (weights - 2 * self.prior)).sum()
        return beside

    def shares(self, explained: Array, beside: Array | float = 0.0) -> np.ndarray:
        """What is missed at ranks 0, 1, … from the variance that each further component explains.

        ``beside``: what is explained at each of these ranks beside that.
        """
        sums = np.concatenate([np.zeros(1), np.cumsum(to_host(explained))]) + beside
        missed = 1 - sums / self.variance if self.variance else np.zeros_like(sums)
        found: np.ndarray = np.maximum(np.minimum.accumulate(missed), 0)
        return found

    def down_to_least(self, missed: np.ndarray, rank: int) -> np.ndarray:
        """Shares at ranks 0 … full from those at the first ones: on a line to ``least`` at ``rank``, then that."""
        last = len(missed) - 1
        least = min(self.least, missed[-1]) if last < rank else missed[-1]
        line = np.linspace(missed[-1], least, max(0, rank - last) + 1)[1:]
        return np.concatenate([missed, line, np.full(self.full_rank - max(rank, last), least)])


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


def balanced(left: Array, right: Array) -> tuple[Array, Array]:
    """The same product from factors of equal size: those of its SVD, each with the root of the singular values.

    A step of gradient descent then moves both alike.
    """
    xp = module_of(left)
    q_left, r_left = xp.linalg.qr(left)
    q_right, r_right = xp.linalg.qr(right.swapaxes(-1, -2))
    inner = svd(r_left @ r_right.swapaxes(-1, -2))
    a, b = inner.factors()
    return q_left @ a, b @ q_right.swapaxes(-1, -2)
