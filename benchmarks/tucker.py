"""Tucker-2 of a convolution's weights, and the ranks that variational Bayes sees in them.

    w (M, C, kh, kw) ≈ core (r2, r1, kh, kw), multiplied with outer (M, r2) and inner (C, r1)

It makes three convolutions of one: 1 × 1 from C to r1 channels, kh × kw to r2, 1 × 1 to M. Kim et al. (2016, arXiv
1511.06530) take the ranks by which VBMF explains the two unfoldings of w.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicaffe.device.array import Array

ROUNDS = 50
ENOUGH = 1e-6  # of ‖w‖²: a round that gains less is the last
GRID = 1000  # noises that are tried at once
ROUNDING = float(np.finfo(np.float32).eps)  # of the weights


def tucker2(w: Array, inner_rank: int, outer_rank: int) -> Array:
    """ŵ (M, C, kh, kw) of these ranks, near the best one, in float64.

    Orthogonal iteration: each factor in turn is the best for the other (De Lathauwer, De Moor and Vandewalle 2000,
    doi 10.1137/S0895479898346995).
    """
    w = w.astype(np.float64)
    inner, kept = _leading(w.swapaxes(0, 1), inner_rank), 0.0
    for _ in range(ROUNDS):
        narrow = np.einsum("mcij,cr->mrij", w, inner)
        outer = _leading(narrow, outer_rank)
        short = np.einsum("mcij,mr->rcij", w, outer)
        inner = _leading(short.swapaxes(0, 1), inner_rank)
        core, last = np.einsum("mcij,cr->mrij", short, inner), kept
        kept = float((core * core).sum())
        if kept - last <= ENOUGH * float((w * w).sum()):
            break
    return np.einsum("ma,abij,cb->mcij", outer, core, inner, optimize=True)


def vbmf_ranks(w: Array) -> tuple[int, int]:
    """The inner and the outer rank of w by VBMF, at least 1."""
    w = w.astype(np.float64)
    inner, outer = (vbmf_rank(_unfolded(tensor)) for tensor in (w.swapaxes(0, 1), w))
    return max(1, inner), max(1, outer)


def vbmf_rank(x: Array) -> int:
    """How many components of x (L × M) variational Bayes tells from noise, whose variance it estimates too.

    The global analytic solution of empirical VBMF (Nakajima, Sugiyama, Babacan and Tomioka 2013, JMLR 14): with
    α = L/M ≤ 1, a singular value γ is kept if γ² > M·σ²·(1 + τ)·(1 + α/τ), for the τ at which Φ(τ) + Φ(τ/α) = 0,
    Φ(z) = log(1 + z)/z − 1/2. The noise σ² minimises the free energy.
    """
    if len(x) > x.shape[1]:
        x = x.T
    rows, columns = x.shape
    alpha = rows / columns
    tau = _root(lambda t: _phi(t) + _phi(t / alpha), 1e-9, 1e3)
    edge = (1 + tau) * (1 + alpha / tau)
    squares = np.linalg.svd(x, compute_uv=False) ** 2 / columns
    squares = np.maximum(squares, ROUNDING**2 * squares[0])
    most = min(rows, int(np.ceil(rows / (1 + alpha))) - 1)  # components that any noise lets be
    rest = squares[most:]
    low, high = max(rest[0] / edge, rest.mean()), squares.mean()
    for _ in range(2):  # a grid, and then another between the neighbours of its best noise
        noises = np.geomspace(low, high, GRID)
        best = int(np.argmin([_free_energy(squares / noise, alpha, edge) for noise in noises]))
        low, high = noises[max(best - 1, 0)], noises[min(best + 1, GRID - 1)]
    return int((squares > edge * noises[best]).sum())


def _free_energy(x: Array, alpha: float, edge: float) -> float:
    """Twice the free energy by M, as far as it depends on the noise; x = γ²/(M·σ²) of all components."""
    kept = x[x > edge]
    middle = kept - (1 + alpha)
    tau = (middle + np.sqrt(middle * middle - 4 * alpha)) / 2
    gained = np.log(tau + 1) + alpha * np.log(tau / alpha + 1) - tau
    return float((x - np.log(x)).sum() + gained.sum())


def _phi(z: float) -> float:
    return float(np.log1p(z) / z - 0.5)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling f is 0, by bisection."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return low


def _unfolded(tensor: Array) -> Array:
    """A row for each index of the first axis."""
    return tensor.reshape(len(tensor), -1)


def _leading(tensor: Array, rank: int) -> Array:
    """The leading left singular vectors (n, r) of a tensor's unfolding, n rows."""
    rows = _unfolded(tensor)
    return np.linalg.eigh(rows @ rows.T)[1][:, ::-1][:, :rank]
