"""Convolution and InnerProduct of low rank in a net: what they compute, load, train, hold, cost and refuse."""

import copy
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
from training import arrays_of, assert_same_files

import minicaffe as mc
from minicaffe.ops.im2col import Window, im2col
from minicaffe.spec.net import parse_net

RNG = np.random.default_rng()


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order_of_tests():
    global RNG
    RNG = np.random.default_rng(53)


# -- one layer on one input ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer ``conv`` on an input ``x``: its YAML, and its weights' shape as (M, C/g, kh, kw) in g groups."""

    shape: tuple
    settings: str
    weights: tuple
    group: int = 1
    type: str = "Convolution"

    def text(self, low_rank="", shape=None, more=""):
        param = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}[self.type]
        fillers = "weight_filler: {type: gaussian, std: 0.4}, bias_filler: {type: uniform, min: -1}"
        low_rank = f", low_rank_param: {{{low_rank}}}" if low_rank else ""
        return (
            "name: one\nlayer:\n"
            f"- {{name: x, type: Input, input_param: {{shape: {{dim: {list(shape or self.shape)}}}}}}}\n"
            f"- {{name: conv, type: {self.type}{more}, {param}: {{{self.settings}, {fillers}}}{low_rank}}}\n"
        )

    def full_rank(self, low_rank):
        filters, channels, kh, kw = self.weights
        if "data" in low_rank:
            return channels * kh * kw
        if "spatial" in low_rank:
            return min(channels * kh, filters // self.group * kw)
        return min(filters // self.group, channels * kh * kw)

    def random_input(self):
        return RNG.standard_normal(self.shape)


CONVOLUTIONS = {
    "plain": Case((2, 4, 6, 5), "num_output: 6, kernel_size: 3", (6, 4, 3, 3)),
    "strided": Case(
        (3, 2, 9, 8),
        "num_output: 5, kernel_size: [3, 2], stride: [2, 1], pad: [1, 0], bias_term: false",
        (5, 2, 3, 2),
    ),
    "dilated": Case((2, 3, 8, 7), "num_output: 4, kernel_size: 3, dilation: 2, pad: 2", (4, 3, 3, 3)),
    "groups": Case((2, 6, 5, 5), "num_output: 8, kernel_size: 3, pad: 1, group: 2", (8, 3, 3, 3), 2),
    "depthwise": Case((2, 4, 5, 6), "num_output: 8, kernel_size: 3, group: 4", (8, 1, 3, 3), 4),
    "1×1": Case((3, 6, 4, 3), "num_output: 5, kernel_size: 1", (5, 6, 1, 1)),
    "a kernel larger than the image": Case(
        (2, 3, 2, 3), "num_output: 5, kernel_size: 5, pad: 2", (5, 3, 5, 5)
    ),
    "a batch of one": Case((1, 4, 5, 5), "num_output: 6, kernel_size: 3, pad: 1", (6, 4, 3, 3)),
    "one spatial axis": Case((3, 4, 9), "num_output: 6, kernel_size: 3, pad: 1", (6, 4, 1, 3)),
    "axis 2": Case((2, 3, 4, 5, 4), "num_output: 6, kernel_size: 2, axis: 2", (6, 4, 2, 2)),
}
INNER_PRODUCTS = {
    "inner product": Case((5, 3, 2, 2), "num_output: 7", (7, 12, 1, 1), type="InnerProduct"),
    "inner product, axis 2": Case((2, 3, 8), "num_output: 5, axis: 2", (5, 8, 1, 1), type="InnerProduct"),
    "inner product, no bias": Case(
        (1, 9), "num_output: 6, bias_term: false", (6, 9, 1, 1), type="InnerProduct"
    ),
    "inner product, transposed": Case(
        (4, 9), "num_output: 6, transpose: true", (6, 9, 1, 1), type="InnerProduct"
    ),
}
CASES = {**CONVOLUTIONS, **INNER_PRODUCTS}
SOME = {name: CASES[name] for name in ("plain", "groups", "inner product")}
PLAIN, GROUPS, INNER = SOME.values()

some_cases = pytest.mark.parametrize("case", SOME.values(), ids=SOME)
each_phase = pytest.mark.parametrize("phase", ["train", "test"])
schemes = pytest.mark.parametrize("scheme", ["channel", "spatial"])


def fits(case, low_rank):
    """Whether the case takes these settings at all."""
    is_inner = case.type == "InnerProduct"
    return not (
        is_inner and ("spatial" in low_rank or ("factored" in low_rank and "transpose" in case.settings))
    )


def combined(settings, cases=None):
    """All cases with all settings that they take, as (case, settings)."""
    return [
        pytest.param(
            case,
            low_rank,
            id=f"{case_name}-{name}",
        )
        for case_name, case in (cases or CASES).items()
        for name, low_rank in settings.items()
        if fits(case, low_rank)
    ]


def canonical(case, blob):
    """Blob 0 of a dense layer as (M, C/g, kh, kw), in float64."""
    w = blob.data.astype("f8")
    return (w.T if "transpose" in case.settings else w).reshape(case.weights)


def set_weights(case, net, w):
    """Write w (M, C/g, kh, kw) into a layer that is not factored."""
    blob = net.params["conv"][0]
    blob.data[...] = (w.reshape(len(w), -1).T if "transpose" in case.settings else w).reshape(blob.shape)


def truncated(w, group, rank, scheme="channel"):
    """w of this rank in every group, by LAPACK in float64."""
    result = np.empty(w.shape)
    _, channels, kh, kw = w.shape
    per_group = len(w) // group
    for g in range(group):
        rows = slice(g * per_group, (g + 1) * per_group)
        part = w[rows].astype("f8")
        if scheme == "spatial":
            matrix = part.transpose(1, 2, 0, 3).reshape(channels * kh, per_group * kw)
        else:
            matrix = part.reshape(per_group, -1)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        low = (u[:, :rank] * s[:rank]) @ vt[:rank]
        if scheme == "spatial":
            result[rows] = low.reshape(channels, kh, per_group, kw).transpose(2, 0, 1, 3)
        else:
            result[rows] = low.reshape(part.shape)
    return result


@pytest.fixture(scope="module")
def dense_file(tmp_path_factory):
    """The file of a case's dense layer, written once."""
    folder, paths = tmp_path_factory.mktemp("dense"), {}

    def find(case):
        if case not in paths:
            paths[case] = folder / f"{len(paths)}.npz"
            mc.Net(parse_net(case.text()), seed=3, dtype="float64").save(paths[case])
        return paths[case]

    return find


@pytest.fixture
def make_pair(make_net, dense_file):
    """A dense net, and a net of low rank that has its weights, from its file."""

    def make(case, low_rank, phase="test", dtype="float32"):
        dense, low = (
            make_net(text, weights=dense_file(case), phase=phase, seed=4, dtype=dtype)
            for text in (case.text(), case.text(low_rank))
        )
        return dense, low

    return make


def output(net, x):
    return net.forward(x=x)["conv"]


def output_of_weights(case, dense, w, x):
    """The dense layer's output, had it these weights (M, C/g, kh, kw)."""
    kept = dense.params["conv"][0].data.copy()
    set_weights(case, dense, w)
    y = output(dense, x)
    dense.params["conv"][0].data[...] = kept
    return y


def layer_of(net):
    return net.layers[-1]


def span(q):
    """Q·Qᵀ, the same for every basis of one space."""
    q = q.astype("f8")
    return q @ q.swapaxes(-1, -2)


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


# -- what they compute -----------------------------------------------------------------------------------

FULL = {
    "channel": "rank: {full}",
    "channel, gram": "rank: {full}, method: gram",
    "channel, randomized": "rank: {full}, method: randomized",
    "channel, by energy": "energy: 1",
    "channel, by flops": "flops: 100",
    "channel, held": "rank: {full}, refresh: 3",
    "channel, factored": "rank: {full}, factored: true",
    "spatial": "rank: {full}, scheme: spatial",
    "spatial, gram": "rank: {full}, method: gram, scheme: spatial",
    "spatial, by energy": "energy: 1, scheme: spatial",
    "spatial, held": "rank: {full}, refresh: 3, scheme: spatial",
    "spatial, factored": "rank: {full}, factored: true, scheme: spatial",
    "data": "rank: {full}, target: data",
    "data, svd": "rank: {full}, target: data, method: svd",
    "data, randomized": "rank: {full}, target: data, method: randomized",
    "data, every time": "rank: {full}, target: data, refresh: 1",
    "data, by energy": "energy: 1, target: data, refresh: 1",
}


@pytest.mark.parametrize(("case", "low_rank"), combined(FULL))
def test_at_full_rank_a_layer_computes_what_the_dense_layer_does(
    make_net, make_pair, dense_file, case, low_rank
):
    low_rank = low_rank.replace("{full}", str(case.full_rank(low_rank)))
    dense, in_test = make_pair(case, low_rank)
    in_training = make_net(case.text(low_rank), weights=dense_file(case), phase="train", seed=4)
    for low in (in_test, in_training, in_training):
        x = case.random_input()
        assert_close(output(low, x), output(dense, x))


METHODS = {
    "svd": "rank: 2",
    "gram": "rank: 2, method: gram",
    "randomized, as wide as the matrix": "rank: 2, method: randomized, oversampling: 50",
    "randomized, many power iterations": "rank: 2, method: randomized, power_iterations: 60",
    "held": "rank: 2, refresh: 3",
    "factored": "rank: 2, factored: true",
}
TRUNCATED = {
    **{f"channel, {name}": text for name, text in METHODS.items()},
    **{f"spatial, {name}": f"{text}, scheme: spatial" for name, text in METHODS.items()},
}


@pytest.mark.parametrize(("case", "low_rank"), combined(TRUNCATED))
def test_a_layer_of_low_rank_computes_with_lapacks_truncation_of_its_weights(
    make_net, make_pair, dense_file, case, low_rank
):
    rank = min(2, case.full_rank(low_rank))
    low_rank = low_rank.replace("rank: 2", f"rank: {rank}")
    dense, in_test = make_pair(case, low_rank)
    in_training = make_net(case.text(low_rank), weights=dense_file(case), phase="train", seed=4)
    w, x = canonical(case, dense.params["conv"][0]), case.random_input()
    scheme = "spatial" if "spatial" in low_rank else "channel"
    expected = output_of_weights(case, dense, truncated(w, case.group, rank, scheme), x)
    assert_close(output(in_test, x), expected)
    assert_close(output(in_training, x), expected)
    if rank < case.full_rank(low_rank):
        assert np.abs(expected - output(dense, x)).max() > 0.01


def data_matrix(case, net):
    """The data matrices (g, K/g, P) of what is in ``x``, in float64."""
    x = net.blobs["x"].data.astype("f8")
    if case.type == "InnerProduct":
        return x.reshape(-1, case.weights[1]).T[None]
    options = dict(re.findall(r"(stride|pad|dilation): (\[[^]]*\]|\d+)", case.settings))
    pairs = [[int(n) for n in re.findall(r"\d+", options.get(name, d))] for name, d in
             (("stride", "1"), ("pad", "0"), ("dilation", "1"))]  # fmt: skip
    stride, pad, dilation = (tuple(p * 2)[:2] for p in pairs)
    if "axis: 2" in case.settings:
        x = x.reshape(-1, *x.shape[2:])
    if x.ndim == 3:
        x, stride, pad = x[:, :, None], (1, stride[1]), (0, pad[1])
    columns = im2col(np.moveaxis(x, 0, -1), Window(case.weights[2:], stride, pad, dilation))
    return columns.reshape(case.group, -1, columns.shape[1])


def projected(case, net, w, b, q):
    """w·Q·Qᵀ·X + b as (M, P), for Q (g, K/g, r)."""
    columns = data_matrix(case, net)
    w = w.reshape(case.group, -1, columns.shape[1])
    y = (w @ q @ (q.swapaxes(-1, -2) @ columns)).reshape(case.weights[0], -1)
    return y + (0 if b is None else b.data.astype("f8")[:, None])


def output_matrix(case, y):
    """The layer's output as (M, P), columns ordered as the data matrix's."""
    if case.type == "InnerProduct":
        return y.reshape(-1, case.weights[0]).T
    if "axis: 2" in case.settings:
        y = y.reshape(-1, *y.shape[2:])
    return np.moveaxis(y, 0, -1).reshape(case.weights[0], -1)


def bias_of(case, net):
    blobs = net.params["conv"]
    return None if "bias_term: false" in case.settings else next(b for b in blobs if len(b.shape) == 1)


EXACT_BASES = {
    "gram": "rank: 1, target: data",
    "svd": "rank: 3, target: data, method: svd",
    "every time": "rank: 2, target: data, refresh: 1",
}


@each_phase
@pytest.mark.parametrize(("case", "low_rank"), combined(EXACT_BASES))
def test_with_a_low_rank_of_the_data_a_layer_computes_with_the_projected_data_matrix(
    make_pair, case, low_rank, phase
):
    dense, low = make_pair(case, low_rank, phase, "float64")
    w = canonical(case, dense.params["conv"][0])
    y = output(low, case.random_input())
    q = np.linalg.svd(data_matrix(case, low))[0][..., : int(low_rank[6])]
    expected = projected(case, low, w, bias_of(case, low), q)
    assert_close(output_matrix(case, y), expected, 1e-8)


@some_cases
def test_a_randomized_basis_of_the_data_is_within_a_hundredth_of_the_best(make_pair, case):
    _, low = make_pair(case, "rank: 4, target: data, method: randomized", "train", "float64")
    output(low, case.random_input())
    columns, q = data_matrix(case, low), layer_of(low).low_rank.factors.q
    error = np.linalg.norm(columns - q @ (q.swapaxes(-1, -2) @ columns))
    s = np.linalg.svd(columns, compute_uv=False)
    assert error <= 1.01 * np.sqrt((s[:, 4:] ** 2).sum())


@schemes
@pytest.mark.parametrize(
    ("fraction", "ranks"),
    [(0.001, (1, 1)), (0.25, (2, 3)), (0.5, (3, 6)), (0.9, (5, 11)), (0.999, (6, 12))],
)
@pytest.mark.parametrize("factored", ["", ", factored: true"], ids=["truncated", "factored"])
def test_a_fraction_for_a_rank_is_that_part_of_the_full_rank(make_pair, scheme, fraction, ranks, factored):
    rank = ranks[scheme == "spatial"]
    dense, low = make_pair(PLAIN, f"rank: {fraction}, scheme: {scheme}{factored}")
    assert layer_of(low).low_rank.rank == rank
    x = PLAIN.random_input()
    w = truncated(canonical(PLAIN, dense.params["conv"][0]), 1, rank, scheme)
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x))


