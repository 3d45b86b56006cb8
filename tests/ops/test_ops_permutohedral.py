"""The lattice filter: against a plain one, point after point; its transpose; and how far it is from a Gaussian."""

import math

import numpy as np
import pytest

from minicaffe.device.array import Device, to_host
from minicaffe.errors import DataError
from minicaffe.ops.permutohedral import lattice_of

pytestmark = pytest.mark.cpu_only("tests/layers/test_meanfield_layer.py has it on the double")


def simplex(f):
    """The corners of a point's simplex, without their last coordinate, and its shares of them."""
    d = len(f)
    scaled = [f[i] * math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    raised = [sum(scaled[i:]) - i * (scaled[i - 1] if i else 0) for i in range(d + 1)]
    origin = [round(x / (d + 1)) * (d + 1) for x in raised]
    away = sum(origin) // (d + 1)
    order = sorted(range(d + 1), key=lambda i: -(raised[i] - origin[i]))
    rank = [order.index(i) + away for i in range(d + 1)]
    for i in range(d + 1):
        if rank[i] < 0 or rank[i] > d:
            turn = d + 1 if rank[i] < 0 else -(d + 1)
            rank[i], origin[i] = rank[i] + turn, origin[i] + turn
    shares = [0.0] * (d + 2)
    for i in range(d + 1):
        rest = (raised[i] - origin[i]) / (d + 1)
        shares[d - rank[i]] += rest
        shares[d - rank[i] + 1] -= rest
    shares[0] += 1 + shares[d + 1]
    corners = [tuple(origin[i] + k - (d + 1) * (rank[i] > d - k) for i in range(d)) for k in range(d + 1)]
    return list(zip(corners, shares, strict=False))


def filtered_by_points(features, values, transposed=False):
    """Splat, blur and slice, with a dictionary for the lattice."""
    d = features.shape[1]
    simplices = [simplex(f) for f in features.tolist()]
    lattice = {}
    for corners, value in zip(simplices, values, strict=True):
        for corner, share in corners:
            lattice[corner] = lattice.get(corner, 0.0) + share * value
    for axis in reversed(range(d + 1)) if transposed else range(d + 1):
        step = np.full(d, -1)
        if axis < d:
            step[axis] = d
        beside = [{tuple(c + sign * step): v for c, v in lattice.items()} for sign in (1, -1)]
        lattice = {c: v + (beside[0].get(c, 0.0) + beside[1].get(c, 0.0)) / 2 for c, v in lattice.items()}
    return [sum(share * lattice[c] for c, share in corners) / (1 + 2.0**-d) for corners in simplices]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("dims", "points", "wide"), [(1, 9, 2.0), (2, 40, 3.0), (3, 40, 1.5), (5, 50, 1.0)])
def test_filter_is_splat_blur_and_slice(dims, points, wide, transposed, rng):
    features, values = rng.normal(0, wide, (points, dims)), rng.standard_normal((3, points))
    got = lattice_of(features, Device()).filtered(values, transposed=transposed)
    for row, value in zip(got, values, strict=True):
        np.testing.assert_allclose(row, filtered_by_points(features, value, transposed), atol=1e-12)


def test_transposed_filter_is_the_transpose(rng):
    lattice = lattice_of(rng.normal(0, 1, (40, 5)), Device())
    ahead, back = (lattice.filtered(np.eye(40), transposed=t) for t in (False, True))
    np.testing.assert_allclose(ahead, back.T, atol=1e-14)
    assert not np.allclose(ahead, ahead.T)


def test_shares_are_those_of_a_point_within_its_simplex(rng):
    lattice = lattice_of(rng.normal(0, 2, (500, 4)), Device())
    assert lattice.shares.min() >= -1e-12
    np.testing.assert_allclose(lattice.shares.sum(axis=0), 1)
    assert lattice.neighbours.max() == lattice.neighbours.shape[2]  # not there


@pytest.mark.parametrize("dims", [2, 5])
def test_filter_divided_by_that_of_ones_is_nearly_a_mean_under_a_gaussian(dims, rng):
    """The figures that the docstring of ``ops/permutohedral.py`` gives."""
    rows, columns = np.mgrid[:30, :30]
    features = np.stack([columns.ravel(), rows.ravel()], axis=1) / 3
    if dims == 5:
        colours = np.clip(np.cumsum(rng.standard_normal((900, 3)), axis=0), -100, 100) / 3
        features = np.concatenate([features * 3 / 160, colours], axis=1)
    values, lattice = rng.random((4, 900)), lattice_of(features, Device())
    got = lattice.filtered(values) / lattice.filtered(np.ones((1, 900)))
    weights = np.exp(-((features[:, None] - features) ** 2).sum(axis=2) / 2)
    apart = np.abs(got - values @ weights / weights.sum(axis=0))
    assert apart.mean() < 0.006 and apart.max() < 0.06


def test_float32_stays_float32(rng):
    lattice = lattice_of(rng.normal(0, 1, (50, 3)).astype(np.float32), Device())
    assert lattice.shares.dtype == lattice.filtered(np.ones((2, 50), np.float32)).dtype == np.float32


@pytest.mark.parametrize("far", [9e3, 1e6, np.nan])
def test_points_too_far_apart_are_an_error(far):
    with pytest.raises(DataError, match="points of a filter are up to"):
        lattice_of(np.array([[0.0] * 5, [far] * 5]), Device())
    assert to_host(lattice_of(np.array([[0.0] * 5, [100.0] * 5]), Device()).corners).max() == 11
