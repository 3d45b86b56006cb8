"""Schemes and products: a convolution's weights as a matrix, and its factors as two convolutions that equal it."""

import itertools
import math

import numpy as np
import pytest

from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.products import OneStage, TwoStage, cost_of_rank, product_of_rank
from minicaffe.low_rank.schemes import ChannelScheme, SpatialScheme, schemes
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

WEIGHTS = {
    "one group": ((6, 4, 3, 2), 1),
    "two groups": ((6, 4, 3, 2), 2),
    "depthwise": ((5, 1, 3, 4), 5),
    "depthwise, two filters each": ((6, 1, 2, 3), 3),
    "1×1": ((6, 4, 1, 1), 2),
    "one filter": ((1, 4, 3, 3), 1),
}
# (input (C, H, W, N), filters, window, groups)
GEOMETRIES = {
    "plain": ((3, 7, 6, 2), 5, Window((3, 3)), 1),
    "padded": ((3, 6, 5, 2), 4, Window((3, 3), pad=(1, 1)), 1),
    "padded in one axis": ((2, 5, 6, 3), 4, Window((3, 2), pad=(0, 1)), 1),
    "padded beyond the kernel": ((2, 4, 5, 2), 3, Window((3, 3), pad=(4, 3)), 1),
    "strided": ((3, 8, 7, 2), 4, Window((3, 3), stride=(2, 2), pad=(1, 1)), 1),
    "strided in one axis": ((2, 9, 7, 2), 4, Window((2, 3), stride=(1, 3), pad=(1, 0)), 1),
    "strided over pixels": ((2, 7, 8, 2), 3, Window((2, 2), stride=(3, 3)), 1),
    "dilated": ((2, 9, 8, 2), 3, Window((3, 3), pad=(2, 0), dilation=(2, 3)), 1),
    "dilated and strided": ((4, 9, 8, 2), 6, Window((3, 2), (2, 1), (1, 2), (2, 2)), 2),
    "a kernel larger than the image": ((2, 3, 2, 3), 4, Window((5, 5), pad=(2, 2)), 1),
    "a batch of one": ((4, 6, 6, 1), 6, Window((3, 3), pad=(1, 1)), 2),
    "one pixel": ((6, 1, 1, 4), 5, Window((1, 1)), 1),
    "1×1": ((6, 4, 5, 3), 4, Window((1, 1)), 2),
    "1×1, strided": ((3, 5, 5, 2), 4, Window((1, 1), stride=(2, 2)), 1),
    "one row": ((3, 1, 9, 2), 4, Window((1, 3), pad=(0, 1)), 1),
    "two groups": ((4, 6, 5, 2), 6, Window((3, 3)), 2),
    "depthwise": ((5, 6, 6, 2), 5, Window((3, 3), pad=(1, 1)), 5),
    "depthwise, two filters each": ((3, 6, 6, 2), 6, Window((3, 2), stride=(2, 1)), 3),
}

each_scheme = pytest.mark.parametrize("kind", schemes.values(), ids=schemes)
each_weights = pytest.mark.parametrize(("shape", "group"), WEIGHTS.values(), ids=WEIGHTS)
HARDEST = (
    "padded beyond the kernel",
    "strided in one axis",
    "dilated and strided",
    "1×1, strided",
    "depthwise",
)
FEW = {name: GEOMETRIES[name] for name in HARDEST}

each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
few_geometries = pytest.mark.parametrize("geometry", FEW.values(), ids=FEW)


def random_factors(rng, scheme, rank):
    m, n = scheme.matrix_shape
    return rng.standard_normal((scheme.group, m, rank)), rng.standard_normal((scheme.group, rank, n))


def filters_at(rng, scheme, rank):
    return scheme.filters(*random_factors(rng, scheme, rank))