@pytest.mark.parametrize(("fraction", "rank"), [(0.01, 1), (0.25, 9), (0.99, 36)])
def test_a_fraction_for_a_rank_of_the_data_is_that_part_of_the_data_matrix_rows(make_net, fraction, rank):
    net = make_net(PLAIN.text(f"rank: {fraction}, target: data"))
    assert layer_of(net).low_rank.rank == rank
    assert net.params["conv"][-1].shape == (1, 36, rank)


# (case, settings, multiply-adds of one image: of rank 1 in two stages, of the dense layer), counted by hand
COSTS = {
    "channel": (PLAIN, "", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "spatial": (PLAIN, ", scheme: spatial", 12 * (4 * 5) + 18 * (4 * 3), 6 * 36 * 12),
    "data": (PLAIN, ", target: data", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "groups": (GROUPS, "", 2 * 27 * 25 + 8 * 25, 8 * 27 * 25),
    "factored": (PLAIN, ", factored: true", 36 * 12 + 6 * 12, 6 * 36 * 12),
    "inner product": (INNER, "", 12 + 7, 7 * 12),
}
each_cost = pytest.mark.parametrize(("case", "settings", "rank_1", "whole"), COSTS.values(), ids=COSTS)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.9])
@each_cost
def test_flops_is_the_largest_rank_that_costs_at_most_this_share(
    make_net, case, settings, rank_1, whole, share
):
    layer = layer_of(make_net(case.text(f"flops: {share}{settings}")))
    rank = layer.low_rank.rank
    assert rank >= 1
    assert rank * rank_1 <= share * whole < (rank + 1) * rank_1
    assert layer.multiply_adds(None, None) == rank * rank_1


