"""Errors at all ranks at once are those of the real approximations, one rank after the other."""

import numpy as np
import pytest

from minicaffe.compress.fitting import layer_fits
from minicaffe.compress.moment_sums import MomentSums
from minicaffe.compress.ways import WAYS
from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import im2col
from tests.compress.test_compress_fitting import image_like

# shape of x, filters, window, groups
CASES = {
    "wide": ((4, 7, 6, 20), 6, Window((3, 3)), 1),
    "more filters than inputs": ((2, 5, 5, 20), 30, Window((3, 3), pad=(1, 1)), 1),
    "groups": ((6, 6, 6, 20), 8, Window((3, 2), (2, 1)), 2),
    "fewer columns than rows": ((40, 1, 1, 20), 12, Window((1, 1)), 1),
}


@pytest.fixture(params=CASES)
def layer(request):
    """A product in float64 with its input, weights (g, m, k), bias and data matrix."""
    rng = np.random.default_rng(3)
    shape, filters, window, groups = CASES[request.param]
    product = DenseConvolution(Geometry(shape, filters, window, groups), np.float64)
    x = image_like(rng, shape)
    w = rng.standard_normal((groups, filters // groups, product.geometry.depth)) * np.linspace(
        1, 0.1, product.geometry.depth
    )
    b = rng.standard_normal(filters)
    columns = im2col(x, window).reshape(groups, product.geometry.depth, -1)
    y = (w @ columns).reshape(filters, -1) + b[:, None]
    sums = MomentSums(w)
    sums.add(product, x, y.reshape(product.geometry.output_shape))
    scheme = ChannelScheme(product.geometry.weight_shape, groups)
    return scheme, w, b, columns, sums.moments()


def approximated(way, scheme, w, b, moments, rank):
    """The weights (g, m, k) and bias of one way at one rank, by what fits layers in earnest."""
    if way == "weights":
        left, right = svd(w).truncate(rank).factors()
        return left @ right, b
    found = layer_fits("DATA" if way == "data" else "CHANNEL", scheme, moments, w, b).fit(rank)
    return found.left @ found.right, found.bias


@pytest.mark.parametrize("way", WAYS)
def test_errors_at_all_ranks_are_those_of_the_real_approximations(layer, way):
    scheme, w, b, columns, moments = layer
    directions = WAYS[way](w, moments)
    errors, full = directions.response_errors, min(w.shape[1:])
    assert len(errors) == len(directions.weight_errors) == len(directions.energy) == full + 1
    y = w @ columns
    for rank in {1, 2, full // 2, full - 1, full}:
        approximation, bias = approximated(way, scheme, w, b, moments, rank)
        shift = (bias - b).reshape(len(w), -1, 1)
        expected = np.linalg.norm(y - approximation @ columns - shift) / np.linalg.norm(y)
        assert errors[rank] ** 2 == pytest.approx(expected**2, rel=1e-9, abs=1e-9)
        of_weights = np.linalg.norm(w - approximation) / np.linalg.norm(w)
        assert directions.weight_errors[rank] ** 2 == pytest.approx(of_weights**2, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_the_directions_make_the_approximation_whose_error_is_said(layer, way):
    _, w, _, columns, moments = layer
    found = WAYS[way](w, moments)
    rank = 3
    kept = found.vectors[..., :rank]
    projector = kept @ kept.swapaxes(1, 2)
    lost = w @ columns - (w @ (projector @ columns) if way == "data" else projector @ w @ columns)
    if way == "fitted":
        lost = lost - lost.mean(axis=2, keepdims=True)  # which its bias makes up for
    error = np.linalg.norm(lost) / np.linalg.norm(w @ columns)
    assert found.response_errors[rank] == pytest.approx(error, rel=1e-9)


def test_at_each_rank_the_fitted_way_loses_least(layer):
    _, w, _, _, moments = layer
    moments.count = None  # these images are all: factors need not be good for others
    errors = {way: find(w, moments).response_errors for way, find in WAYS.items()}
    assert (errors["fitted"] <= errors["weights"] + 1e-6).all()
    assert (errors["fitted"] <= errors["data"] + 1e-6).all()
    assert all((np.diff(e) <= 1e-12).all() for e in errors.values())


def test_energy_of_the_fitted_way_is_what_apply_prints(layer):
    scheme, w, _, _, moments = layer
    assert WAYS["fitted"](w, moments).energy[3] == pytest.approx(
        layer_fits("CHANNEL", scheme, moments, w).fit(3).energy, rel=1e-6
    )


@pytest.mark.parametrize("way", WAYS)
def test_weights_of_zeros_lose_nothing(layer, way):
    _, w, _, _, moments = layer
    found = WAYS[way](0 * w, moments)
    assert not found.response_errors.any() and not found.weight_errors.any()
