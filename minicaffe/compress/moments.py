"""Inputs and responses of a layer over some batches: means and covariances of data matrix columns and responses.

With columns x (K) of the data matrix and the responses y (M) that are wanted for them,

    xx = E[(x − x̄)(x − x̄)ᵀ]     yx = E[(y − ȳ)(x − x̄)ᵀ]

are all that least squares needs, beside weights P (the dense layer's) to stay near to where they say little:

    W* = (yx + λ·P)·(xx + λ)⁻¹          b̂ = ȳ − W*·x̄

The inputs may be those of a net that is approximated already, while the
responses are the original net's (asymmetric fitting: Zhang et al. 2015, arXiv 1505.06798, section 2.3).

Least squares is asked for here, as it depends on how the moments are kept: as matrices of K × K, or, where there
are fewer columns than K, as the columns themselves (``columns.py``).
"""

from __future__ import annotations

import numpy as np

from minicaffe.compress.lazy import cached_property
from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import leading_eigenvectors

RIDGE = 1e-4  # of the mean variance of x
NEGLIGIBLE = 1e-5  # of the size of y: a bias that is rounding


class Moments:
    """Of g groups: x_mean (g, k), y_mean (g, m), xx (g, k, k), yx (g, m, k), and yy (g, m), the variances of y.

    ``own`` (g, m, k): the weights w, where y is the layer's own w·x + b; it is not copied. ``count``: the columns
    that they are estimated from; None: they are taken to be exact.
    """

    def __init__(
        self,
        x_mean: Array,
        y_mean: Array,
        xx: Array,
        yx: Array,
        yy: Array,
        own: Array | None = None,
        count: int | None = None,
    ) -> None:
        self.x_mean, self.y_mean, self.yy, self.own, self.count = x_mean, y_mean, yy, own, count
        self._xx, self._yx = xx, yx

    @property
    def xx(self) -> Array:
        """Cov(x) (g, k, k)."""
        return self._xx

    @property
    def yx(self) -> Array:
        """Cov(y, x) (g, m, k)."""
        return self._yx

    @property
    def second(self) -> Array:
        """E[x·xᵀ] (g, k, k), not centred: what a basis of the data itself is made of."""
        second: Array = self.xx + self.x_mean[:, :, None] * self.x_mean[:, None, :]
        return second

    def uncentred(self) -> Moments:
        """The same, with means taken as zero: for a layer that has no bias to make up for them."""
        xy = self.y_mean[:, :, None] * self.x_mean[:, None, :]
        yy = self.yy + self.y_mean * self.y_mean
        none = 0 * self.x_mean, 0 * self.y_mean
        return Moments(*none, self.second, self.yx + xy, yy, self._own_without_bias(), self.count)

    def _own_without_bias(self) -> Array | None:
        """The layer's own weights where it has no bias: else y is not w·x."""
        if self.own is None:
            return None
        bias = self.y_mean - self._means(self.own)
        size = float((self.yy + self.y_mean * self.y_mean).mean()) ** 0.5
        return self.own if float(abs(bias).max()) <= NEGLIGIBLE * size else None

    def of_group(self, group: int) -> Moments:
        """Those of one group, in arrays of one group."""
        one = slice(group, group + 1)
        own = None if self.own is None else self.own[one]
        parts = (self.x_mean[one], self.y_mean[one], self.xx[one], self.yx[one], self.yy[one])
        return Moments(*parts, own, self.count)

    def of_answers(self, w: Array) -> Moments:
        """The same with the answers w·x of weights (g, m, k) for the responses."""
        yx = self.times(w)
        return Moments(self.x_mean, self._means(w), self.xx, yx, (yx * w).sum(axis=2), w, self.count)

    def _means(self, w: Array) -> Array:
        means: Array = (w @ self.x_mean[:, :, None])[:, :, 0]
        return means

    def times(self, w: Array) -> Array:
        """w·xx (g, r, k) for w (g, r, k)."""
        product: Array = w @ self.xx
        return product

    def times_second(self, w: Array) -> Array:
        """w·E[x·xᵀ] (g, r, k)."""
        product: Array = self.times(w) + self._means(w)[:, :, None] * self.x_mean[:, None, :]
        return product

    @property
    def ridge(self) -> Array:
        """λ (g, 1, 1), which is added to the variances of x: a small share of their mean, and never 0.

        It grows with k / n, as if k more columns had been seen that are white noise: what n columns have not shown
        is not free. Without that, factors fitted to a few images may miss several times as much of the responses to
        others.
        """
        xp, rows = module_of(self.x_mean), self.x_mean.shape[1]
        variance, power = (a[:, None, None] for a in self._sizes)
        share = RIDGE
        if self.count is not None:
            share += min(1.0, rows / self.count)
        rounding = np.finfo(np.float32).eps ** 2 * power  # what rounding x looks like
        ridge: Array = xp.maximum(share * variance, rounding)
        ridge += ridge == 0
        return ridge

    @cached_property
    def _sizes(self) -> tuple[Array, Array]:
        return self.sizes()

    def sizes(self) -> tuple[Array, Array]:
        """Mean variance and mean square of the elements of x, (g,) each."""
        variance: Array = module_of(self.x_mean).trace(self.xx, axis1=1, axis2=2) / self.x_mean.shape[1]
        return variance, variance + (self.x_mean * self.x_mean).mean(axis=1)

    def ridged(self) -> Array:
        """xx + λ (g, k, k)."""
        ridged: Array = self.xx + self.ridge * module_of(self.x_mean).eye(self.x_mean.shape[1])
        return ridged

    def target(self, prior: Array) -> Array:
        """yx + λ·P (g, m, k), which is W*·(xx + λ), for a prior P (g, m, k)."""
        target: Array = self.yx + self.ridge * self.known(prior)
        return target

    def known(self, prior: Array) -> Array:
        """What W* stays near to where the moments say little: the layer's own weights, or else the prior."""
        return prior if self.own is None else self.own

    def best(self, prior: Array) -> Array:
        """W* (g, m, k): the least squares answer, with a ridge that pulls to the prior (g, m, k).

        Where y is the layer's own w·x + b, it is w, and nothing has to be solved.
        """
        if self.own is not None:
            return self.own.astype(np.float64)
        solve = module_of(self.x_mean).linalg.solve
        best: Array = solve(self.ridged(), self.target(prior).swapaxes(1, 2)).swapaxes(1, 2)
        return best

    def main_answers(self, best: Array, prior: Array, rank: int | None = None) -> tuple[Array, Array]:
        """Eigenvalues (g, n) and eigenvectors (g, m, n) of W*·(xx + λ)·W*ᵀ, the largest first.

        They are all m here. Columns that are fewer than m give fewer, but at least ``rank``.
        """
        return leading_eigenvectors(self.target(prior) @ best.swapaxes(1, 2))

    def main_inputs(self, rank: int | None = None) -> tuple[Array, Array]:
        """The leading eigenvalues (g, r) and eigenvectors (g, k, r) of E[x·xᵀ]."""
        return leading_eigenvectors(self.second, rank)

    # Of one group, with k = (a, j): rows a = (channel, row) and columns j of the window.

    def between_rows(self, t: Array) -> Array:
        """Σ_jj' t[j, j']·xx[(a, j), (a', j')] (a, a') for t (kw, kw)."""
        between: Array = module_of(t).einsum("ajbk,jk->ab", self._window(len(t)), t)
        return between

    def between_columns(self, s: Array, kw: int) -> Array:
        """Σ_aa' s[a, a']·xx[(a, j), (a', j')] (j, j') for s (a, a)."""
        between: Array = module_of(s).einsum("ajbk,ab->jk", self._window(kw), s)
        return between

    def through(self, v: Array, kw: int) -> Array:
        """What v (r, a) makes of the inputs, with all inputs: (r, j, a, j')."""
        through: Array = module_of(v).tensordot(v, self._window(kw), axes=(1, 0))
        return through

    def within(self, v: Array, kw: int) -> Array:
        """What v (r, a) makes of the inputs, with itself: (r·kw, r·kw)."""
        within = module_of(v).tensordot(self.through(v, kw), v, axes=(2, 1))
        size = len(v) * kw
        ordered: Array = within.transpose(0, 1, 3, 2).reshape(size, size)
        return ordered

    def _window(self, kw: int) -> Array:
        rows = self.x_mean.shape[1] // kw
        window: Array = self.xx.reshape(rows, kw, rows, kw)
        return window