@each_cost
def test_flops_that_a_rank_costs_exactly_is_that_rank(make_net, case, settings, rank_1, whole):
    for rank in range(1, case.full_rank(settings) + 1):
        net = make_net(case.text(f"flops: {rank * rank_1 / whole!r}{settings}"))
        assert layer_of(net).low_rank.rank == rank


@each_cost
def test_flops_beyond_the_full_rank_is_the_full_rank_and_costs_no_more_than_dense(
    make_net, case, settings, rank_1, whole
):
    layer = layer_of(make_net(case.text(f"flops: 1e6{settings}")))
    assert layer.low_rank.rank == case.full_rank(settings)
    assert layer.multiply_adds(None, None) == whole


def rank_for(columns, energy):
    """The smallest rank that keeps the energy of a stack, by LAPACK."""
    squares = (np.linalg.svd(columns, compute_uv=False) ** 2).sum(axis=0)
    return 1 + np.count_nonzero(np.cumsum(squares) < energy * squares.sum())


@each_phase
@pytest.mark.parametrize("method", ["svd", "gram"])
@pytest.mark.parametrize("energy", [0.2, 0.6, 0.9])
@some_cases
def test_with_energy_the_rank_is_the_smallest_that_keeps_it_and_follows_the_weights(
    make_pair, case, energy, method, phase
):
    dense, low = make_pair(case, f"energy: {energy}, method: {method}", phase)
    ranks = []
    for scale in (1, 20):
        w = canonical(case, dense.params["conv"][0])
        w[0] *= scale
        set_weights(case, low, w)
        x = case.random_input()
        y = output(low, x)
        rank = rank_for(w.reshape(case.group, len(w) // case.group, -1), energy)
        assert layer_of(low).low_rank.rank == rank
        assert_close(y, output_of_weights(case, dense, truncated(w, case.group, rank), x))
        ranks.append(rank)
    assert ranks[1] <= ranks[0] and (ranks[1] < ranks[0] or ranks[0] == 1)


@each_phase
@pytest.mark.parametrize("energy", [0.6, 0.9])
@some_cases
def test_with_energy_of_the_data_the_rank_is_the_smallest_that_keeps_it_of_the_batch(
    make_pair, case, energy, phase
):
    dense, low = make_pair(case, f"energy: {energy}, target: data, refresh: 1", phase, "float64")
    w, ranks = canonical(case, dense.params["conv"][0]), []
    for scale in (1, 30):
        x = case.random_input()
        x[0] *= scale
        y = output(low, x)
        columns = data_matrix(case, low)
        rank = rank_for(columns, energy)
        assert layer_of(low).low_rank.rank == rank
        q = np.linalg.svd(columns)[0][..., :rank]
        assert_close(output_matrix(case, y), projected(case, low, w, bias_of(case, low), q), 1e-8)
        ranks.append(rank)
    assert ranks[0] != ranks[1]


@schemes
def test_several_bottoms_use_the_same_truncation(make_net, tmp_path, scheme):
    inputs = "".join(
        f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}\n"
        for i, shape in enumerate([[2, 3, 5, 4], [1, 3, 4, 6]])
    )
    text = (
        f"layer:\n{inputs}- {{name: conv, type: Convolution, bottom: [x0, x1], top: [y0, y1], convolution_param: "
        "{num_output: 5, kernel_size: 3, pad: 1, weight_filler: {type: xavier}}}\n"
    )
    x0, x1 = RNG.standard_normal((2, 3, 5, 4)), RNG.standard_normal((1, 3, 4, 6))
    dense = make_net(text, seed=1)
    dense.save(tmp_path / "w.npz")
    for more in ("", ", factored: true", ", method: gram"):
        low_text = text.replace(
            "xavier}}}\n", f"xavier}}}}, low_rank_param: {{rank: 2, scheme: {scheme}{more}}}}}\n"
        )
        low = make_net(low_text, weights=tmp_path / "w.npz")
        found = low.forward(x0=x0, x1=x1)
        dense.copy_from(tmp_path / "w.npz")
        w = dense.params["conv"][0].data
        w[...] = truncated(w, 1, 2, scheme)
        expected = dense.forward(x0=x0, x1=x1)
        for name in ("y0", "y1"):
            assert_close(found[name], expected[name])


GRADIENTS = {
    "truncated": "rank: 2",
    "factored": "rank: 2, factored: true",
    "held": "rank: 2, refresh: 3",
    "data": "rank: 2, target: data",
    "data, by energy": "energy: 0.3, target: data",
    "data, as dense": "rank: 9, target: data",
}


@pytest.mark.parametrize(("case", "low_rank"), combined(GRADIENTS, SOME))
def test_gradients_are_the_dense_layers_with_the_weights_of_low_rank(make_net, dense_file, case, low_rank):
    text = case.text(low_rank).replace("name: one", "force_backward: true")
    low = make_net(text, weights=dense_file(case), phase="train", dtype="float64")
    dense = make_net(
        case.text().replace("name: one", "force_backward: true"), weights=dense_file(case), dtype="float64"
    )
    x = case.random_input()
    dy = RNG.standard_normal(output(low, x).shape)
    w = canonical(case, dense.params["conv"][0])
    is_held = "data" in low_rank or "refresh" in low_rank
    if is_held:
        projector = span(layer_of(low).low_rank.factors.q)
        set_weights(
            case, dense, (w.reshape(case.group, -1, projector.shape[-1]) @ projector).reshape(w.shape)
        )
    else:
        set_weights(case, dense, truncated(w, case.group, 2))
    output(dense, x)
    found, expected = low.backward(conv=dy), dense.backward(conv=dy)
    assert_close(found["x"], expected["x"], 1e-9)
    assert_close(bias_of(case, low).diff, bias_of(case, dense).diff, 1e-9)
    if is_held:
        dw = dense.params["conv"][0].diff.reshape(case.group, -1, projector.shape[-1]) @ projector
        assert_close(low.params["conv"][0].diff, dw.reshape(low.params["conv"][0].shape), 1e-9)


# -- weights: files, changes in place, sharing -----------------------------------------------------------

LOADERS = {
    "truncated": "rank: 2",
    "factored": "rank: 2, factored: true",
    "spatial, factored": "rank: 2, factored: true, scheme: spatial",
    "data": "rank: 2, target: data",
    "held": "rank: 2, refresh: 3",
    "spatial, held": "rank: 2, refresh: 3, scheme: spatial",
}
each_loader = pytest.mark.parametrize("low_rank", LOADERS.values(), ids=LOADERS)


@each_phase
@pytest.mark.parametrize(("case", "low_rank"), combined(LOADERS, SOME))
def test_a_dense_layers_file_starts_a_layer_of_low_rank_with_its_truncation(
    make_net, dense_file, case, low_rank, phase
):
    dense = make_net(case.text(), weights=dense_file(case), dtype="float64")
    net = make_net(case.text(low_rank), phase=phase, seed=2, dtype="float64")
    x = case.random_input()
    output(net, x)  # with other weights, and a basis of them
    report = net.copy_from(dense_file(case))
    assert (report.matched, report.missing, report.unused) == (["conv"], [], [])
    y, w = output(net, x), canonical(case, dense.params["conv"][0])
    if "data" in low_rank:
        q = np.linalg.svd(data_matrix(case, net))[0][..., :2]
        assert_close(output_matrix(case, y), projected(case, net, w, bias_of(case, net), q), 1e-8)
    else:
        low = truncated(w, case.group, 2, "spatial" if "spatial" in low_rank else "channel")
        assert_close(y, output_of_weights(case, dense, low, x), 1e-8)


@each_loader
def test_the_file_of_a_layer_of_low_rank_gives_it_back(make_net, tmp_path, low_rank):
    net = make_net(PLAIN.text(low_rank), phase="train", seed=1)
    x = PLAIN.random_input()
    output(net, x)
    net.save(tmp_path / "w.npz")
    one, other = (make_net(PLAIN.text(low_rank), weights=tmp_path / "w.npz", seed=s) for s in (2, 3))
    np.testing.assert_array_equal(output(one, x), output(other, x))
    for mine, its in zip(net.params["conv"], one.params["conv"], strict=True):
        np.testing.assert_array_equal(mine.data, its.data)
    if "data" not in low_rank:
        assert_close(output(one, x), output(net, x))


@each_loader
@pytest.mark.parametrize(
    ("old", "new"),
    [("num_output: 6", "num_output: 5"), ("kernel_size: 3", "kernel_size: 2"),
     ("kernel_size: 3", "kernel_size: 3, bias_term: false"), ("kernel_size: 3", "kernel_size: 3, group: 2")],
)  # fmt: skip
def test_a_file_of_other_shapes_is_refused_and_changes_nothing(make_net, tmp_path, low_rank, old, new):
    make_net(PLAIN.text().replace(old, new), seed=1).save(tmp_path / "w.npz")
    net = make_net(PLAIN.text(low_rank), seed=2)
    before = [blob.data.copy() for blob in net.params["conv"]]
    with pytest.raises(mc.WeightError, match=r"w\.npz: (layer 'conv' has|'conv/\d' has shape)"):
        net.copy_from(tmp_path / "w.npz")
    for blob, values in zip(net.params["conv"], before, strict=True):
        np.testing.assert_array_equal(blob.data, values)


@each_phase
@pytest.mark.parametrize("method", ["svd", "gram", "randomized"])
@schemes
def test_weights_changed_in_place_count_at_the_next_forward(make_pair, scheme, method, phase):
    dense, low = make_pair(PLAIN, f"rank: 2, scheme: {scheme}, method: {method}, power_iterations: 60", phase)
    x = PLAIN.random_input()
    outputs = [output(low, x)]
    for _ in range(2):
        w = truncated(RNG.standard_normal((6, 4, 3, 3)), 1, 2, scheme)
        w += 0.1 * RNG.standard_normal(w.shape)  # a gap, so that randomized factors are the best ones too
        low.params["conv"][0].data[...] = w
        outputs.append(output(low, x))
        assert_close(outputs[-1], output_of_weights(PLAIN, dense, truncated(w, 1, 2, scheme), x), 1e-4)
    low.params["conv"][0].data[0, 0, 0, 0] += 3
    assert np.abs(output(low, x) - outputs[-1]).max() > 0.01
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01


def test_factors_changed_in_place_count_at_the_next_forward(make_pair):
    dense, low = make_pair(PLAIN, "rank: 2, factored: true")
    x = PLAIN.random_input()
    output(low, x)
    first, second, bias = low.params["conv"]
    assert (first.shape, second.shape, bias.shape) == ((2, 4, 3, 3), (6, 2, 1, 1), (6,))
    first.data[...] = RNG.standard_normal(first.shape)
    second.data[...] = RNG.standard_normal(second.shape)
    w = np.einsum("mr,rcij->mcij", second.data[:, :, 0, 0], first.data)
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x))


