"""Factors of the spatial scheme: where they start from, what a sweep gains, and where the sweeps end."""

import numpy as np
import pytest

from minicaffe.compress import spatial_fits
from minicaffe.compress.fitting import layer_fits
from minicaffe.compress.moments import Moments
from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.schemes import SpatialScheme
from tests.compress.test_compress_fitting import Task, each_group, each_target, fit


def covariance(size, steepness):
    """Of numbers (size) that are like their neighbours, and grow."""
    at = np.arange(size)
    root = np.exp(steepness * at / size)
    return 0.9 ** np.abs(at[:, None] - at) * root[:, None] * root


@each_group
def test_for_inputs_of_a_kronecker_product_the_start_is_the_best_of_its_rank(group, rng):
    """The first r singular vectors of S^½·W·T^½ miss the squares of the other singular values."""
    scheme = SpatialScheme((6, 4 // group, 3, 5), group)
    rows, filters, kw = 12 // group, 6 // group, 5
    s, t = covariance(rows, 1.0), covariance(kw, 2.0)
    xx = np.broadcast_to(np.kron(s, t), (group, rows * kw, rows * kw))
    w = rng.standard_normal((group, filters, rows * kw))
    nothing = np.zeros((group, rows * kw)), np.zeros((group, filters))
    seen = Moments(*nothing, xx, w @ xx, np.einsum("gmk,gmk->gm", w @ xx, w), w)
    fits = layer_fits("SPATIAL", scheme, seen, w)
    s_root, t_root = (np.linalg.cholesky(a) for a in (s, t))
    split = w.reshape(group, filters, rows, kw).transpose(0, 2, 1, 3)
    inner = np.einsum("ba,gbmj,jk->gamk", s_root, split, t_root).reshape(group, rows, -1)
    squares = (np.linalg.svd(inner, compute_uv=False) ** 2).sum(axis=0)
    tails = 1 - np.cumsum(squares) / squares.sum()
    for rank in (1, 2, 3):
        assert fits.missed()[rank] == pytest.approx(tails[rank - 1], rel=5e-3)
        assert 1 - fits.fit(rank).energy == pytest.approx(tails[rank - 1], rel=5e-3)


@pytest.mark.parametrize("count", [20, 200, None])
@each_target
@each_group
def test_what_the_start_misses_is_known_at_every_rank(group, own, count, rng, monkeypatch):
    monkeypatch.setattr(spatial_fits, "SWEEPS", 0)
    task = Task(rng, SpatialScheme, group, own)
    task.moments.count = count
    missed = layer_fits("SPATIAL", task.scheme, task.moments, task.w).missed()
    rows, columns = task.scheme.matrix_shape
    for rank in range(1, rows * columns // (rows + columns) + 1):
        error = task.fitted_error(fit(task.scheme, task.moments, rank, task.w)) / task.variance
        assert missed[rank] == pytest.approx(error, abs=1e-5)


@each_target
@each_group
def test_one_sweep_gains_nearly_what_the_best_v_for_the_first_h_does(group, own, rng, monkeypatch):
    """A few preconditioned steps are enough, for weights whose singular values fall as real ones do."""
    scheme = SpatialScheme((6, 4 // group, 3, 3), group)
    u, v = (np.linalg.qr(rng.standard_normal((group, size, 6)))[0] for size in scheme.matrix_shape)
    w = scheme.weights(10 * u * np.exp(-np.arange(6)) @ v.swapaxes(1, 2))
    task, errors = Task(rng, SpatialScheme, group, own, w=w), []
    for sweeps, steps in ((0, 0), (1, spatial_fits.CONJUGATE_STEPS), (1, 1_000)):
        monkeypatch.setattr(spatial_fits, "SWEEPS", sweeps)
        monkeypatch.setattr(spatial_fits, "CONJUGATE_STEPS", steps)
        errors.append(task.fitted_error(fit(task.scheme, task.exact, 3, task.w)))
    start, few, best = errors
    assert start - few > 0.99 * (start - best) > 0


@pytest.mark.parametrize("count", [20, None], ids=["a large ridge", "next to none"])
@each_target
@each_group
def test_sweeps_end_where_no_change_of_either_factor_comes_nearer(group, own, count, rng, monkeypatch):
    """Of tr((W* − Ŵ)·(xx + λ)·(W* − Ŵ)ᵀ) both gradients vanish."""
    monkeypatch.setattr(spatial_fits, "SWEEPS", 200)
    monkeypatch.setattr(spatial_fits, "ENOUGH", 0)
    task = Task(rng, SpatialScheme, group, own)
    seen = task.exact
    seen.count = count
    found = fit(task.scheme, seen, 2, task.w)
    prior = task.w.reshape(seen.yx.shape)
    weights = task.scheme.weights(found.left @ found.right).reshape(seen.yx.shape)
    slope = task.scheme.matrix((weights @ seen.ridged() - seen.target(prior)).reshape(task.w.shape))
    for gradient in (slope @ found.right.swapaxes(1, 2), found.left.swapaxes(1, 2) @ slope):
        assert np.linalg.norm(gradient) < 1e-3 * np.linalg.norm(slope) * np.linalg.norm(found.left)


def alternating(task, rank, sweeps):
    """The error of spatial factors after plain alternating least squares from the truncated weights, one group."""
    channels, kh, kw = task.scheme.shape[1:]
    x = (task.columns[0] - task.columns[0].mean(axis=1, keepdims=True)).reshape(channels * kh, kw, -1)
    y = task.y - task.y.mean(axis=1, keepdims=True)
    v = svd(task.scheme.matrix(task.w)).truncate(rank).u[0].T
    for _ in range(sweeps):
        z = np.einsum("ra,ajp->rjp", v, x).reshape(rank * kw, -1)
        h = np.linalg.lstsq(z.T, y.T, rcond=None)[0].T.reshape(6, rank, kw)
        design = np.einsum("mrj,ajp->mpra", h, x).reshape(y.size, -1)
        v = np.linalg.lstsq(design, y.ravel(), rcond=None)[0].reshape(rank, -1)
    return ((design @ v.ravel() - y.ravel()) ** 2).sum() / y.shape[1]


@pytest.mark.parametrize("rank", [1, 2, 4])
@each_target
def test_spatial_factors_come_as_near_as_long_alternating_least_squares(own, rank, rng):
    task = Task(rng, SpatialScheme, 1, own)
    found = fit(task.scheme, task.exact, rank, task.w)
    assert task.fitted_error(found) <= 1.03 * alternating(task, rank, 15)


@pytest.mark.parametrize("rank", [1, 2, 4])
@each_target
@each_group
def test_spatial_factors_are_nearer_than_the_truncated_weights_and_than_what_they_start_from(
    group, own, rank, rng
):
    task = Task(rng, SpatialScheme, group, own)
    error = task.fitted_error(fit(task.scheme, task.exact, rank, task.w))
    best = task.exact.best(task.w.reshape(task.moments.yx.shape))
    for weights in (task.w, best.reshape(task.w.shape)):
        found = svd(task.scheme.matrix(weights)).truncate(rank)
        left, right = found.factors()
        assert error < 0.99 * task.error(task.scheme.weights(left @ right))


@each_target
@each_group
def test_what_spatial_factors_miss_is_bounded_from_both_sides(group, own, rng):
    task = Task(rng, SpatialScheme, group, own)
    missed = layer_fits("SPATIAL", task.scheme, task.exact, task.w).missed()
    rows, columns = task.scheme.matrix_shape
    break_even, full = rows * columns // (rows + columns), min(rows, columns)
    assert len(missed) == full + 1 and missed[0] == 1 and (np.diff(missed) <= 0).all()
    for rank in range(1, break_even + 1):
        error = task.fitted_error(fit(task.scheme, task.exact, rank, task.w)) / task.variance
        assert error <= missed[rank] <= 1.35 * error
    at_full_rank = task.fitted_error(fit(task.scheme, task.exact, full, task.w)) / task.variance
    assert missed[full] == pytest.approx(at_full_rank, abs=1e-4)
