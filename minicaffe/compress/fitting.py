"""Factors fitted to data: the Ŵ of rank r that minimises E‖y − Ŵ·x − b̂‖², given the moments of x and y.

With centred moments the least squares answer without a bound on the rank is W* = yx·xx⁻¹ (which is W where
y = W·x + b, and the x are the layer's own; a ridge pulls it towards W where the x say little), and every Ŵ is as
far from the best as

    tr((W* − Ŵ)·xx·(W* − Ŵ)ᵀ) + const,       b̂ = ȳ − Ŵ·x̄

``fit_channel``   closed form: the first r principal components U of the responses W*·x, Ŵ = U·(Uᵀ·W*) (reduced-rank
                  regression, Izenman 1975; for convolutions Zhang et al. 2015, arXiv 1505.06798).
``fit_data``      no fit of W: the principal components of the data themselves (Osawa et al. 2017).
``fit_basis``     a basis of the data too, but that of ``fit_channel``, which is chosen for the responses.
``fit_spatial``   alternating least squares for the two windows, from the truncated SVD of W*.

All in float64. Shapes, for each of g groups: W (m, k) with k = (channel, row, column) of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import leading_eigenvectors, svd
from minicaffe.low_rank.schemes import ChannelScheme, Scheme, SpatialScheme
from minicaffe.ops.linalg import orthonormal

RIDGE = 1e-4  # of the mean variance of x
SMALLEST = 1e-30  # on a diagonal, so that zeros can be divided by
SWEEPS = 12
ENOUGH = 1e-3  # of what is missed: a sweep that gains less is the last
CONJUGATE_STEPS = 12


@dataclass
class Fit:
    """Factors left (g, m, r) · right (g, r, n) of a scheme's matrix, and the bias (M,).

    ``energy``: the share that they keep of the responses' variance, or for a data basis of the data's energy.
    """

    left: Array
    right: Array
    bias: Array
    energy: float


def fit(scheme: Scheme, moments: Moments, rank: int, prior: Array | None = None) -> Fit:
    """The factors of this rank, by the scheme's own way.

    ``prior``: weights (M, C/g, kh, kw) to stay near to where the moments say little: the dense ones.
    """
    best, xx = best_weights(moments, 0 if prior is None else prior.reshape(moments.yx.shape))
    if isinstance(scheme, ChannelScheme):
        left, right = balanced(*fit_channel(scheme, best, xx, rank))
    else:
        left, right = balanced(*fit_spatial(scheme, best, xx, rank))
    weights = scheme.weights(left @ right).reshape(best.shape)
    return Fit(left, right, _bias(weights, moments), 1 - _missed(weights, moments))


def best_weights(moments: Moments, prior: Array | float = 0) -> tuple[Array, Array]:
    """W* = (yx + λ·prior)·(xx + λ)⁻¹ (g, m, k), and xx + λ."""
    ridge, xx = ridged(moments)
    xp = module_of(xx)
    return xp.linalg.solve(xx, (moments.yx + ridge * prior).swapaxes(1, 2)).swapaxes(1, 2), xx


def ridged(moments: Moments) -> tuple[Array, Array]:
    """λ (g, 1, 1), and xx + λ (g, k, k)."""
    xp = module_of(moments.xx)
    size = moments.xx.shape[-1]
    variance, power = (
        xp.trace(a, axis1=1, axis2=2)[:, None, None] / size for a in (moments.xx, moments.second)
    )
    ridge = xp.maximum(RIDGE * variance, np.finfo(np.float32).eps ** 2 * power)  # what rounding x looks like
    ridge = ridge + (ridge == 0)
    return ridge, moments.xx + ridge * xp.eye(size)


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


def _bias(weights: Array, moments: Moments) -> Array:
    """b̂ = ȳ − Ŵ·x̄, (M,)."""
    bias: Array = moments.y_mean - (weights @ moments.x_mean[:, :, None])[:, :, 0]
    return bias.reshape(-1)


def _missed(weights: Array, moments: Moments) -> float:
    """E‖y − ŷ‖² as a share of the variance of y."""
    quadratic = (weights @ moments.xx * weights).sum() - 2 * (weights * moments.yx).sum()
    total = float(moments.yy.sum())
    return max(0.0, 1 + float(quadratic) / total) if total else 0.0


def fit_basis(scheme: ChannelScheme, moments: Moments, rank: int, prior: Array | None = None) -> Fit:
    """A basis Q of the data that is chosen for the responses: right Qᵀ, left the best answer to Qᵀ·x.

    It is ``fit_channel`` with an orthonormal right factor; beyond the rank of W* the principal components of the
    data follow.
    """
    found = fit(scheme, moments, min(rank, *scheme.matrix_shape), prior)
    _, components = leading_eigenvectors(moments.second, rank)
    candidates = module_of(components).concatenate([found.right.swapaxes(1, 2), components], axis=2)
    q = orthonormal(candidates[..., : scheme.matrix_shape[1]])[..., :rank]
    return Fit(found.left @ (found.right @ q), q.swapaxes(1, 2), found.bias, found.energy)


def fit_data(scheme: ChannelScheme, moments: Moments, rank: int, w: Array, bias: Array | None = None) -> Fit:
    """The basis Q of the data that keeps most of their energy: left w·Q, right Qᵀ; w and the bias stay the same."""
    values, q = leading_eigenvectors(moments.second)
    q = q[..., :rank]
    total = float(values.sum())
    kept = float(values[..., :rank].sum()) / total if total else 1.0
    bias = module_of(q).zeros(scheme.shape[0]) if bias is None else bias
    return Fit(scheme.matrix(w) @ q, q.swapaxes(1, 2), bias, kept)


def fit_channel(scheme: ChannelScheme, best: Array, xx: Array, rank: int) -> tuple[Array, Array]:
    """left (g, m, r) orthonormal, right = leftᵀ·W* (g, r, k)."""
    _, components = leading_eigenvectors(best @ xx @ best.swapaxes(1, 2), rank)
    return components, components.swapaxes(1, 2) @ best


def fit_spatial(scheme: SpatialScheme, best: Array, xx: Array, rank: int) -> tuple[Array, Array]:
    """left (g, C/g·kh, r), right (g, r, m·kw)."""
    start = svd(scheme.matrix(best.reshape(scheme.shape))).truncate(rank)
    vertical = start.u.swapaxes(1, 2)  # (g, r, C/g·kh)
    # group by group: their matrices are small
    pairs = [_alternate(vertical[g], best[g], xx[g], scheme.shape[3]) for g in range(scheme.group)]
    xp = module_of(best)
    left = xp.stack([v.T for v, _ in pairs])
    right = xp.stack([h.transpose(1, 0, 2).reshape(rank, -1) for _, h in pairs])
    return left, right


def _alternate(v: Array, best: Array, xx: Array, kw: int) -> tuple[Array, Array]:
    """Alternating least squares for one group: V (r, a) and H (m, r, kw), Ŵ[m, (a, j)] = Σ_r H[m, r, j]·V[r, a]."""
    rows = v.shape[1]
    xx = xx.reshape(rows, kw, rows, kw)
    target = (best @ xx.reshape(rows * kw, -1)).reshape(-1, rows, kw)
    everything = float((best * target.reshape(len(target), -1)).sum())
    h, explained = _best_horizontal(v, target, xx)
    for _ in range(SWEEPS):
        v = orthonormal(_better_vertical(v, h, target, xx).T).T  # what that changes, the next h makes up for
        last = explained
        h, explained = _best_horizontal(v, target, xx)
        if explained - last <= ENOUGH * (everything - explained):
            break
    return v, h


def _best_horizontal(v: Array, target: Array, xx: Array) -> tuple[Array, float]:
    """H (m, r, kw) for a given V, in closed form; and the variance that Ŵ then explains."""
    xp, rank, kw = module_of(v), v.shape[0], xx.shape[1]
    seen = xp.tensordot(v, xx, axes=(1, 0))  # (r, j, a, j'): what V makes of the inputs, with all inputs
    normal = xp.tensordot(seen, v, axes=(2, 1)).transpose(0, 1, 3, 2).reshape(rank * kw, rank * kw)
    right = xp.tensordot(target, v, axes=(1, 1)).transpose(0, 2, 1).reshape(-1, rank * kw)
    normal += (1e-10 * xp.trace(normal) / len(normal) + SMALLEST) * xp.eye(rank * kw)
    h = xp.linalg.solve(normal, right.T).T
    return h.reshape(-1, rank, kw), float((h * right).sum())


def _better_vertical(v: Array, h: Array, target: Array, xx: Array) -> Array:
    """V (r, a) for a given H, by some steps of preconditioned conjugate gradients from the V before."""
    xp, (rank, rows) = module_of(v), v.shape
    weights = xp.tensordot(h, h, axes=(0, 0))  # (r, j, r', j')
    right = xp.tensordot(h, target, axes=((0, 2), (0, 2)))
    mean_h, mean_x = weights.trace(axis1=1, axis2=3), xx.trace(axis1=1, axis2=3) / xx.shape[1]
    solve_h, solve_x = _inverse(mean_h), _inverse(mean_x)

    def apply(v: Array) -> Array:
        seen = xp.tensordot(v, xx, axes=(1, 0)).transpose(3, 0, 1, 2)  # (j, r', j', a)
        product: Array = weights.reshape(rank, -1) @ seen.reshape(-1, rows)
        return product

    return _conjugate_gradients(apply, right, v, lambda r: solve_h @ r @ solve_x)


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