@each_phase
@each_loader
def test_a_bias_changed_in_place_is_added(make_pair, low_rank, phase):
    _, low = make_pair(PLAIN, low_rank.replace("target: data", "target: data, refresh: 1"), phase)
    x = PLAIN.random_input()
    before = output(low, x)
    added = np.arange(6.0)
    bias_of(PLAIN, low).data[...] += added.astype("f4")
    assert_close(output(low, x), before + added[:, None, None])


SIZES = [(2, 4, 6, 5), (5, 4, 6, 5), (1, 4, 9, 11), (2, 4, 3, 3), (2, 4, 6, 5)]


@pytest.mark.parametrize(
    "low_rank",
    ["rank: 2", "rank: 6", "rank: 2, scheme: spatial", "rank: 12, scheme: spatial", "rank: 3, target: data",
     "rank: 30, target: data", "rank: 2, factored: true", "energy: 0.7", "rank: 2, refresh: 3"],
)  # fmt: skip
def test_a_net_follows_its_input_to_other_sizes_and_back(make_pair, low_rank):
    dense, low = make_pair(PLAIN, low_rank, dtype="float64")
    w, outputs = canonical(PLAIN, dense.params["conv"][0]), []
    first = PLAIN.random_input()
    for shape in SIZES:
        x = first if shape == PLAIN.shape else RNG.standard_normal(shape)
        for net in (dense, low):
            net.blobs["x"].reshape(*shape)
            net.reshape()
        outputs.append(output(low, x))
        rank = layer_of(low).low_rank.rank
        if "data" in low_rank:
            q = np.linalg.svd(data_matrix(PLAIN, low))[0][..., :rank]
            expected = projected(PLAIN, low, w, bias_of(PLAIN, low), q)
            assert_close(output_matrix(PLAIN, outputs[-1]), expected, 1e-8)
        else:
            scheme = "spatial" if "spatial" in low_rank else "channel"
            expected = output_of_weights(PLAIN, dense, truncated(w, 1, rank, scheme), x)
            assert_close(outputs[-1], expected, 1e-8)
    np.testing.assert_array_equal(outputs[0], outputs[-1])


def test_a_net_in_training_keeps_its_basis_through_other_sizes(make_pair):
    dense, low = make_pair(PLAIN, "rank: 4, target: data, refresh: 100", "train", "float64")
    output(low, PLAIN.random_input())
    q = low.params["conv"][2].data.copy()
    low.blobs["x"].reshape(3, 4, 8, 7)
    low.reshape()
    y = output(low, RNG.standard_normal((3, 4, 8, 7)))
    w = canonical(PLAIN, dense.params["conv"][0])
    assert_close(output_matrix(PLAIN, y), projected(PLAIN, low, w, bias_of(PLAIN, low), q), 1e-10)


# -- when a basis is made, turned and held ---------------------------------------------------------------


@pytest.mark.parametrize("low_rank", ["rank: 3", "rank: 9"], ids=["two stages", "merged"])
@pytest.mark.parametrize("case", [PLAIN, GROUPS], ids=["plain", "groups"])
def test_a_data_basis_is_made_every_refresh_iterations_and_turned_once_after_each_between(
    make_net, case, low_rank
):
    rank = int(low_rank[6:])
    net = make_net(case.text(f"{low_rank}, target: data, refresh: 3"), phase="train", dtype="float64")
    basis = net.params["conv"][-1]
    for iteration in range(7):
        held = basis.data.copy()
        output(net, case.random_input())
        columns, used = data_matrix(case, net), layer_of(net).low_rank.factors.q
        if iteration % 3 == 0:
            held = np.linalg.svd(columns)[0][..., :rank]
        np.testing.assert_allclose(span(used), span(held), atol=1e-8)
        turned = np.linalg.qr(columns @ (columns.swapaxes(-1, -2) @ used))[0] if iteration % 3 < 2 else used
        np.testing.assert_allclose(span(basis.data), span(turned), atol=1e-8)


def test_a_weight_basis_is_made_every_refresh_iterations_and_held_between(make_net):
    net = make_net(PLAIN.text("rank: 2, refresh: 3"), phase="train", dtype="float64")
    w, _, basis = net.params["conv"]
    x = PLAIN.random_input()
    for iteration in range(7):
        w.data[...] += 0.3 * RNG.standard_normal(w.shape)
        matrix = w.data.reshape(1, 6, 36)
        if iteration % 3 == 0:
            expected = span(np.linalg.svd(matrix)[2][:, :2].swapaxes(-1, -2))
        y = output(net, x)
        np.testing.assert_allclose(span(basis.data), expected, atol=1e-10)
        assert_close(
            output_matrix(PLAIN, y),
            projected(PLAIN, net, matrix, net.params["conv"][1], basis.data),
            1e-10,
        )


