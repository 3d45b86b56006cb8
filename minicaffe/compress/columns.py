"""Moments of fewer columns than rows: the columns X (k, n) of the data matrix and the responses Y (m, n) as such.

With means subtracted and divided by √n, xx = X·Xᵀ and yx = Y·Xᵀ. These would be larger than X and Y, and have no
more in them: xx has rank n. All that least squares needs follows from n × n matrices (Woodbury 1950):

    W* = P + (Y − P·X)·(Xᵀ·X + λ)⁻¹·Xᵀ         for a prior P: (X·Xᵀ + λ)⁻¹·X = X·(Xᵀ·X + λ)⁻¹ on the other side

So InnerProduct layers with many inputs, and late convolutions on few images, need no matrix of k × k.
"""

from __future__ import annotations

import numpy as np

from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import POWER_ITERATIONS, find_range, leading_eigenvectors

SMALLEST = 1e-12  # of the largest eigenvalue: one that is rounding


class Columns(Moments):
    """Moments that keep the columns: x (g, k, n), with ``x_shift`` (g, k) subtracted, and y (g, m, n).

    ``xx``, ``yx`` and ``second`` are made when they are asked for, which is seldom. ``y`` may be left out where
    ``own`` weights are given. ``centred``: the means are those of the columns; else they are taken as zero.
    """

    def __init__(
        self,
        x: Array,
        y: Array | None,
        x_shift: Array,
        y_mean: Array,
        yy: Array,
        own: Array | None = None,
        count: int | None = None,
        centred: bool = True,
    ) -> None:
        self.x, self.y, self.x_shift, self.centred = x, y, x_shift, centred
        self.count, self.columns = count, x.shape[2]
        self.own, self.yy, self.y_mean = own, yy, y_mean
        self.x_mean = x_shift + x.mean(axis=2, dtype=np.float64) if centred else 0 * x_shift

    def inputs(self) -> Array:
        """X (g, k, n) in float64, divided by √n, with the means subtracted if it is centred."""
        inputs: Array = self.x.astype(np.float64)
        inputs += (self.x_shift - self.x_mean)[:, :, None]
        inputs /= self.columns**0.5
        return inputs

    def responses(self, x: Array) -> Array:
        """Y (g, m, n) in float64, like these ``inputs``."""
        if self.own is not None:
            answers: Array = self.own @ x
            return answers
        assert self.y is not None
        y: Array = self.y.astype(np.float64)
        y -= self.y_mean[:, :, None]
        y /= self.columns**0.5
        return y

    def times(self, w: Array) -> Array:
        x = self.inputs()
        return (w @ x) @ x.swapaxes(1, 2)

    def of_answers(self, w: Array) -> Columns:
        answers = w @ self.inputs()
        means, variances = self._means(w), (answers * answers).sum(axis=2)
        return Columns(self.x, None, self.x_shift, means, variances, w, self.count, self.centred)

    @property
    def xx(self) -> Array:
        x = self.inputs()
        return x @ x.swapaxes(1, 2)

    @property
    def yx(self) -> Array:
        x = self.inputs()
        return self.responses(x) @ x.swapaxes(1, 2)

    def sizes(self) -> tuple[Array, Array]:
        x = self.inputs()
        variance = (x * x).sum(axis=2).mean(axis=1)
        return variance, variance + (self.x_mean * self.x_mean).mean(axis=1)

    def uncentred(self) -> Columns:
        yy = self.yy + self.y_mean * self.y_mean
        own = self._own_without_bias()
        y = self.y
        if own is None and self.own is not None:
            x = self.inputs()
            y = self.responses(x) * self.columns**0.5 + self.y_mean[:, :, None]
        return Columns(self.x, y, self.x_shift, 0 * self.y_mean, yy, own, self.count, centred=False)

    def of_group(self, group: int) -> Columns:
        one = slice(group, group + 1)
        y, own = (None if a is None else a[one] for a in (self.y, self.own))
        parts = (self.x_shift[one], self.y_mean[one], self.yy[one])
        return Columns(self.x[one], y, *parts, own, self.count, self.centred)

    def best(self, prior: Array) -> Array:
        if self.own is not None:
            return self.own.astype(np.float64)
        x = self.inputs()
        xp, missed = module_of(x), self.responses(x) - prior @ x
        inner = x.swapaxes(1, 2) @ x + self.ridge * xp.eye(self.columns)
        change = xp.linalg.solve(inner, missed.swapaxes(1, 2)).swapaxes(1, 2)
        best: Array = change @ x.swapaxes(1, 2)
        best += prior
        return best

    def main_answers(self, best: Array, prior: Array, rank: int | None = None) -> tuple[Array, Array]:
        """As ``Moments`` has them.

        Fewer columns than m have answers in n directions only. An orthonormal basis of these, turned some steps
        towards the leading eigenvectors, holds the first n of them nearly.
        """
        answers, ridge = best @ self.inputs(), self.ridge
        if min(best.shape[1:]) <= self.columns or (rank is not None and rank > self.columns):
            covariance = answers @ answers.swapaxes(1, 2) + ridge * (best @ best.swapaxes(1, 2))
            return leading_eigenvectors(covariance)

        def apply(v: Array) -> Array:
            product: Array = answers @ (answers.swapaxes(1, 2) @ v)
            product += ridge * (best @ (best.swapaxes(1, 2) @ v))
            return product

        basis = find_range(apply, answers, POWER_ITERATIONS)
        values, turned = leading_eigenvectors(basis.swapaxes(1, 2) @ apply(basis))
        return values, basis @ turned

    def main_inputs(self, rank: int | None = None) -> tuple[Array, Array]:
        """As ``Moments`` has them; those beyond n, which have no share of the inputs, from the matrix of k × k."""
        whole = Columns(self.x, None, self.x_shift, self.y_mean, self.yy, centred=False).inputs()
        values, turned = leading_eigenvectors(whole.swapaxes(1, 2) @ whole, rank)
        if rank is None or rank > self.columns or (values <= SMALLEST * values[:, :1]).any():
            return leading_eigenvectors(whole @ whole.swapaxes(1, 2), rank)
        vectors = whole @ turned
        return values, vectors / module_of(whole).sqrt(values)[:, None, :]

    def between_rows(self, t: Array) -> Array:
        x = self._window(len(t))
        rows = len(x)
        mixed = module_of(t).tensordot(x, t, axes=(1, 0)).swapaxes(1, 2)
        between: Array = mixed.reshape(rows, -1) @ x.reshape(rows, -1).T
        return between

    def between_columns(self, s: Array, kw: int) -> Array:
        x = self._window(kw)
        seen = (s @ x.reshape(len(x), -1)).reshape(x.shape)
        between: Array = module_of(s).einsum("ajn,akn->jk", seen, x)
        return between

    def through(self, v: Array, kw: int) -> Array:
        x = self._window(kw)
        seen = (v @ x.reshape(len(x), -1)).reshape(len(v) * kw, self.columns)
        through: Array = (seen @ x.reshape(-1, self.columns).T).reshape(len(v), kw, len(x), kw)
        return through

    def within(self, v: Array, kw: int) -> Array:
        x = self._window(kw)
        seen = (v @ x.reshape(len(x), -1)).reshape(len(v) * kw, self.columns)
        within: Array = seen @ seen.T
        return within

    def _window(self, kw: int) -> Array:
        """X (a, j, n) of the only group."""
        x: Array = self.inputs()[0].reshape(self.x.shape[1] // kw, kw, self.columns)
        return x
