"""What each rank misses, at all ranks at once, is what its factors miss; few columns give what their moments do."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress import moment_sums
from minicaffe.compress.columns import Columns
from minicaffe.compress.fitting import layer_fits, missed_at_all_ranks
from minicaffe.compress.lazy import cached_property
from minicaffe.compress.moment_sums import MomentSums, column_mean, columns_at
from minicaffe.compress.moments import Moments
from minicaffe.device.array import to_device
from minicaffe.low_rank.schemes import ChannelScheme, SpatialScheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import im2col
from minicaffe.spec.net import parse_net
from tests.compress.test_compress_fitting import (
    NOTHING,
    W_SHAPE,
    X_SHAPE,
    Task,
    direct,
    each_group,
    each_kind,
    each_target,
    fit,
    image_like,
)

WAYS = {"CHANNEL": ChannelScheme, "SPATIAL": SpatialScheme, "BASIS": ChannelScheme, "DATA": ChannelScheme}
each_way = pytest.mark.parametrize("way", WAYS)


def way_of(kind):
    return "SPATIAL" if kind is SpatialScheme else "CHANNEL"


# -- all ranks at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@each_target
@each_group
def test_what_channel_factors_miss_is_known_for_all_ranks(group, own, has_bias, rng):
    task = Task(rng, ChannelScheme, group, own)
    seen = task.moments if has_bias else task.moments.uncentred()
    missed = layer_fits("CHANNEL", task.scheme, seen, task.w).missed()
    assert missed.dtype == np.float64 and len(missed) == 6 // group + 1 and missed[0] == 1
    squares = (task.y**2).mean(axis=1).sum()
    for rank in range(1, len(missed)):
        found = fit(task.scheme, seen, rank, task.w)
        error = task.fitted_error(found) / (task.variance if has_bias else squares)
        assert missed[rank] == pytest.approx(error, abs=1e-9)
        assert 1 - found.energy == pytest.approx(error, abs=1e-9)


@each_target
@each_group
@pytest.mark.parametrize("way", ["BASIS", "DATA"])
def test_what_a_basis_of_the_data_misses_is_known_for_all_ranks(way, group, own, rng):
    task, bias = Task(rng, ChannelScheme, group, own), rng.standard_normal(6)
    fits = layer_fits(way, task.scheme, task.moments, task.w, bias)
    missed = fits.missed()
    assert len(missed) == task.scheme.matrix_shape[1] + 1
    for rank in (1, 3, 7, len(missed) - 1):
        error = task.fitted_error(fits.fit(rank)) / task.variance
        least = min(task.fitted_error(fits.fit(r)) for r in range(1, rank + 1)) / task.variance
        assert missed[rank] == pytest.approx(least if way == "DATA" else error, rel=1e-6, abs=1e-5)


@each_kind
def test_the_layers_own_weights_need_no_solution_and_give_what_it_would(kind, rng, monkeypatch):
    task = Task(rng, kind, 2)
    m, w = task.moments, task.w.reshape(task.moments.yx.shape)
    expected = layer_fits(way_of(kind), task.scheme, m, task.w)
    shares, expected = expected.missed(), expected.fit(2)
    own = Moments(m.x_mean, m.y_mean, m.xx, m.yx, m.yy, w, m.count)
    monkeypatch.setattr(Moments, "ridged", None)
    fits = layer_fits(way_of(kind), task.scheme, own, 2 * task.w)
    np.testing.assert_allclose(fits.missed(), shares, atol=1e-7)
    found = fits.fit(2)
    np.testing.assert_allclose(found.left @ found.right, expected.left @ expected.right, atol=1e-5)
    assert own.uncentred().own is None  # there is a bias: without it, w is not the best


def test_all_layers_are_answered_at_once(rng):
    tasks = {kind: Task(rng, kind) for kind in (ChannelScheme, SpatialScheme)}
    fits = {kind: layer_fits(way_of(kind), task.scheme, task.moments, task.w) for kind, task in tasks.items()}
    found = missed_at_all_ranks(fits)
    assert list(found) == list(fits)
    for kind, each in fits.items():
        np.testing.assert_array_equal(found[kind], each.missed())


@pytest.mark.parametrize("centred", [True, False], ids=["centred", "no bias"])
@each_way
@pytest.mark.parametrize(("x", "w"), NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("images", [3, 1], ids=["moments", "columns"])
def test_where_there_is_nothing_to_fit_shares_are_finite_and_never_rise(
    x, w, way, dtype, images, centred, rng
):
    x = (image_like(rng, X_SHAPE) if x is None else x).astype(dtype)[..., :images]
    w = (rng.standard_normal(W_SHAPE) if w is None else w).astype(dtype)
    product = DenseConvolution(Geometry(x.shape, 6, Window((3, 3))), dtype)
    y = np.empty((6, *product.geometry.output, images), dtype)
    product.forward(x, w, y)
    sums = MomentSums(w)
    sums.add(product, x, y)
    seen = sums.moments() if centred else sums.moments().uncentred()
    assert isinstance(seen, Columns) == (images == 1)
    missed = layer_fits(way, WAYS[way](W_SHAPE, 1), seen, w).missed()
    assert np.isfinite(missed).all() and (np.diff(missed) <= 0).all()
    assert missed[0] == pytest.approx(1, abs=1e-6) or not missed.any() or way == "DATA"


@each_way
def test_responses_that_vary_by_rounding_miss_nothing(way, rng):
    x, w = 2 + 1e-9 * rng.standard_normal((1, 36, 50)), rng.standard_normal(W_SHAPE)
    missed = layer_fits(way, WAYS[way](W_SHAPE, 1), Moments(*direct(x, w.reshape(1, 6, 36) @ x)), w).missed()
    assert not missed.any()


# -- fewer columns than rows -----------------------------------------------------------------------------

# channels, filters, columns
SHORT = {"fewer columns than filters": (40, 12, 8), "more": (40, 12, 30), "more filters": (20, 30, 15)}


def few_columns(rng, sizes, own, centred, group=1, kernel=(1, 1), count=None, bias=0):
    """The same numbers as columns and as moments, and the weights; ``count`` is what makes the ridge large."""
    channels, filters, many = sizes
    depth = channels * kernel[0] * kernel[1]
    mix = rng.standard_normal((group, depth, depth)) / depth**0.5
    x = mix @ rng.standard_normal((group, depth, many)) + 1
    w = rng.standard_normal((group, filters, depth)) * np.linspace(1, 0.1, depth)
    y = w @ x if own else w @ x + 0.5 * rng.standard_normal((group, filters, many))
    y += bias
    shift = x[:, :, 0]
    means, variances = y.mean(axis=2), y.var(axis=2)
    rest = w if own else None, count
    columns = Columns(x - shift[:, :, None], None if own else y, shift, means, variances, *rest)
    full = Moments(*direct(x, y), *rest)
    return (columns, full, w) if centred else (columns.uncentred(), full.uncentred(), w)


@pytest.mark.parametrize("centred", [True, False], ids=["centred", "no bias"])
@pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("case", SHORT)
@pytest.mark.parametrize("way", ["CHANNEL", "BASIS", "DATA"])
def test_few_columns_are_fitted_like_their_moments(way, case, group, own, centred, rng):
    columns, full, w = few_columns(rng, SHORT[case], own, centred, group)
    scheme = ChannelScheme((w.shape[0] * w.shape[1], w.shape[2], 1, 1), group)
    expected, found = (layer_fits(way, scheme, seen, w) for seen in (full, columns))
    np.testing.assert_allclose(found.missed(), expected.missed(), atol=1e-6)
    count = SHORT[case][2]
    for rank in {2, min(count, *w.shape[1:]) - 2, min(w.shape[1:])}:
        pairs = [each.fit(rank) for each in (expected, found)]
        a, b = (pair.left @ pair.right for pair in pairs)
        np.testing.assert_allclose(full.times(a), full.times(b), atol=2e-4 * np.abs(full.times(w)).max())
        np.testing.assert_allclose(pairs[0].bias, pairs[1].bias, atol=2e-3)
        assert pairs[0].energy == pytest.approx(pairs[1].energy, abs=1e-6)


@pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])
@pytest.mark.parametrize("case", SHORT)
def test_with_the_ridge_of_few_columns_the_components_are_found_nearly(case, own, rng):
    """Where they are fewer than the filters: those of the answers, turned towards those with the ridge."""
    columns, full, w = few_columns(rng, SHORT[case], own, True, count=SHORT[case][2])
    scheme = ChannelScheme((w.shape[1], w.shape[2], 1, 1), 1)
    expected, found = (layer_fits("CHANNEL", scheme, seen, w).missed() for seen in (full, columns))
    np.testing.assert_allclose(found, expected, atol=1e-6 if case == "more" else 0.01)


@pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])
@pytest.mark.parametrize("group", [1, 2])
def test_few_columns_of_windows_are_fitted_like_their_moments(group, own, rng):
    columns, full, w = few_columns(rng, (5, 6, 30), own, True, group, (3, 3))
    scheme = SpatialScheme((6 * group, 5, 3, 3), group)
    expected, found = (layer_fits("SPATIAL", scheme, seen, w) for seen in (full, columns))
    np.testing.assert_allclose(found.missed(), expected.missed(), atol=1e-6)
    a, b = (each.fit(3) for each in (expected, found))
    np.testing.assert_allclose(a.left @ a.right, b.left @ b.right, atol=1e-6)


@pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])
@pytest.mark.parametrize(("count", "bias"), [(None, 0), (30, 0), (30, 2)])
def test_properties_of_few_columns_are_those_of_their_moments(count, bias, own, rng):
    for centred in (True, False):
        columns, full, w = few_columns(rng, SHORT["more"], own, centred, 2, count=count, bias=bias)
        assert (columns.own is None) == (full.own is None) == (not own or (bias and not centred))
        for name in ("x_mean", "y_mean", "xx", "yx", "yy", "second"):
            np.testing.assert_allclose(getattr(columns, name), getattr(full, name), atol=1e-9)
        np.testing.assert_allclose(columns.ridge, full.ridge)
        np.testing.assert_allclose(columns.times_second(w), full.times_second(w), atol=1e-9)
        for prior in (w, 0 * w):
            np.testing.assert_allclose(columns.best(prior), full.best(prior), atol=1e-6)
        values, vectors = columns.main_inputs(12)
        np.testing.assert_allclose(full.second @ vectors, values[:, None] * vectors, atol=1e-9)


def test_columns_that_are_alike_have_orthonormal_components_too(rng):
    x = np.repeat(rng.standard_normal((1, 20, 3)), 3, axis=2)
    nothing = np.zeros((1, 4))
    columns = Columns(x, np.zeros((1, 4, 9)), np.zeros((1, 20)), nothing, nothing)
    values, q = columns.main_inputs(5)
    np.testing.assert_allclose(q.swapaxes(1, 2) @ q, np.eye(5)[None], atol=1e-9)
    np.testing.assert_allclose(columns.second @ q, values[:, None] * q, atol=1e-9)


def test_a_layer_with_many_inputs_never_has_them_squared(rng, monkeypatch):
    w = rng.standard_normal((60, 9_000)).astype("f4")
    product = DenseConvolution(Geometry((9_000, 1, 1, 20), 60, Window((1, 1))), np.float32)
    x = rng.standard_normal((9_000, 1, 1, 20)).astype("f4")
    y = (w @ x[:, 0, 0])[:, None, None]
    for name in ("xx", "second"):
        monkeypatch.setattr(Columns, name, None)
    for own in (w, None):
        sums = MomentSums(own)
        for _ in range(2):
            sums.add(product, x, y)
        fits = layer_fits("CHANNEL", ChannelScheme((60, 9_000, 1, 1), 1), sums.moments(), w)
        assert fits.missed()[[0, 40]] == pytest.approx([1, 0], abs=1e-3)
        assert fits.fit(5).energy == pytest.approx(1 - fits.missed()[5])


@each_target
@each_kind
def test_factors_fitted_to_a_few_images_answer_to_others(kind, own, rng):
    """As dense weights are stayed near to, the more the fewer columns there are: the mean of some tasks."""
    ratios = []
    for _ in range(6):
        many = Task(rng, kind, own=own)
        few = Task(rng, kind, own=own, w=many.w, x=many.x[..., :1])
        errors = []
        for count in (None, few.columns.shape[2]):
            few.moments.count = count
            found = fit(few.scheme, few.moments, 3, few.w)
            errors.append(many.error(many.scheme.weights(found.left @ found.right)))
        ratios.append(errors[1] / errors[0])
    is_safe_anyhow = kind is ChannelScheme and own  # projected weights answer to any images
    assert np.mean(ratios) < (1.1 if is_safe_anyhow else 0.8)


# -- columns of batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])
@pytest.mark.parametrize("batches", [1, 2, 3, 5])
def test_columns_are_kept_until_there_are_as_many_as_rows(batches, own, rng):
    w = rng.standard_normal((4, 3, 3, 3))
    product = DenseConvolution(Geometry((6, 4, 4, 3), 4, Window((3, 3)), 2), np.float64)
    sums, seen = MomentSums(w if own else None), []
    for _ in range(batches):  # of 12 columns, for 27 rows
        x, y = image_like(rng, (6, 4, 4, 3)), np.empty((4, 2, 2, 3))
        product.forward(x, w, y)
        sums.add(product, x, y)
        seen.append((im2col(x, Window((3, 3))).reshape(2, 27, -1), y.reshape(2, 2, -1)))
    found = sums.moments()
    assert isinstance(found, Columns) == (batches < 3)
    expected = direct(*(np.concatenate(parts, axis=2) for parts in zip(*seen, strict=True)))
    fields = (found.x_mean, found.y_mean, found.xx, found.yx, found.yy)
    for field, value in zip(fields, expected, strict=True):
        np.testing.assert_allclose(field, value, atol=1e-9)


@pytest.mark.parametrize("window", [Window((3, 2), (2, 1), (1, 2), (1, 2)), Window((1, 1))])
def test_columns_by_number_are_those_of_the_data_matrix(window, rng):
    x = rng.standard_normal((4, 7, 6, 3))
    geometry = Geometry(x.shape, 4, window, 2)
    whole = im2col(x, window).reshape(2, geometry.depth, -1)
    for numbers in (np.array([0, 3, 7, whole.shape[2] - 1]), np.arange(whole.shape[2])):
        np.testing.assert_array_equal(columns_at(x, geometry, numbers), whole[:, :, numbers])
    np.testing.assert_allclose(column_mean(x, geometry), whole.mean(axis=2))


@pytest.mark.parametrize("images", [20, 5])
def test_a_sample_has_the_responses_of_its_own_columns(images, rng, monkeypatch):
    monkeypatch.setattr(moment_sums, "ENOUGH_COLUMNS", 50)
    monkeypatch.setattr(moment_sums, "COLUMNS_PER_ROW", 1)
    monkeypatch.setattr(moment_sums, "WORTH_SAMPLING", 1)
    monkeypatch.setattr(moment_sums, "PIECE", 10)
    w, b = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4)
    product = DenseConvolution(Geometry((4, 9, 8, images), 4, Window((3, 3)), 2), np.float64)
    found = []
    for _ in range(2):
        batches = [image_like(np.random.default_rng(n), (4, 9, 8, images)) for n in range(2)]
        sums = MomentSums(batches=2)
        for x in batches:
            y = np.empty(product.geometry.output_shape)
            product.forward(x, w, y, b)
            sums.add(product, x, y)
        assert sums.columns == 50
        found.append(sums.moments())
    np.testing.assert_allclose(found[0].yx, w.reshape(2, 2, 18) @ found[0].xx, atol=1e-9)
    np.testing.assert_array_equal(found[0].xx, found[1].xx)  # the same positions every time


def test_least_squares_from_a_sample_are_nearly_those_from_all_columns(rng, monkeypatch):
    monkeypatch.setattr(moment_sums, "ENOUGH_COLUMNS", 0)
    w = rng.standard_normal((4, 2, 3, 3))
    product = DenseConvolution(Geometry((2, 50, 50, 4), 4, Window((3, 3))), np.float64)
    all_columns, some = MomentSums(), MomentSums(batches=2)
    for _ in range(2):
        x, y = image_like(rng, product.geometry.shape), np.empty(product.geometry.output_shape)
        x[:, :25] = 0  # a part of an image is no sample
        product.forward(x, w, y)
        y += rng.standard_normal(y.shape)  # what no weights answer
        for sums in (all_columns, some):
            sums.add(product, x, y)
    assert some.columns == 80 * 18 < 0.1 * all_columns.columns
    seen, errors = all_columns.moments(), []
    for moments in (seen, some.moments()):
        moments.count = None
        best = moments.best(np.zeros((1, 4, 18)))
        errors.append(seen.yy.sum() - (best * (2 * seen.yx - best @ seen.xx)).sum())
    assert errors[0] < errors[1] < (1 + 2 / 80) * errors[0]


@pytest.mark.parametrize(("batches", "taken"), [(1, 400), (3, 400), (4, 100)])
def test_a_batch_is_sampled_where_that_takes_a_quarter_or_less(batches, taken, rng, monkeypatch):
    monkeypatch.setattr(moment_sums, "ENOUGH_COLUMNS", 400)
    monkeypatch.setattr(moment_sums, "COLUMNS_PER_ROW", 0)
    product = DenseConvolution(Geometry((1, 20, 20, 1), 2, Window((1, 1))), np.float64)
    sums = MomentSums(batches=batches)
    sums.add(product, image_like(rng, (1, 20, 20, 1)), np.zeros((2, 20, 20, 1)))
    assert sums.columns == taken


def test_moments_of_a_net_with_an_inner_product_of_few_images_are_columns(rng):
    net = mc.Net(
        parse_net(
            "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [4, 3, 6, 5]}}}\n"
            "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 7}}\n"
        ),
        seed=5,
    )
    found = moment_sums.of_layers(net, ["ip"], [{"x": to_device(rng.standard_normal((4, 3, 6, 5)))}])["ip"]
    assert isinstance(found, Columns) and found.count == 4


def test_fits_of_several_layers_are_made_at_the_same_time():
    both = threading.Barrier(2, timeout=10)

    class Waiting:
        @cached_property
        def value(self):
            """Can only be had of two objects at once."""
            return both.wait()

    objects = Waiting(), Waiting()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda waiting: waiting.value, objects))
    assert found == [waiting.value for waiting in objects] and sorted(found) == [0, 1]