@pytest.mark.parametrize(
    "low_rank", ["energy: 0.6, target: data", "energy: 0.6", "energy: 0.6, scheme: spatial"]
)
def test_with_energy_a_held_basis_fills_its_blob_up_with_zeros(make_net, low_rank):
    net = make_net(GROUPS.text(low_rank + ", refresh: 2"), phase="train")
    basis = net.params["conv"][-1]
    output(net, GROUPS.random_input())
    rank = layer_of(net).low_rank.rank
    assert 1 <= rank < GROUPS.full_rank(low_rank)
    kept, rest = basis.data[..., :rank], basis.data[..., rank:]
    np.testing.assert_allclose(
        kept.swapaxes(-1, -2) @ kept, np.broadcast_to(np.eye(rank), (2, rank, rank)), atol=1e-5
    )
    assert rest.size and not rest.any()


@pytest.mark.parametrize(
    "low_rank", ["rank: 2, target: data, method: randomized", "rank: 2, method: randomized"]
)
def test_equal_seeds_give_equal_randomized_layers(make_net, low_rank):
    x = CASES["dilated"].random_input()
    text = (
        CASES["dilated"]
        .text(low_rank + ", oversampling: 0, power_iterations: 0")
        .replace("gaussian", "xavier")
    )
    nets = [make_net(text, phase="train", seed=seed) for seed in (1, 1)]
    one, same = (output(net, x) for net in nets)
    np.testing.assert_array_equal(one, same)


# -- training --------------------------------------------------------------------------------------------

TINY = """name: tiny
layer:
- name: digits
  type: Data
  top: [data, label]
  include: {phase: TRAIN}
  transform_param: {scale: 0.00390625, crop_size: 24}
  data_param: {source: sample/mnist-train, batch_size: 10, shuffle: true}
- name: digits
  type: Data
  top: [data, label]
  include: {phase: TEST}
  transform_param: {scale: 0.00390625, crop_size: 24}
  data_param: {source: sample/mnist-test, batch_size: 12}
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 8, kernel_size: 5, stride: 2, weight_filler: {type: xavier}}
  low_rank_param: {CONV}
- {name: relu, type: ReLU, top: conv}
- name: ip
  type: InnerProduct
  inner_product_param: {num_output: 10, weight_filler: {type: xavier}}
  low_rank_param: {IP}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
TINY_SOLVER = """net: net.yaml
type: SGD
base_lr: 0.05
momentum: 0.9
weight_decay: 0.01
lr_policy: fixed
test_iter: 1
test_interval: 1000
test_initialization: false
snapshot_prefix: snap/run
random_seed: 7
"""


@pytest.fixture
def make_solver(tmp_path, monkeypatch):
    """A solver of the tiny net, with these settings of low rank for both of its layers."""
    monkeypatch.chdir(tmp_path)

    def make(low_rank, ip=None, solver=TINY_SOLVER):
        text = TINY.replace("{CONV}", f"{{{low_rank}}}").replace("{IP}", f"{{{ip or low_rank}}}")
        (tmp_path / "net.yaml").write_text(text)
        (tmp_path / "solver.yaml").write_text(solver)
        return mc.Solver(tmp_path / "solver.yaml")

    return make


TINY_CASE = Case((10, 1, 24, 24), "num_output: 8, kernel_size: 5, stride: 2", (8, 1, 5, 5))


def tiny_output_with(net, q):
    """(what the tiny net's ``conv`` gave before its ReLU, what w·Q·Qᵀ·X + b is), for its present batch."""
    columns = im2col(np.moveaxis(net.blobs["data"].data.astype("f8"), 0, -1), Window((5, 5), (2, 2)))
    w, b = (net.params["conv"][i].data.astype("f8") for i in (0, 1))
    expected = np.maximum(w.reshape(8, 25) @ q @ (q.T @ columns) + b[:, None], 0)
    return output_matrix(TINY_CASE, net.blobs["conv"].data), expected


def lapack_basis(net, rank):
    columns = im2col(np.moveaxis(net.blobs["data"].data.astype("f8"), 0, -1), Window((5, 5), (2, 2)))
    return np.linalg.svd(columns)[0][:, :rank]


def test_the_test_net_uses_the_basis_that_training_holds(make_solver):
    solver = make_solver("rank: 4, target: data, refresh: 3", "rank: 4")
    solver.step(5)
    net = solver.test_nets[0]
    held = solver.net.params["conv"][2].data
    assert np.shares_memory(net.params["conv"][2].data, held)
    before = held.copy()
    net.run_forward()
    np.testing.assert_array_equal(held, before)
    found, expected = tiny_output_with(net, held[0].astype("f8"))
    assert_close(found, expected)
    _, of_this_batch = tiny_output_with(net, lapack_basis(net, 4))
    assert np.abs(of_this_batch - expected).max() > 1e-3


def test_the_test_net_factorizes_every_batch_while_there_is_no_basis(make_solver):
    solver = make_solver("rank: 4, target: data, refresh: 3", "rank: 4")
    net = solver.test_nets[0]
    for _ in range(2):
        net.run_forward()
        assert_close(*tiny_output_with(net, lapack_basis(net, 4)), 1e-4)
    assert not net.params["conv"][2].data.any()
    solver.step(1)
    assert net.params["conv"][2].data.any()
    net.params["conv"][2].data[...] = 0
    net.run_forward()
    assert_close(*tiny_output_with(net, lapack_basis(net, 4)), 1e-4)


def test_the_test_net_truncates_with_the_weight_basis_that_training_holds(make_solver):
    solver = make_solver("rank: 3, refresh: 4")
    net = solver.test_nets[0]
    net.run_forward()
    w = net.params["conv"][0].data.astype("f8").reshape(8, 25)
    assert_close(*tiny_output_with(net, np.linalg.svd(w)[2][:3].T))
    solver.step(4)
    net.run_forward()
    held = net.params["conv"][2].data[0].astype("f8")
    assert np.abs(span(held) - span(np.linalg.svd(w)[2][:3].T)).max() < 1e-5
    assert_close(*tiny_output_with(net, held))


RESUMED = {
    "data": ("rank: 4, target: data, refresh: 3", "rank: 4"),
    "data, svd": ("rank: 4, target: data, refresh: 3, method: svd", "rank: 4"),
    "data, randomized": ("rank: 4, target: data, refresh: 3, method: randomized",) * 2,
    "data, by energy": ("energy: 0.8, target: data, refresh: 3", "rank: 4"),
    "data, as dense": ("rank: 9, target: data, refresh: 3", "rank: 4"),
    "weights": ("rank: 4", "rank: 4, method: gram"),
    "weights, by energy": ("energy: 0.6",) * 2,
    "weights, held": ("rank: 4, refresh: 3",) * 2,
    "weights, held, by energy": ("energy: 0.6, refresh: 3",) * 2,
    "weights, factored": ("rank: 4, factored: true",) * 2,
    "spatial, held": ("rank: 4, refresh: 3, scheme: spatial", "rank: 4, factored: true"),
}


@pytest.mark.parametrize("low_rank", RESUMED.values(), ids=RESUMED)
def test_a_resumed_training_ends_bit_for_bit_where_one_that_did_not_stop_does(
    make_solver, tmp_path, low_rank
):
    assert_resumes(make_solver, tmp_path, low_rank, 4)


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("name", ["data", "weights, held"])
def test_a_training_resumes_in_every_phase_of_a_refresh(make_solver, tmp_path, name, at):
    assert_resumes(make_solver, tmp_path, RESUMED[name], at)


def assert_resumes(make_solver, folder, low_rank, at):
    whole = make_solver(*low_rank)
    whole.step(at)
    state = whole.snapshot()
    losses = [step_loss(whole) for _ in range(9 - at)]
    whole.test_all()
    whole.net.save(folder / "whole.npz")
    resumed = make_solver(*low_rank)
    resumed.restore(state)
    assert [step_loss(resumed) for _ in range(9 - at)] == losses
    assert len(set(losses)) == len(losses)
    resumed.net.save(folder / "resumed.npz")
    assert_same_files(folder / "whole.npz", folder / "resumed.npz")
    assert float(resumed.test_all()[0]["loss"]) == float(whole.test_nets[0].blobs["loss"].data)


def step_loss(solver):
    solver.step(1)
    return float(solver.losses[-1])


def test_a_state_keeps_the_basis_and_the_iteration(make_solver, tmp_path):
    solver = make_solver("rank: 4, target: data, refresh: 3", "rank: 4")
    solver.step(4)
    solver.snapshot()
    basis = arrays_of(tmp_path / "snap" / "run_iter_4.npz")["conv/2"]
    np.testing.assert_array_equal(basis, solver.net.params["conv"][2].data)
    resumed = make_solver("rank: 4, target: data, refresh: 3", "rank: 4")
    resumed.restore(tmp_path / "snap" / "run_iter_4.solverstate.npz")
    assert resumed.net.layers[1].low_rank.factors.iteration == 4


TRAINED = {
    "factored": ("rank: 4, factored: true",) * 2,
    "weights": ("rank: 4",) * 2,
    "weights, by energy": ("energy: 0.8",) * 2,
    "weights, randomized": ("rank: 4, method: randomized",) * 2,
    "weights, held": ("rank: 4, refresh: 5", "rank: 4, factored: true"),
    "spatial": ("rank: 3, scheme: spatial", "rank: 4"),
    "data": ("rank: 6, target: data, refresh: 5", "rank: 4"),
}


@pytest.mark.parametrize("low_rank", TRAINED.values(), ids=TRAINED)
def test_training_lowers_the_loss(make_solver, low_rank):
    solver = make_solver(*low_rank)
    losses = [step_loss(solver) for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:4])


