"""Factors of one layer at any rank, and what each rank misses: what is expensive is done once for all ranks.

Every Ŵ is, up to the ridge, as much further from y than the best W* (``moments.py``) is, as

    tr((W* − Ŵ)·(xx + λ)·(W* − Ŵ)ᵀ)              b̂ = ȳ − Ŵ·x̄

The ways to such factors are in ``channel_fits.py`` and ``spatial_fits.py``.

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
from minicaffe.low_rank.schemes import Scheme

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
