"""Means and variances of rows, whatever the numbers."""

import numpy as np
import pytest

from minicaffe.ops.normalization import moments, moments_by_squares

pytestmark = pytest.mark.cpu_only("moments_by_squares is for a CPU")


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 7, 1), (6, 70, 1), (5, 200_000, 1), (40, 20_000, 1)])
@pytest.mark.parametrize("center", [0, 1, -3, 1000])
def test_moments_by_squares_are_those_about_the_mean(shape, center, rng):
    x = (center + rng.standard_normal(shape)).astype(np.float32)
    x[0] = center
    mean, variance = moments_by_squares(x)
    exact = x.astype(np.float64)
    assert np.allclose(mean, exact.mean(axis=1, keepdims=True), rtol=1e-6, atol=1e-6)
    assert np.allclose(variance, exact.var(axis=1, keepdims=True), rtol=2e-5, atol=1e-12)
    if center == 1000:
        assert np.array_equal(variance, moments(x)[1])


def test_moments_by_squares_of_no_numbers_are_none(rng):
    x = np.zeros((2, 5, 1), np.float32)
    x[0, 3] = np.nan
    mean, variance = moments_by_squares(x)
    assert np.isnan(mean[0]) and np.isnan(variance[0])
    assert mean[1] == variance[1] == 0