def test_factored_training_moves_both_factors_and_keeps_their_shapes(make_solver):
    solver = make_solver("rank: 4, factored: true")
    assert [b.shape for b in solver.net.params["conv"]] == [(4, 1, 5, 5), (8, 4, 1, 1), (8,)]
    assert [b.shape for b in solver.net.params["ip"]] == [(4, 800), (10, 4), (10,)]
    before = {name: [b.data.copy() for b in blobs] for name, blobs in solver.net.params.items()}
    solver.step(3)
    for name, blobs in solver.net.params.items():
        for blob, values in zip(blobs, before[name], strict=True):
            assert np.abs(blob.data - values).max() > 1e-4


@pytest.mark.parametrize("low_rank", ["rank: 4, refresh: 100", "rank: 4, target: data, refresh: 1"])
def test_the_solver_leaves_the_basis_alone(make_solver, low_rank):
    solver = make_solver(
        low_rank, "rank: 4", solver=TINY_SOLVER.replace("weight_decay: 0.01", "weight_decay: 0.5")
    )
    assert set(solver.history) == {"conv/0", "conv/1", "ip/0", "ip/1"}
    solver.step(1)
    after_first = solver.net.params["conv"][2].data.copy()
    w = solver.net.params["conv"][0].data.copy()
    solver.step(4)
    basis = solver.net.params["conv"][2]
    assert np.abs(solver.net.params["conv"][0].data - w).max() > 0.01
    if "data" in low_rank:
        np.testing.assert_allclose(span(basis.data[0]), span(lapack_basis(solver.net, 4)), atol=1e-3)
    else:
        np.testing.assert_array_equal(basis.data, after_first)
    gram = basis.data[0].T @ basis.data[0]
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-5)
    assert not basis.has_diff


def test_a_frozen_layer_of_low_rank_gets_no_gradient_and_passes_one_on(make_net):
    text = PLAIN.text("rank: 2", more=", param: [{lr_mult: 0}, {lr_mult: 0}]")
    net = make_net(text.replace("name: one", "force_backward: true"))
    output(net, PLAIN.random_input())
    gradient = net.backward(conv=RNG.standard_normal((2, 6, 4, 3)))
    assert np.abs(gradient["x"]).max() > 0.01
    assert not any(blob.has_diff for blob in net.params["conv"])


@pytest.mark.parametrize("wanted", [(1, 0), (0, 1)])
@each_loader
def test_only_the_parameters_that_train_get_a_gradient(make_net, low_rank, wanted):
    param = f", param: [{{lr_mult: {wanted[0]}}}, {{lr_mult: {wanted[1]}}}]"
    net = make_net(PLAIN.text(low_rank, more=param), phase="train")
    output(net, PLAIN.random_input())
    net.backward(conv=RNG.standard_normal((2, 6, 4, 3)))
    has = [blob.has_diff and bool(np.abs(blob.diff).max() > 0.01) for blob in net.params["conv"]]
    assert has[:2] == [bool(flag) for flag in wanted]
    assert has[2:] == ["factored" in low_rank] * (len(has) - 2)


# -- what they cost --------------------------------------------------------------------------------------


def warnings_of(caplog, layer):
    return [r.getMessage() for r in caplog.records if f"Layer '{layer}'" in r.getMessage()]


def test_a_rank_that_costs_more_than_dense_is_warned_of_once_for_each_layer(make_net, caplog):
    text = PLAIN.text("rank: 6") + (
        "- {name: cheap, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, pad: 1}, "
        "low_rank_param: {rank: 2}}\n"
        "- {name: dear, type: InnerProduct, inner_product_param: {num_output: 7}, low_rank_param: {rank: 7}}\n"
        "- {name: unknown, type: InnerProduct, inner_product_param: {num_output: 7}, low_rank_param: {energy: 1}}\n"
    )
    net = make_net(text)
    for shape in ((2, 4, 6, 5), (3, 4, 6, 5), (2, 4, 6, 5)):
        net.blobs["x"].reshape(*shape)
        net.reshape()
        net.run_forward()
    assert warnings_of(caplog, "conv") == [
        "Layer 'conv': rank 6 costs 1.17 of the dense layer; the factors are multiplied first, which costs 1.00"
    ]
    assert len(warnings_of(caplog, "dear")) == 1
    assert not warnings_of(caplog, "cheap") and not warnings_of(caplog, "unknown")


NOTES = {
    "channel": (PLAIN, "rank: 2", "rank 2 of 6, channel, 0.39 of dense"),
    "channel, as dense": (PLAIN, "rank: 6", "rank 6 of 6, channel, 1.17 of dense, so computed as dense"),
    "spatial": (PLAIN, "rank: 3, scheme: spatial", "rank 3 of 12, spatial, 0.53 of dense"),
    "data": (PLAIN, "rank: 3, target: data", "rank 3 of 36, data, 0.58 of dense"),
    "data, as dense": (
        PLAIN,
        "rank: 9, target: data",
        "rank 9 of 36, data, 1.75 of dense, so computed as dense",
    ),
    "factored": (PLAIN, "rank: 2, factored: true", "rank 2 of 6, channel, 0.39 of dense"),
    "held": (PLAIN, "rank: 2, refresh: 3", "rank 2 of 6, channel, 0.39 of dense"),
    "flops": (PLAIN, "flops: 0.6", "rank 3 of 6, channel, 0.58 of dense"),
    "fraction": (PLAIN, "rank: 0.5", "rank 3 of 6, channel, 0.58 of dense"),
    "groups": (GROUPS, "rank: 1", "rank 1 of 4, channel, 0.29 of dense"),
    "inner product": (INNER, "rank: 2", "rank 2 of 7, channel, 0.45 of dense"),
}


@pytest.mark.parametrize(("case", "low_rank", "note"), NOTES.values(), ids=NOTES)
def test_the_note_says_the_rank_and_what_it_costs(make_net, case, low_rank, note):
    net = make_net(case.text(low_rank))
    assert layer_of(net).note == note
    net.run_forward()
    assert layer_of(net).note == note


