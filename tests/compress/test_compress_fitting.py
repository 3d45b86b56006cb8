"""Moments are those of the data matrix, and factors fitted to them are as near to the responses as they can be."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress import moment_sums
from minicaffe.compress.fitting import layer_fits
from minicaffe.compress.moment_sums import MomentSums
from minicaffe.compress.moments import Moments
from minicaffe.device.array import to_device
from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.schemes import ChannelScheme, SpatialScheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import im2col
from minicaffe.spec.net import parse_net


def fit(scheme, seen, rank, w):
    """The factors of a rank in the scheme's own way; ``w`` are weights to stay near to."""
    way = "CHANNEL" if isinstance(scheme, ChannelScheme) else "SPATIAL"
    return layer_fits(way, scheme, seen, w).fit(rank)


def image_like(rng, shape):
    """Smooth random images (C, H, W, N) with a mean: correlated, as real activations are."""
    x = rng.standard_normal(shape)
    for axis in (1, 2):
        x = x + np.roll(x, 1, axis)
    mix = rng.standard_normal((shape[0], shape[0]))
    return np.einsum("dc,chwn->dhwn", mix, x) + rng.standard_normal(shape) + 1.5


def direct(columns, responses):
    """Moments of columns (g, k, P) and responses (g, m, P), by NumPy."""
    x_mean, y_mean = columns.mean(axis=2), responses.mean(axis=2)
    x, y = columns - x_mean[:, :, None], responses - y_mean[:, :, None]
    count = columns.shape[2]
    return x_mean, y_mean, x @ x.swapaxes(1, 2) / count, y @ x.swapaxes(1, 2) / count, (y**2).mean(axis=2)


def assert_moments(found, expected):
    fields = (found.x_mean, found.y_mean, found.xx, found.yx, found.yy)
    for field, value in zip(fields, expected, strict=True):
        assert field.dtype == np.float64
        np.testing.assert_allclose(field, value, rtol=1e-9, atol=1e-10 * np.abs(value).max())


# -- moments of a net's layers ---------------------------------------------------------------------------

CONV, IP = "type: Convolution, convolution_param:", "type: InnerProduct, inner_product_param:"
# (the second layer of a net, its window, its groups); the bottom has 4 channels of 6 × 5
LAYERS = {
    "plain": (f"{CONV} {{num_output: 3, kernel_size: 3}}", Window((3, 3)), 1),
    "groups, padded": (
        f"{CONV} {{num_output: 6, kernel_size: [3, 2], pad: [1, 2], group: 2}}",
        Window((3, 2), pad=(1, 2)),
        2,
    ),
    "strided, no bias": (
        f"{CONV} {{num_output: 4, kernel_size: 3, stride: 2, pad: 1, bias_term: false}}",
        Window((3, 3), (2, 2), (1, 1)),
        1,
    ),
    "dilated, depthwise": (
        f"{CONV} {{num_output: 4, kernel_size: 2, dilation: [3, 2], group: 4}}",
        Window((2, 2), dilation=(3, 2)),
        4,
    ),
    "1×1": (f"{CONV} {{num_output: 3, kernel_size: 1, group: 2}}".replace("3,", "4,", 1), Window((1, 1)), 2),
    "inner product": (f"{IP} {{num_output: 3}}", None, 1),
}


def two_layers(layer):
    """A net of two layers with weights, in float64: ``first``, in place a ReLU, and ``second``."""
    fillers = "weight_filler: {type: gaussian, std: 0.5}, bias_filler: {type: uniform}"
    text = (
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 6, 5]}}}\n"
        "- {name: first, type: Convolution, convolution_param: {num_output: 4, kernel_size: 1, "
        + fillers
        + "}}\n"
        "- {name: relu, type: ReLU, top: first}\n"
        f"- {{name: second, {layer[:-1]}, {fillers}}}}}\n"
        "- {name: after, type: ReLU, top: second}\n"
    )
    return mc.Net(parse_net(text), seed=5, dtype="float64")


def batches_of(rng, *sizes):
    return [{"x": to_device(np.moveaxis(image_like(rng, (3, 6, 5, size)), -1, 0))} for size in sizes]


def seen(net, batch, name):
    """The blob that a layer gets, or gives before anything works on it in place, batch last."""
    net.blobs["x"].reshape(*batch["x"].shape)
    net.reshape()
    return np.moveaxis(net.forward(x=batch["x"], end=name)["first" if name != "second" else "second"], 0, -1)


