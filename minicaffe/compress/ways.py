"""Three ways to choose the r directions that a layer of low rank keeps, and what each loses, at every rank at once.

    ``weights``   Ŵ = U·Uᵀ·W     U (m, r): leading left singular vectors of W (Eckart and Young 1936)
    ``data``      Ŵ = W·Q·Qᵀ     Q (k, r): principal components of the data, of E[x·xᵀ] (Osawa et al. 2017)
    ``fitted``    Ŵ = V·Vᵀ·W     V (m, r): those of the answers, with a ridge λ; b̂ = b + (W − Ŵ)·x̄

V are the leading eigenvectors of W·(Cov(x) + λ)·Wᵀ, as ``ChannelFits`` has them and ``lowrank select`` fits them.
Without λ they would be those of Cov(W·x), and lose least of the inputs that they are found for. λ stands for what
these inputs have not shown, so it is small for many of them: V is to lose little of others too.

The answers are y = W·x + b, in each of g groups. Each way projects, so that what is lost at rank r is a sum with a
term for each direction beyond the r-th. One factorization gives the errors at all ranks, over the inputs that it is
made of.

    weights   E‖y − ŷ‖² = Σ_{i>r} u_iᵀ·E[W·x·xᵀ·Wᵀ]·u_i        ‖W − Ŵ‖² = Σ_{i>r} σ_i²
    data      E‖y − ŷ‖² = Σ_{i>r} λ_i·‖W·q_i‖²                 ‖W − Ŵ‖² = Σ_{i>r} ‖W·q_i‖²
    fitted    E‖y − ŷ‖² = Σ_{i>r} v_iᵀ·Cov(W·x)·v_i            ‖W − Ŵ‖² = Σ_{i>r} ‖Wᵀ·v_i‖²

All in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.channel_fits import ChannelFits
from minicaffe.compress.moments import Moments
from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import leading_eigenvectors
from minicaffe.low_rank.schemes import ChannelScheme


@dataclass(frozen=True)
class Directions:
    """What one way keeps, the most important first; n = min(m, k) is the full rank.

    ``vectors``: (g, m, n) of the answers, or for ``data`` (g, k, n) of the inputs. ``spectrum`` (g, n): σ of W, √λ
    of the data, or the answers' standard deviations along the vectors. The others have n + 1 entries, for ranks 0
    to n:

    ``response_errors``   √(E‖y − ŷ‖² / E‖W·x‖²), which in NumPy is norm(y - y_hat) / norm(w @ x)
    ``weight_errors``     ‖W − Ŵ‖ / ‖W‖
    ``energy``            the share that is kept of Σ ``spectrum``²
    """

    vectors: Array
    spectrum: Array
    response_errors: Array
    weight_errors: Array
    energy: Array


def of_weights(w: Array, moments: Moments) -> Directions:
    """The singular vectors of w (g, m, k)."""
    xp, w = module_of(w), w.astype(np.float64)
    squares, u = leading_eigenvectors(w @ w.swapaxes(1, 2))  # cheaper than the SVD of W, which is long
    squares, rows = xp.maximum(squares, 0), u.swapaxes(1, 2) @ w
    lost = xp.einsum("gmk,gmk->gm", moments.times_second(rows), rows)
    return _directions(u, xp.sqrt(squares), lost, squares, squares, w, moments)


def of_data(w: Array, moments: Moments) -> Directions:
    """The principal components of the inputs. Means are not subtracted: the bias stays as it is."""
    xp, w = module_of(w), w.astype(np.float64)
    values, q = leading_eigenvectors(moments.second)
    values = xp.maximum(values, 0)  # rounding
    weights = ((w @ q) ** 2).sum(axis=1)  # ‖W·q_i‖²
    return _directions(q, xp.sqrt(values), values * weights, weights, values, w, moments)


def of_answers(w: Array, moments: Moments) -> Directions:
    """The principal components of the answers, but for the ridge."""
    xp, w = module_of(w), w.astype(np.float64)
    scheme = ChannelScheme((w.shape[0] * w.shape[1], w.shape[2], 1, 1), len(w))
    v = ChannelFits(scheme, moments.of_answers(w), w).components(w.shape[1])
    rows = v.swapaxes(1, 2) @ w
    lost = xp.maximum(xp.einsum("gnk,gnk->gn", moments.times(rows), rows), 0)
    return _directions(v, xp.sqrt(lost), lost, (rows * rows).sum(axis=2), lost, w, moments)


WAYS: dict[str, Callable[[Array, Moments], Directions]] = {
    "weights": of_weights,
    "data": of_data,
    "fitted": of_answers,
}


def _directions(
    vectors: Array, spectrum: Array, lost: Array, weights: Array, energy: Array, w: Array, moments: Moments
) -> Directions:
    """From what each direction (g, …) adds to E‖y − ŷ‖², to ‖W − Ŵ‖² and to the energy."""
    xp, n = module_of(w), min(w.shape[1:])
    answers = xp.einsum("gmk,gmk->", moments.times_second(w), w)

    def root(squares: Array, total: Array) -> Array:
        found: Array = xp.sqrt(_tails(squares)[: n + 1] / (total + (total == 0)))
        return found

    total = energy.sum()
    kept = 1 - _tails(energy)[: n + 1] / (total + (total == 0))
    return Directions(
        vectors[..., :n], spectrum[:, :n], root(lost, answers), root(weights, (w * w).sum()), kept
    )


def _tails(terms: Array) -> Array:
    """Of terms (g, n) the sums over all groups from the r-th term on, for r = 0 … n."""
    xp = module_of(terms)
    tails: Array = xp.concatenate([xp.cumsum(terms.sum(axis=0)[::-1])[::-1], xp.zeros(1)])
    return tails