def test_with_energy_the_note_says_the_rank_that_was_found(make_pair):
    _, low = make_pair(PLAIN, "energy: 0.5")
    output(low, PLAIN.random_input())
    rank = rank_for(low.params["conv"][0].data.reshape(1, 6, 36), 0.5)
    assert layer_of(low).note == f"rank {rank} of 6, channel, {rank * 42 / 216:.2f} of dense"
    assert layer_of(low).multiply_adds(None, None) == rank * (36 + 6) * 12


def test_multiply_adds_of_a_net_that_is_reshaped_are_those_of_its_images(make_net):
    net = make_net(PLAIN.text("rank: 2"))
    assert layer_of(net).multiply_adds(None, None) == 2 * (36 + 6) * 12
    net.blobs["x"].reshape(1, 4, 10, 9)
    net.reshape()
    assert layer_of(net).multiply_adds(None, None) == 2 * (36 + 6) * 56


def test_a_layer_without_the_message_is_the_dense_layer(make_net):
    assert type(layer_of(make_net(PLAIN.text()))).__name__ == "Convolution"
    assert type(layer_of(make_net(PLAIN.text("rank: 2")))).__name__ == "LowRankConvolution"


def test_a_spec_makes_the_same_layer_every_time(make_net):
    spec = parse_net(PLAIN.text("rank: 2, target: data"))
    before = copy.deepcopy([param.lr_mult for param in spec.layer[1].param])
    nets = [mc.Net(spec, phase=phase, seed=1) for phase in ("train", "test", "train")]
    assert before == []
    assert [[p.lr_mult for p in net.learnable] for net in nets] == [[1, 1, 0]] * 3


# -- what they refuse ------------------------------------------------------------------------------------