def matrices(net, answering, batches, window, group):
    """The second layer's data matrices from one net and the responses of another, over all batches."""
    xs = [seen(net, batch, "relu") for batch in batches]
    ys = [seen(answering, batch, "second") for batch in batches]
    if window is None:
        columns = [x.reshape(-1, x.shape[-1]) for x in xs]
    else:
        columns = [im2col(x, window) for x in xs]
    columns, ys = np.concatenate(columns, axis=1), [y.reshape(len(y), -1) for y in ys]
    responses = np.concatenate(ys, axis=1)
    return (a.reshape(group, -1, a.shape[1]) for a in (columns, responses))


@pytest.mark.parametrize(("layer", "window", "group"), LAYERS.values(), ids=LAYERS)
def test_moments_of_layers_are_those_of_their_data_matrices_and_responses(layer, window, group, rng):
    net, batches = two_layers(layer), batches_of(rng, 2, 3, 1)
    found = moment_sums.of_layers(net, ["second", "first"], batches)
    assert_moments(found["second"], direct(*matrices(net, net, batches, window, group)))
    columns = np.concatenate([np.moveaxis(batch["x"], 0, -1).reshape(3, -1) for batch in batches], axis=1)
    w, b = (blob.data for blob in net.params["first"])
    assert_moments(found["first"], direct(columns[None], (w[:, :, 0, 0] @ columns + b[:, None])[None]))


@pytest.mark.parametrize(("layer", "window", "group"), LAYERS.values(), ids=LAYERS)
def test_moments_between_nets_have_the_inputs_of_one_and_the_responses_of_the_other(
    layer, window, group, rng
):
    original, approximated, batches = two_layers(layer), two_layers(layer), batches_of(rng, 1, 3)
    for name, blobs in approximated.params.items():
        for blob in blobs:
            blob.data[...] += 0.3 * rng.standard_normal(blob.shape) if name == "first" else np.nan
    found = moment_sums.between(original, approximated, "second", batches)
    assert_moments(found, direct(*matrices(approximated, original, batches, window, group)))


def test_second_and_uncentred_moments_are_those_of_the_numbers_themselves(rng):
    columns, responses = rng.standard_normal((2, 5, 40)) + 2, rng.standard_normal((2, 3, 40)) - 1
    m = Moments(*direct(columns, responses))
    np.testing.assert_allclose(m.second, columns @ columns.swapaxes(1, 2) / 40, rtol=1e-12)
    bare = m.uncentred()
    assert not bare.x_mean.any() and not bare.y_mean.any()
    np.testing.assert_allclose(bare.xx, m.second, rtol=1e-12)
    np.testing.assert_allclose(bare.yx, responses @ columns.swapaxes(1, 2) / 40, rtol=1e-12)
    np.testing.assert_allclose(bare.yy, (responses**2).mean(axis=2), rtol=1e-12)


def test_without_a_bias_the_layers_own_weights_are_the_best_if_it_had_none_before(rng):
    columns, w = rng.standard_normal((2, 5, 40)) + 2, rng.standard_normal((2, 3, 5))
    assert Moments(*direct(columns, w @ columns), w).uncentred().own is w
    assert Moments(*direct(columns, w @ columns + 0.01), w).uncentred().own is None


def test_inputs_that_vary_by_rounding_move_no_weights(rng):
    x = (1000 + 1e-5 * rng.standard_normal((1, 5, 200))).astype("f4").astype("f8")
    y = 1e-3 * rng.standard_normal((1, 3, 200))
    w = rng.standard_normal((1, 3, 5))
    assert x.std() > 0
    np.testing.assert_allclose(Moments(*direct(x, y)).best(w), w, atol=0.5)


# -- factors ---------------------------------------------------------------------------------------------