def make(kind, geometry):
    """The dense convolution of a geometry and the scheme of its weights."""
    shape, filters, window, group = geometry
    dense = DenseConvolution(Geometry(shape, filters, window, group), np.float64)
    return dense, kind((filters, shape[0] // group, *window.kernel), group)


def random_pass(rng, dense):
    """x, b and dy."""
    y_shape = dense.geometry.output_shape
    return (
        rng.standard_normal(dense.geometry.shape),
        rng.standard_normal(dense.geometry.filters),
        rng.standard_normal(y_shape),
    )


def run_dense(dense, w, x, b, dy):
    """y, dw, db and dx of the dense convolution."""
    y, dw, db, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(b), np.empty_like(x)
    padded = dense.forward(x, w, y, b)
    dense.weight_grad(dy, padded, dw, db)
    dense.input_grad(dy, w, dx)
    return y, dw, db, dx


def run(product, filters, x, b, dy, wanted=(True, True)):
    """y, both filters' gradients, db and dx of a product of low rank."""
    y, db, dx = (np.full_like(like, np.nan) for like in (dy, b, x))
    product.forward(x, filters, y, b)
    first, second = product.backward(dy, wanted, db, dx)
    return y, first, second, db, dx


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-11 * max(1, np.abs(expected).max()))


@each_weights
@each_scheme
def test_weights_are_what_their_matrix_was_made_of(kind, shape, group, rng):
    scheme, w = kind(shape, group), rng.standard_normal(shape)
    matrix = scheme.matrix(w)
    assert matrix.shape == (group, *scheme.matrix_shape)
    np.testing.assert_array_equal(scheme.weights(matrix), w)


@each_weights
def test_the_channel_matrix_has_filters_for_rows_and_windows_for_columns(shape, group, rng):
    w = rng.standard_normal(shape)
    matrix = ChannelScheme(shape, group).matrix(w)
    per_group = shape[0] // group
    for f, c, i, j in np.ndindex(*shape):
        column = (c * shape[2] + i) * shape[3] + j
        assert matrix[f // per_group, f % per_group, column] == w[f, c, i, j]


@each_weights
def test_the_spatial_matrix_has_channels_and_heights_for_rows_and_filters_and_widths_for_columns(
    shape, group, rng
):
    w = rng.standard_normal(shape)
    matrix = SpatialScheme(shape, group).matrix(w)
    per_group = shape[0] // group
    for f, c, i, j in np.ndindex(*shape):
        assert matrix[f // per_group, c * shape[2] + i, f % per_group * shape[3] + j] == w[f, c, i, j]


@each_weights
@each_scheme
def test_factors_are_what_their_filters_were_made_of(kind, shape, group, rng):
    scheme = kind(shape, group)
    left, right = random_factors(rng, scheme, 5)
    first, second = scheme.filters(left, right)
    back = scheme.factors(first, second)
    np.testing.assert_array_equal(back[0], left)
    np.testing.assert_array_equal(back[1], right)
    again = scheme.filters(*back)
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[1], second)


@each_weights
@each_scheme
def test_the_left_factor_is_found_in_the_filters_of_its_stage_alone(kind, shape, group, rng):
    scheme = kind(shape, group)
    left, right = random_factors(rng, scheme, 3)
    filters = scheme.filters(left, right)
    np.testing.assert_array_equal(scheme.left_factor(filters[scheme.left_stage], 3), left)


@each_weights
@each_scheme
def test_filter_shapes_are_those_of_the_filters_and_grow_with_the_rank(kind, shape, group, rng):
    scheme = kind(shape, group)
    (hidden, *first), (filters, one, *second) = scheme.filter_shapes
    for rank in (1, 4):
        made = filters_at(rng, scheme, rank)
        assert made[0].shape == (hidden * rank, *first)
        assert made[1].shape == (filters, one * rank, *second)


@few_geometries
@each_scheme
def test_filter_shapes_are_those_of_the_two_stages(kind, geometry, rng):
    dense, scheme = make(kind, geometry)
    product = TwoStage(dense, scheme, 2)
    for stage, filters in zip((product.first, product.second), filters_at(rng, scheme, 2), strict=True):
        assert filters.shape == stage.geometry.weight_shape
    assert product.second.geometry.output == dense.geometry.output


@each_geometry
@each_scheme
def test_two_stages_at_full_rank_equal_the_dense_convolution(kind, geometry, rng):
    dense, scheme = make(kind, geometry)
    w = rng.standard_normal(scheme.shape)
    left, right = svd(scheme.matrix(w)).factors()
    x, b, dy = random_pass(rng, dense)
    y, dw, db, dx = run_dense(dense, w, x, b, dy)
    rank = min(scheme.matrix_shape)
    found = run(TwoStage(dense, scheme, rank), scheme.filters(left, right), x, b, dy)
    grad = scheme.matrix(dw)
    dfirst, dsecond = scheme.filters(grad @ right.swapaxes(-1, -2), left.swapaxes(-1, -2) @ grad)
    for actual, expected in zip(found, (y, dfirst, dsecond, db, dx), strict=True):
        assert_close(actual, expected)


@few_geometries
@each_scheme
def test_two_stages_and_merged_factors_are_one_function_with_one_derivative(kind, geometry, rng):
    dense, scheme = make(kind, geometry)
    filters = filters_at(rng, scheme, 1)
    values = random_pass(rng, dense)
    two_stage = run(TwoStage(dense, scheme, 1), filters, *values)
    merged = run(OneStage(dense, scheme), filters, *values)
    for one, other in zip(two_stage, merged, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("geometry", [GEOMETRIES["strided"], GEOMETRIES["two groups"], GEOMETRIES["1×1"]])
@each_scheme
def test_backward_gives_what_is_wanted_whatever_else_is(kind, geometry, rng):
    dense, scheme = make(kind, geometry)
    filters = filters_at(rng, scheme, 2)
    x, b, dy = random_pass(rng, dense)
    _, *grads, db, dx = run(TwoStage(dense, scheme, 2), filters, x, b, dy)
    flags = itertools.product([False, True], repeat=4)
    for product, (*wanted, wants_bias, wants_input) in itertools.product(
        (TwoStage(dense, scheme, 2), OneStage(dense, scheme)), flags
    ):
        product.forward(x, filters, np.empty_like(dy), b)
        bias_out = np.full_like(b, np.nan) if wants_bias else None
        dx_out = np.full_like(x, np.nan) if wants_input else None
        found = product.backward(dy, wanted, bias_out, dx_out)
        for is_wanted, actual, expected in zip(wanted, found, grads, strict=True):
            if is_wanted:
                assert_close(actual, expected)
        if wants_bias:
            assert_close(bias_out, db)
        if wants_input:
            assert_close(dx_out, dx)


@each_scheme
def test_a_product_without_a_bias_adds_none(kind, rng):
    dense, scheme = make(kind, GEOMETRIES["padded"])
    filters = filters_at(rng, scheme, 2)
    x, b, dy = random_pass(rng, dense)
    for product in (TwoStage(dense, scheme, 2), OneStage(dense, scheme)):
        with_bias, without = np.empty_like(dy), np.empty_like(dy)
        product.forward(x, filters, with_bias, b)
        product.forward(x, filters, without)
        assert_close(without + b[:, None, None, None], with_bias)


@each_scheme
def test_a_product_runs_again_with_other_numbers_as_if_for_the_first_time(kind, rng):
    dense, scheme = make(kind, GEOMETRIES["padded"])
    for make_product in (lambda: TwoStage(dense, scheme, 2), lambda: OneStage(dense, scheme)):
        used = make_product()
        run(used, filters_at(rng, scheme, 2), *random_pass(rng, dense))
        filters, values = filters_at(rng, scheme, 2), random_pass(rng, dense)
        for actual, expected in zip(
            run(used, filters, *values), run(make_product(), filters, *values), strict=True
        ):
            np.testing.assert_array_equal(actual, expected)


# (geometry, multiply-adds of rank 1 in two stages, of the dense convolution), counted by hand for one image
COSTS = {
    "channel": (
        ChannelScheme,
        ((4, 6, 6, 2), 8, Window((3, 3), pad=(1, 1)), 1),
        36 * 36 + 8 * 36,
        8 * 36 * 36,
    ),
    "channel, groups": (
        ChannelScheme,
        ((4, 6, 6, 1), 8, Window((3, 3), pad=(1, 1)), 2),
        2 * 18 * 36 + 8 * 36,
        8 * 18 * 36,
    ),
    "channel, depthwise": (
        ChannelScheme,
        ((5, 6, 6, 1), 5, Window((3, 3)), 5),
        5 * 9 * 16 + 5 * 16,
        5 * 9 * 16,
    ),
    "channel, strided": (
        ChannelScheme,
        ((3, 9, 8, 3), 10, Window((5, 5), stride=(2, 3)), 1),
        75 * 6 + 10 * 6,
        10 * 75 * 6,
    ),
    "spatial": (
        SpatialScheme,
        ((4, 6, 6, 2), 8, Window((3, 3), pad=(1, 1)), 1),
        12 * 36 + 24 * 36,
        8 * 36 * 36,
    ),
    "spatial, strided": (
        SpatialScheme,
        ((4, 7, 7, 2), 8, Window((3, 3), stride=(2, 2), pad=(1, 1)), 1),
        12 * (4 * 7) + 24 * (4 * 4),
        8 * 36 * (4 * 4),
    ),
    "spatial, no padding": (
        SpatialScheme,
        ((2, 6, 8, 1), 4, Window((3, 5)), 1),
        6 * (4 * 8) + 20 * (4 * 4),
        4 * 30 * (4 * 4),
    ),
    "spatial, groups": (
        SpatialScheme,
        ((4, 6, 6, 5), 8, Window((3, 3), pad=(1, 1)), 2),
        2 * 6 * 36 + 8 * 3 * 36,
        8 * 18 * 36,
    ),
    "one pixel": (ChannelScheme, ((30, 1, 1, 64), 12, Window((1, 1)), 1), 30 + 12, 30 * 12),
}
each_cost = pytest.mark.parametrize(("kind", "geometry", "rank_1", "whole"), COSTS.values(), ids=COSTS)


@each_cost
def test_the_cost_of_a_rank_is_counted_in_multiply_adds_of_one_image(kind, geometry, rank_1, whole):
    dense, scheme = make(kind, geometry)
    assert dense.geometry.multiply_adds == whole
    assert cost_of_rank(dense, scheme) == pytest.approx(rank_1 / whole, rel=1e-14)
    assert TwoStage(dense, scheme, 3).multiply_adds == 3 * rank_1


@each_cost
def test_the_cheaper_order_is_chosen_at_every_rank_and_the_dense_one_where_they_are_equal(
    kind, geometry, rank_1, whole
):
    dense, scheme = make(kind, geometry)
    for rank in range(1, 2 + math.ceil(whole / rank_1)):
        product = product_of_rank(dense, scheme, rank)
        assert type(product) is (TwoStage if rank * rank_1 < whole else OneStage)
        assert product.multiply_adds == min(rank * rank_1, whole)


def test_where_both_orders_cost_the_same_the_factors_are_merged():
    dense, scheme = make(ChannelScheme, ((4, 3, 3, 1), 4, Window((1, 1)), 1))
    assert TwoStage(dense, scheme, 2).multiply_adds == dense.geometry.multiply_adds
    assert isinstance(product_of_rank(dense, scheme, 2), OneStage)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_truncated_factors_make_the_convolution_with_the_truncated_weights(group, rng):
    for kind in schemes.values():
        dense, scheme = make(kind, ((4, 6, 6, 2), 8, Window((3, 3), pad=(1, 1)), group))
        w = rng.standard_normal(scheme.shape)
        kept = svd(scheme.matrix(w)).truncate(2)
        x, b, dy = random_pass(rng, dense)
        y, *_ = run(TwoStage(dense, scheme, 2), scheme.filters(*kept.factors()), x, b, dy)
        matrix = (kept.u * kept.s[..., None, :]) @ kept.vt
        assert_close(y, run_dense(dense, scheme.weights(matrix), x, b, dy)[0])
        assert np.linalg.norm(scheme.weights(matrix) - w) == pytest.approx(kept.tail**0.5, rel=1e-10)