BROKEN = """name: small
layer:
- name: data
  type: Input
  input_param: {shape: {dim: [2, 4, 6, 5]}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 6, kernel_size: 3}
  low_rank_param:
    rank: 2
- name: ip
  type: InnerProduct
  inner_product_param: {num_output: 5}
  low_rank_param: {rank: 2}
"""
TWO_BOTTOMS = (
    "  type: Convolution\n",
    "  type: Convolution\n  bottom: [data, data]\n  top: [conv, conv2]\n",
)
# (text to replace, what stands there instead, where the error must be, what it must say)
REFUSED = {
    "none of rank, energy, flops": (
        "    rank: 2\n", "    method: svd\n", ":9: layer 'conv': low_rank_param.rank",
        "give one of rank, energy and flops, not none",
    ),
    "rank and energy": (
        "    rank: 2\n", "    rank: 2\n    energy: 0.5\n", ":10: layer 'conv': low_rank_param.rank",
        "not rank and energy",
    ),
    "energy and flops": (
        "    rank: 2\n", "    energy: 0.5\n    flops: 0.5\n", ":9: layer 'conv': low_rank_param.rank",
        "not energy and flops",
    ),
    "all three": (
        "{rank: 2}", "{rank: 2, energy: 0.5, flops: 0.5}", ":14: layer 'ip': low_rank_param.rank",
        "not rank and energy and flops",
    ),
    "rank 0": ("{rank: 2}", "{rank: 0}", ":14: layer 'ip': low_rank_param.rank", "got '0'"),
    "rank -1": ("rank: 2", "rank: -1", ":10: layer 'conv': low_rank_param.rank", "at least 1.*got '-1'"),
    "rank 1.5": ("rank: 2", "rank: 1.5", ":10: layer 'conv': low_rank_param.rank", "got '1.5'"),
    "rank 1.0": ("rank: 2", "rank: 1.0", ":10: layer 'conv': low_rank_param.rank", "got '1.0'"),
    "rank 0.0": ("rank: 2", "rank: 0.0", ":10: layer 'conv': low_rank_param.rank", "got '0.0'"),
    "rank nan": ("rank: 2", "rank: nan", ":10: layer 'conv': low_rank_param.rank", "got 'nan'"),
    "rank x": ("rank: 2", "rank: x", ":10: layer 'conv': low_rank_param.rank", "got 'x'"),
    "a list for a rank": ("rank: 2", "rank: [1, 2]", ":10: layer 'conv': low_rank_param.rank", "got a list"),
    "a rank above the full rank": (
        "rank: 2", "rank: 7", ":10: layer 'conv': low_rank_param.rank", "7 is more than the full rank, 6",
    ),
    "a rank above the full rank of a group": (
        "kernel_size: 3}\n  low_rank_param:\n    rank: 2",
        "kernel_size: 3, group: 2}\n  low_rank_param:\n    rank: 4",
        ":10: layer 'conv': low_rank_param.rank", "4 is more than the full rank, 3",
    ),
    "a rank above the spatial full rank": (
        "rank: 2\n", "rank: 13\n    scheme: spatial\n", ":10: layer 'conv': low_rank_param.rank",
        "13 is more than the full rank, 12",
    ),
    "a rank above the data's full rank": (
        "rank: 2\n", "rank: 37\n    target: data\n", ":10: layer 'conv': low_rank_param.rank",
        "37 is more than the full rank, 36",
    ),
    "a factored rank above the full rank": (
        "{rank: 2}", "{rank: 6, factored: true}", ":14: layer 'ip': low_rank_param.rank",
        "6 is more than the full rank, 5",
    ),
    "energy 0": ("rank: 2", "energy: 0", ":10: layer 'conv': low_rank_param.energy", "0 is out of range"),
    "energy 1.1": ("rank: 2", "energy: 1.1", ":10: layer 'conv': low_rank_param.energy", "1.1 is out of range"),
    "flops 0": ("rank: 2", "flops: 0", ":10: layer 'conv': low_rank_param.flops", "0 is out of range"),
    "flops below the cost of rank 1": (
        "rank: 2", "flops: 0.19", ":10: layer 'conv': low_rank_param.flops", r"rank 1 costs 0\.1944 of dense",
    ),
    "refresh 0": (
        "rank: 2\n", "rank: 2\n    refresh: 0\n", ":11: layer 'conv': low_rank_param.refresh", "0 is out of range",
    ),
    "an unknown method": (
        "rank: 2\n", "rank: 2\n    method: qr\n", ":11: layer 'conv': low_rank_param.method", "got 'qr'",
    ),
    "an unknown target": (
        "rank: 2\n", "rank: 2\n    target: dat\n", ":11: layer 'conv': low_rank_param.target", "mean 'DATA'",
    ),
    "an unknown field": (
        "rank: 2\n", "rank: 2\n    ranks: 3\n", ":11: layer 'conv': low_rank_param.ranks", "mean 'rank'",
    ),
    "data and spatial": (
        "rank: 2\n", "rank: 2\n    target: data\n    scheme: spatial\n",
        ":12: layer 'conv': low_rank_param.scheme", "'spatial' factorizes weights",
    ),
    "data and factored": (
        "rank: 2\n", "rank: 2\n    target: data\n    factored: true\n",
        ":12: layer 'conv': low_rank_param.factored", "use target 'weights'",
    ),
    "factored and energy": (
        "rank: 2\n", "energy: 0.5\n    factored: true\n", ":10: layer 'conv': low_rank_param.energy",
        "give rank or flops",
    ),
    "factored and refresh": (
        "rank: 2\n", "rank: 2\n    factored: true\n    refresh: 3\n",
        ":12: layer 'conv': low_rank_param.refresh", "never made anew",
    ),
    "energy and randomized": (
        "rank: 2\n", "energy: 0.5\n    method: randomized\n", ":10: layer 'conv': low_rank_param.energy",
        "needs all singular values",
    ),
    "energy and randomized, of data": (
        "{rank: 2}", "{energy: 0.5, method: randomized, target: data}", ":14: layer 'ip': low_rank_param.energy",
        "needs all singular values",
    ),
    "spatial for an inner product": (
        "{rank: 2}", "{rank: 2, scheme: spatial}", ":14: layer 'ip': low_rank_param.scheme", "use 'channel'",
    ),
    "factored and transposed": (
        "{num_output: 5}\n  low_rank_param: {rank: 2}",
        "{num_output: 5, transpose: true}\n  low_rank_param: {rank: 2, factored: true}",
        ":14: layer 'ip': low_rank_param.factored", "leave out inner_product_param.transpose",
    ),
    "three spatial axes": (
        "[2, 4, 6, 5]", "[2, 4, 6, 5, 4]", ":9: layer 'conv': low_rank_param", "one or two spatial axes, not 3",
    ),
    "two bottoms with target data": (
        *(part + "  convolution_param: {num_output: 6, kernel_size: 3}\n  low_rank_param:\n    rank: 2\n" + more
          for part, more in zip(TWO_BOTTOMS, ("", "    target: data\n"), strict=True)),
        ":13: layer 'conv': low_rank_param.target", "one bottom, not 2",
    ),
    "a basis that is to be trained": (
        "  low_rank_param:\n    rank: 2\n",
        "  low_rank_param:\n    rank: 2\n    target: data\n  param:\n  - {}\n  - {}\n  - {lr_mult: 1}\n",
        ":15: layer 'conv': param.lr_mult", "set 'lr_mult: 0'",
    ),
    "a weight basis that is to be trained": (
        "  low_rank_param: {rank: 2}\n",
        "  low_rank_param: {rank: 2, refresh: 3}\n  param: [{lr_mult: 1}, {lr_mult: 2}, {lr_mult: 0.5}]\n",
        ":15: layer 'ip': param.lr_mult", "0.5, but statistics are not trained",
    ),
    "more params than blobs": (
        "  low_rank_param: {rank: 2}\n", "  low_rank_param: {rank: 2}\n  param: [{}, {}, {lr_mult: 0}]\n",
        ":15: layer 'ip': param", "3 given, but the layer has 2 parameters",
    ),
    "a deconvolution": (
        "type: Convolution", "type: Deconvolution", ":9: layer 'conv': low_rank_param", "unknown field",
    ),
    "a neuron": (
        "  type: Convolution\n  convolution_param: {num_output: 6, kernel_size: 3}\n", "  type: ReLU\n",
        ":8: layer 'conv': low_rank_param", "unknown field",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_make_no_sense_are_refused_with_file_line_layer_and_field(old, new, place, message):
    assert old in BROKEN
    text = BROKEN.replace(old, new, 1)
    with pytest.raises(mc.SpecError) as caught:
        mc.Net(parse_net(text, "net.yaml"), phase="train")
    error = str(caught.value)
    assert error.startswith(f"net.yaml{place}: "), error
    assert re.search(message, error), error
    assert "\n" not in error


def test_the_unbroken_net_works():
    net = mc.Net(parse_net(BROKEN, "net.yaml"), phase="train")
    assert net.forward()["ip"].shape == (2, 5)


@each_phase
@pytest.mark.parametrize("low_rank", ["rank: 2", "rank: 2, method: gram", "rank: 2, method: randomized"])
def test_weights_that_are_no_numbers_are_an_error_at_the_layer(make_net, low_rank, phase):
    net = make_net(PLAIN.text(low_rank), phase=phase)
    net.params["conv"][0].data[0, 0, 0, 0] = math.nan
    with pytest.raises(mc.TrainingError, match=r"layer 'conv': no factorization"):
        output(net, PLAIN.random_input())


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_at_test_a_layer_that_has_no_weight_basis_yet_has_the_gradient_of_its_truncation(make_net, scheme):
    one, other = (
        make_net(PLAIN.text(f"rank: 2, scheme: {scheme}{more}"), seed=1, dtype="float64")
        for more in ("", ", refresh: 3")
    )
    x, dy = PLAIN.random_input(), RNG.standard_normal((2, 6, 4, 3))
    for net in (one, other):
        output(net, x)
        net.backward(conv=dy)
    assert_close(other.params["conv"][0].diff, one.params["conv"][0].diff, 1e-10)


def test_at_test_a_layer_that_has_no_weight_basis_yet_has_the_rank_that_its_energy_asks_for(make_net):
    one, other = (make_net(PLAIN.text(f"energy: 0.5{more}"), seed=1) for more in ("", ", refresh: 3"))
    for net in (one, other):
        output(net, PLAIN.random_input())
    assert layer_of(one).low_rank.rank < 6
    assert layer_of(other).low_rank.rank == layer_of(one).low_rank.rank
    assert layer_of(other).note == layer_of(one).note


@pytest.mark.parametrize(
    "method",
    ["svd", "randomized", "gram"],
)
def test_weights_of_zeros_have_a_basis_like_others(make_net, method):
    net = make_net(PLAIN.text(f"rank: 2, refresh: 3, method: {method}"), phase="train")
    net.params["conv"][0].data[...] = 0
    y = output(net, PLAIN.random_input())
    np.testing.assert_array_equal(y, np.broadcast_to(net.params["conv"][1].data[:, None, None], y.shape))


@pytest.mark.parametrize("method", ["svd", "randomized", "gram"])
def test_weights_of_too_low_a_rank_have_an_orthonormal_basis(make_net, method):
    net = make_net(PLAIN.text(f"rank: 3, refresh: 3, method: {method}"), phase="train")
    w, _, basis = net.params["conv"]
    w.data[...] = np.multiply.outer(RNG.standard_normal(6), RNG.standard_normal((4, 3, 3)))
    output(net, PLAIN.random_input())
    np.testing.assert_allclose(basis.data[0].T @ basis.data[0], np.eye(3), atol=1e-5)


@pytest.mark.parametrize("low_rank", ["rank: 2, refresh: 3", "energy: 0.5, refresh: 3"])
def test_all_bottoms_of_one_pass_use_the_same_held_basis(make_net, low_rank):
    net = make_net(
        "layer:\n- {name: x, type: Input, top: [x0, x1], input_param: {shape: {dim: [2, 4, 6, 5]}}}\n"
        "- {name: conv, type: Convolution, bottom: [x0, x1], top: [y0, y1], convolution_param: "
        f"{{num_output: 6, kernel_size: 3, weight_filler: {{type: xavier}}}}, low_rank_param: {{{low_rank}}}}}\n",
        phase="train",
    )
    w, x = net.params["conv"][0], RNG.standard_normal((2, 4, 6, 5))
    for _ in range(4):
        w.data[...] = RNG.standard_normal(w.shape) * RNG.uniform(0, 3, (6, 1, 1, 1)) ** 2
        found = net.forward(x0=x, x1=x)
        np.testing.assert_array_equal(found["y0"], found["y1"])
        net.backward(y0=found["y0"], y1=found["y1"])


@pytest.mark.parametrize(
    "low_rank", ["rank: 4, method: randomized", "rank: 4, method: randomized, refresh: 3"]
)
def test_a_training_with_randomized_factors_resumes_bit_for_bit(make_solver, tmp_path, low_rank):
    assert_resumes(make_solver, tmp_path, (low_rank, low_rank), 4)


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_randomized_factors_without_power_iterations_follow_the_weights(make_pair, scheme):
    dense, low = make_pair(PLAIN, f"rank: 2, scheme: {scheme}, method: randomized, power_iterations: 0")
    x = PLAIN.random_input()
    output(low, x)
    w = truncated(RNG.standard_normal((6, 4, 3, 3)), 1, 2, scheme)
    low.params["conv"][0].data[...] = w
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x), 1e-3)


def test_a_dense_file_of_numbers_that_are_none_is_an_error_of_this_package(make_net, tmp_path):
    dense = make_net(PLAIN.text())
    dense.params["conv"][0].data[...] = math.nan
    dense.save(tmp_path / "w.npz")
    with pytest.raises(mc.MinicaffeError):
        make_net(PLAIN.text("rank: 2, factored: true")).copy_from(tmp_path / "w.npz")


@pytest.mark.parametrize(
    "low_rank",
    ["", "rank: 2", "rank: 2, target: data"],
)
def test_an_inner_product_of_no_images_gives_none(make_net, low_rank):
    assert make_net(INNER.text(low_rank, shape=(0, 3, 2, 2))).forward()["conv"].shape == (0, 7)