class Task:
    """A layer's data matrices and the responses that are wanted: its own, or those to other inputs."""

    def __init__(self, rng, kind, group=1, own=True, w=None, window=None, x=None):
        window = window or Window((3, 3), pad=(1, 1))
        x, shape = image_like(rng, (4, 6, 5, 7)) if x is None else x, (6, 4 // group, *window.kernel)
        self.scheme, self.group, self.x = kind(shape, group), group, x
        self.w = rng.standard_normal(shape) if w is None else w
        product = DenseConvolution(Geometry(x.shape, 6, window, group), np.float64)
        y = np.empty((6, *product.geometry.output, x.shape[3]))
        product.forward(x if own else x + 0.7 * image_like(rng, x.shape), self.w, y, rng.standard_normal(6))
        sums = MomentSums()
        sums.add(product, x, y)
        self.moments = sums.moments()
        self.columns = im2col(x, window).reshape(group, product.geometry.depth, -1)
        self.y = y.reshape(6, -1)

    @property
    def exact(self):
        """The moments as those of all columns that there can be: W* is then the least squares answer, nearly."""
        m = self.moments
        return Moments(m.x_mean, m.y_mean, m.xx, m.yx, m.yy)

    def misses(self, weights, bias):
        """y − ŷ (M, P) for weights (M, C/g, kh, kw) or (g, m, k)."""
        answers = weights.reshape(self.group, 6 // self.group, -1) @ self.columns
        return self.y - answers.reshape(6, -1) - bias[:, None]

    def error(self, weights, bias=None):
        """E‖y − ŷ‖², with the best bias where none is given."""
        misses = self.misses(weights, np.zeros(6) if bias is None else bias)
        if bias is None:
            misses = misses - misses.mean(axis=1, keepdims=True)
        return (misses**2).sum(axis=0).mean()

    def fitted_error(self, fit):
        return self.error(self.scheme.weights(fit.left @ fit.right), fit.bias)

    @property
    def variance(self):
        return self.y.var(axis=1).sum()


BOTH = {"channel": ChannelScheme, "spatial": SpatialScheme}
each_kind = pytest.mark.parametrize("kind", BOTH.values(), ids=BOTH)
each_group = pytest.mark.parametrize("group", [1, 2])
each_target = pytest.mark.parametrize("own", [True, False], ids=["own responses", "others'"])


def least_squares_of_rank(columns, responses, rank):
    """The least E‖y − Ŵ·x‖² of any Ŵ of this rank, one group: reduced-rank regression through an orthonormal basis
    of the rows of x (Eckart and Young), by NumPy."""
    basis = np.linalg.svd(columns, full_matrices=False)[2]
    inside = responses @ basis.T
    tail = np.linalg.svd(inside, compute_uv=False)[rank:]
    return ((responses**2).sum() - (inside**2).sum() + (tail**2).sum()) / columns.shape[1]


@pytest.mark.parametrize("rank", [1, 2, 3])
@each_target
@each_group
def test_channel_factors_are_the_best_of_their_rank(group, own, rank, rng):
    task = Task(rng, ChannelScheme, group, own)
    found = fit(task.scheme, task.exact, rank, task.w)
    columns = task.columns - task.columns.mean(axis=2, keepdims=True)
    responses = (task.y - task.y.mean(axis=1, keepdims=True)).reshape(group, 6 // group, -1)
    best = sum(least_squares_of_rank(columns[g], responses[g], rank) for g in range(group))
    assert task.fitted_error(found) == pytest.approx(best, rel=1e-5, abs=1e-7 * task.variance)


@each_target
@each_group
def test_no_small_change_of_channel_factors_comes_nearer(group, own, rng):
    task = Task(rng, ChannelScheme, group, own)
    found = fit(task.scheme, task.exact, 2, task.w)
    least = task.fitted_error(found)
    for size in (1e-1, 1e-2):
        for _ in range(10):
            left, right = (
                f + size * f.std() * rng.standard_normal(f.shape) for f in (found.left, found.right)
            )
            assert task.error(task.scheme.weights(left @ right)) > least


@pytest.mark.parametrize(("rank", "asked"), [(1, 1), (3, 3), (1, 3)])
@each_group
@each_kind
def test_weights_of_a_lower_rank_than_is_asked_for_are_found_again(kind, group, rank, asked, rng):
    scheme = kind((6, 4 // group, 3, 3), group)
    m, n = scheme.matrix_shape
    low = rng.standard_normal((group, m, rank)) @ rng.standard_normal((group, rank, n))
    task = Task(rng, kind, group, w=scheme.weights(low))
    found = fit(task.scheme, task.moments, asked, task.w)
    assert found.energy == pytest.approx(1, abs=1e-6)
    assert task.fitted_error(found) < 1e-6 * task.variance
    np.testing.assert_allclose(scheme.weights(found.left @ found.right), task.w, atol=0.05)


@each_group
@each_kind
def test_at_full_rank_the_responses_are_reproduced(kind, group, rng):
    task = Task(rng, kind, group)
    found = fit(task.scheme, task.moments, min(task.scheme.matrix_shape), task.w)
    assert task.fitted_error(found) < 1e-6 * task.variance
    answers = task.y - task.misses(task.scheme.weights(found.left @ found.right), found.bias)
    np.testing.assert_allclose(answers, task.y, atol=1e-3 * task.y.std())


@pytest.mark.parametrize("rank", [1, 2])
@each_target
@each_group
@each_kind
def test_the_bias_leaves_no_mean_error(kind, group, own, rank, rng):
    task = Task(rng, kind, group, own)
    found = fit(task.scheme, task.moments, rank, task.w)
    misses = task.misses(task.scheme.weights(found.left @ found.right), found.bias)
    assert np.abs(misses).mean() > 0.1
    np.testing.assert_allclose(misses.mean(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 2, 3])
@each_target
@each_group
@each_kind
def test_energy_is_the_share_of_the_responses_variance_that_is_kept(kind, group, own, rank, rng):
    task = Task(rng, kind, group, own)
    found = fit(task.scheme, task.moments, rank, task.w)
    assert found.energy == pytest.approx(1 - task.fitted_error(found) / task.variance, abs=1e-9)
    assert 0 < found.energy < 1 + 1e-9


@each_target
@each_group
@each_kind
def test_a_layer_without_a_bias_gets_none_and_factors_that_do_without(kind, group, own, rng):
    task = Task(rng, kind, group, own)
    found = fit(task.scheme, task.exact.uncentred(), 2, task.w)
    assert not found.bias.any()
    squares = (task.y**2).sum(axis=0).mean()
    error = task.fitted_error(found)
    assert found.energy == pytest.approx(1 - error / squares, abs=1e-9)
    left, right = svd(task.scheme.matrix(task.w)).truncate(2).factors()
    assert error < 0.99 * task.error(task.scheme.weights(left @ right), np.zeros(6))
    if kind is ChannelScheme:
        responses = task.y.reshape(group, 6 // group, -1)
        best = sum(least_squares_of_rank(task.columns[g], responses[g], 2) for g in range(group))
        assert error == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 18])
@each_group
def test_a_data_basis_keeps_its_share_of_the_eigenvalues_and_the_weights_and_bias(group, rank, rng):
    task = Task(rng, ChannelScheme, group)
    bias = rng.standard_normal(6)
    found = layer_fits("DATA", task.scheme, task.moments, task.w, bias).fit(rank)
    values = np.linalg.eigvalsh(task.columns @ task.columns.swapaxes(1, 2))[:, ::-1]
    assert found.energy == pytest.approx(values[:, :rank].sum() / values.sum(), rel=1e-9)
    projected = found.right.swapaxes(1, 2) @ (found.right @ task.columns)
    kept = 1 - ((task.columns - projected) ** 2).sum() / (task.columns**2).sum()
    assert found.energy == pytest.approx(kept, rel=1e-9)
    np.testing.assert_allclose(found.left, task.w.reshape(group, 6 // group, -1) @ found.right.swapaxes(1, 2))
    np.testing.assert_array_equal(found.bias, bias)
    assert not layer_fits("DATA", task.scheme, task.moments, task.w).fit(rank).bias.any()


# -- approximated layers one after the other -------------------------------------------------------------


@pytest.mark.parametrize(("layer", "group", "at_most"), [("plain", 1, 0.95), ("groups, padded", 2, 0.97)])
@each_kind
def test_asymmetric_moments_give_nearer_responses_behind_an_approximated_layer(
    kind, layer, group, at_most, rng
):
    original, approximated = two_layers(LAYERS[layer][0]), two_layers(LAYERS[layer][0])
    first, second = ChannelScheme((4, 3, 1, 1), 1), kind(original.params["second"][0].shape, group)
    batches, rank = batches_of(rng, 4, 3), 3 if group > 1 else 2
    seen_in = moment_sums.of_layers(original, ["first", "second"], batches)
    w, its_w = (original.params[name][0].data for name in ("first", "second"))
    put(approximated, "first", first, fit(first, seen_in["first"], 1, w))
    errors = []
    for m in (seen_in["second"], moment_sums.between(original, approximated, "second", batches)):
        m.count = None  # the columns that they answer to are those that were seen
        found = fit(second, m, rank, its_w)
        put(approximated, "second", second, found)
        pairs = [[seen(net, batch, "second") for net in (original, approximated)] for batch in batches]
        misses = np.concatenate([(y - answer).reshape(len(y), -1) for y, answer in pairs], axis=1)
        errors.append((misses**2).sum(axis=0).mean())
    assert errors[1] < at_most * errors[0]
    assert found.energy == pytest.approx(float(1 - errors[1] / m.yy.sum()), abs=1e-9)


def put(net, name, scheme, found):
    w, b = net.params[name]
    w.data[...] = scheme.weights(found.left @ found.right)
    b.data[...] = found.bias


# -- numbers that leave nothing to fit -------------------------------------------------------------------

X_SHAPE, W_SHAPE = (4, 6, 5, 3), (6, 4, 3, 3)
NOTHING = {
    "images of zeros": (np.zeros(X_SHAPE), None),
    "images of one number": (np.full(X_SHAPE, 2.0), None),
    "weights of zeros": (None, np.zeros(W_SHAPE)),
    "images of one number, weights of zeros": (np.full(X_SHAPE, 2.0), np.zeros(W_SHAPE)),
    "a channel of zeros": (np.ones(X_SHAPE) * np.array([0, 1, 1, 1])[:, None, None, None], None),
}


@pytest.mark.parametrize("centred", [True, False], ids=["centred", "no bias"])
@pytest.mark.parametrize("kind", ["channel", "spatial", "data"])
@pytest.mark.parametrize(("x", "w"), NOTHING.values(), ids=NOTHING)
def test_where_there_is_nothing_to_fit_factors_are_finite_and_answer_what_is_wanted(x, w, kind, centred, rng):
    is_varied = x is None or x.std() > 1
    x = image_like(rng, X_SHAPE) if x is None else x
    w = rng.standard_normal(W_SHAPE) if w is None else w
    product = DenseConvolution(Geometry(x.shape, 6, Window((3, 3))), np.float64)
    y = np.empty((6, *product.geometry.output, product.geometry.batch))
    product.forward(x, w, y)
    sums = MomentSums()
    sums.add(product, x, y)
    m = sums.moments() if centred else sums.moments().uncentred()
    scheme = BOTH.get(kind, ChannelScheme)(W_SHAPE, 1)
    for count in (m.count, None):  # None: a ridge that is next to none
        m.count = count
        found = layer_fits("DATA", scheme, m, w).fit(4) if kind == "data" else fit(scheme, m, 4, w)
        assert all(np.isfinite(a).all() for a in (found.left, found.right, found.bias))
        assert -1e-6 <= found.energy <= 1 + 1e-6
    answers = np.empty_like(y)
    product.forward(x, scheme.weights(found.left @ found.right), answers, found.bias)
    if not is_varied or not w.any():
        np.testing.assert_allclose(answers, y, atol=1e-9 + 0.02 * np.abs(y).max())


@pytest.mark.parametrize("size", [8, 3], ids=["all columns", "few in a batch"])
@pytest.mark.parametrize(("mean", "spread"), [(0.1, 1e-4), (130, 1), (130, 0.1), (-5, 0.5)])
def test_moments_and_weights_are_exact_for_inputs_far_from_zero(mean, spread, size):
    rng = np.random.default_rng(3)
    sums, w = MomentSums(), rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    product = DenseConvolution(Geometry((3, size, size, 16), 8, Window((3, 3))), np.float32)
    seen = []
    for _ in range(4):
        x = (mean + spread * rng.standard_normal((3, size, size, 16))).astype(np.float32)
        y = np.empty((8, *product.geometry.output, 16), np.float32)
        product.forward(x, w, y)
        sums.add(product, x, y)
        seen.append(im2col(x.astype(np.float64), Window((3, 3))))
    moments = sums.moments()
    expected = np.cov(np.concatenate(seen, axis=1), bias=True)
    np.testing.assert_allclose(moments.xx[0], expected, atol=1e-3 * np.trace(expected) / 27)
    moments.count = None  # of all columns
    found = moments.best(np.zeros((1, 8, 27)))
    np.testing.assert_allclose(found[0], w.reshape(8, -1), atol=0.05)


@each_target
@each_group
@pytest.mark.parametrize("rank", [1, 3, 12])
def test_a_basis_for_the_responses_answers_as_channel_factors_do_and_goes_on_with_the_data(
    group, own, rank, rng
):
    task = Task(rng, ChannelScheme, group, own)
    found = layer_fits("BASIS", task.scheme, task.moments, task.w).fit(rank)
    q = found.right.swapaxes(1, 2)
    np.testing.assert_allclose(found.right @ q, np.broadcast_to(np.eye(rank), (group, rank, rank)), atol=1e-9)
    most = min(rank, *task.scheme.matrix_shape)
    as_channel = fit(task.scheme, task.moments, most, task.w)
    np.testing.assert_allclose(found.left @ found.right, as_channel.left @ as_channel.right, atol=1e-8)
    np.testing.assert_allclose(found.bias, as_channel.bias)
    seen = found.right @ task.moments.second @ q
    share = np.trace(seen, axis1=1, axis2=2).sum() / np.trace(task.moments.second, axis1=1, axis2=2).sum()
    assert rank == most or share > 0.5  # the data's own components follow


@each_kind
@each_group
def test_fitted_factors_are_of_equal_size(kind, group, rng):
    task = Task(rng, kind, group)
    found = fit(task.scheme, task.moments, 3, task.w)
    sizes = [np.linalg.svd(a, compute_uv=False) for a in (found.left, found.right)]
    np.testing.assert_allclose(*sizes, rtol=1e-8)
