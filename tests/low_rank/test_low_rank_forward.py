"""Low-rank layers compute with the truncated weights, or data matrix, that LAPACK finds."""

import numpy as np
import pytest

from tests.low_rank.low_rank_cases import (
    CASES,
    GROUPS,
    INNER,
    LOADERS,
    PLAIN,
    SOME,
    assert_close,
    bias_of,
    canonical,
    combined,
    data_matrix,
    each_loader,
    each_phase,
    each_scheme,
    layer_of,
    output,
    output_matrix,
    output_of_weights,
    projected,
    set_weights,
    some_cases,
    span,
    truncated,
)

# fixtures, which pytest finds under these names

# what every kind of factors is tried on; one of each kind is on the others
FEW = {"groups": GROUPS, "inner product": INNER}
OTHERS = {name: case for name, case in CASES.items() if name not in FEW}

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
FULL_CASES = combined({name: FULL[name] for name in ("channel, held", "spatial, factored", "data")}, OTHERS)
FULL_CASES += combined(FULL, FEW)


@pytest.mark.parametrize(("case", "low_rank"), FULL_CASES)
def test_at_full_rank_a_layer_computes_what_the_dense_layer_does(
    make_net, make_pair, dense_file, case, low_rank, rng
):
    low_rank = low_rank.replace("{full}", str(case.full_rank(low_rank)))
    dense, in_test = make_pair(case, low_rank)
    in_training = make_net(case.text(low_rank), weights=dense_file(case), phase="train", seed=4)
    for low in (in_test, in_training, in_training):
        x = case.random_input(rng)
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
TRUNCATED_CASES = combined({name: TRUNCATED[name] for name in ("channel, svd", "spatial, factored")}, OTHERS)
TRUNCATED_CASES += combined(TRUNCATED, FEW)


@pytest.mark.parametrize(("case", "low_rank"), TRUNCATED_CASES)
def test_a_layer_of_low_rank_computes_with_lapacks_truncation_of_its_weights(
    make_net, make_pair, dense_file, case, low_rank, rng
):
    rank = min(2, case.full_rank(low_rank))
    low_rank = low_rank.replace("rank: 2", f"rank: {rank}")
    dense, in_test = make_pair(case, low_rank)
    in_training = make_net(case.text(low_rank), weights=dense_file(case), phase="train", seed=4)
    w, x = canonical(case, dense.params["conv"][0]), case.random_input(rng)
    scheme = "spatial" if "spatial" in low_rank else "channel"
    expected = output_of_weights(case, dense, truncated(w, case.group, rank, scheme), x)
    assert_close(output(in_test, x), expected)
    assert_close(output(in_training, x), expected)
    if rank < case.full_rank(low_rank):
        assert np.abs(expected - output(dense, x)).max() > 0.01


EXACT_BASES = {
    "gram": "rank: 1, target: data",
    "svd": "rank: 3, target: data, method: svd",
    "every time": "rank: 2, target: data, refresh: 1",
}
DATA_CASES = combined({"gram": EXACT_BASES["gram"]}, OTHERS) + combined(EXACT_BASES, FEW)


@each_phase
@pytest.mark.parametrize(("case", "low_rank"), DATA_CASES)
def test_with_a_low_rank_of_the_data_a_layer_computes_with_the_projected_data_matrix(
    make_pair, case, low_rank, phase, rng
):
    dense, low = make_pair(case, low_rank, phase, "float64")
    w = canonical(case, dense.params["conv"][0])
    y = output(low, case.random_input(rng))
    q = np.linalg.svd(data_matrix(case, low))[0][..., : int(low_rank[6])]
    expected = projected(case, low, w, bias_of(case, low), q)
    assert_close(output_matrix(case, y), expected, 1e-8)


@some_cases
def test_a_randomized_basis_of_the_data_is_within_a_hundredth_of_the_best(make_pair, case, rng):
    _, low = make_pair(case, "rank: 4, target: data, method: randomized", "train", "float64")
    output(low, case.random_input(rng))
    columns, q = data_matrix(case, low), layer_of(low).low_rank.factors.q
    error = np.linalg.norm(columns - q @ (q.swapaxes(-1, -2) @ columns))
    s = np.linalg.svd(columns, compute_uv=False)
    assert error <= 1.01 * np.sqrt((s[:, 4:] ** 2).sum())


@each_scheme
def test_several_bottoms_use_the_same_truncation(make_net, tmp_path, scheme, rng):
    inputs = "".join(
        f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}\n"
        for i, shape in enumerate([[2, 3, 5, 4], [1, 3, 4, 6]])
    )
    text = (
        f"layer:\n{inputs}- {{name: conv, type: Convolution, bottom: [x0, x1], top: [y0, y1], convolution_param: "
        "{num_output: 5, kernel_size: 3, pad: 1, weight_filler: {type: xavier}}}\n"
    )
    x0, x1 = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((1, 3, 4, 6))
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


@pytest.mark.parametrize("low_rank", ["rank: 2, refresh: 3", "energy: 0.5, refresh: 3"])
def test_all_bottoms_of_one_pass_use_the_same_held_basis(make_net, low_rank, rng):
    net = make_net(
        "layer:\n- {name: x, type: Input, top: [x0, x1], input_param: {shape: {dim: [2, 4, 6, 5]}}}\n"
        "- {name: conv, type: Convolution, bottom: [x0, x1], top: [y0, y1], convolution_param: "
        f"{{num_output: 6, kernel_size: 3, weight_filler: {{type: xavier}}}}, low_rank_param: {{{low_rank}}}}}\n",
        phase="train",
    )
    w, x = net.params["conv"][0], rng.standard_normal((2, 4, 6, 5))
    for _ in range(4):
        w.data[...] = rng.standard_normal(w.shape) * rng.uniform(0, 3, (6, 1, 1, 1)) ** 2
        found = net.forward(x0=x, x1=x)
        np.testing.assert_array_equal(found["y0"], found["y1"])
        net.backward(y0=found["y0"], y1=found["y1"])


GRADIENTS = {
    "truncated": "rank: 2",
    "factored": "rank: 2, factored: true",
    "held": "rank: 2, refresh: 3",
    "data": "rank: 2, target: data",
    "data, by energy": "energy: 0.3, target: data",
    "data, as dense": "rank: 9, target: data",
}


@pytest.mark.parametrize(("case", "low_rank"), combined(GRADIENTS, FEW))
def test_gradients_are_the_dense_layers_with_the_weights_of_low_rank(
    make_net, dense_file, case, low_rank, rng
):
    text = case.text(low_rank).replace("name: one", "force_backward: true")
    low = make_net(text, weights=dense_file(case), phase="train", dtype="float64")
    dense = make_net(
        case.text().replace("name: one", "force_backward: true"), weights=dense_file(case), dtype="float64"
    )
    x = case.random_input(rng)
    dy = rng.standard_normal(output(low, x).shape)
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


STARTED = [(*p.values, "train") for p in combined(LOADERS, SOME)]
STARTED += [(GROUPS, low_rank, "test") for low_rank in LOADERS.values()]


@pytest.mark.parametrize(("case", "low_rank", "phase"), STARTED)
def test_a_dense_layers_file_starts_a_layer_of_low_rank_with_its_truncation(
    make_net, dense_file, case, low_rank, phase, rng
):
    dense = make_net(case.text(), weights=dense_file(case), dtype="float64")
    net = make_net(case.text(low_rank), phase=phase, seed=2, dtype="float64")
    x = case.random_input(rng)
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
def test_the_file_of_a_layer_of_low_rank_gives_it_back(make_net, tmp_path, low_rank, rng):
    net = make_net(PLAIN.text(low_rank), phase="train", seed=1)
    x = PLAIN.random_input(rng)
    output(net, x)
    net.save(tmp_path / "w.npz")
    one, other = (make_net(PLAIN.text(low_rank), weights=tmp_path / "w.npz", seed=s) for s in (2, 3))
    np.testing.assert_array_equal(output(one, x), output(other, x))
    for mine, its in zip(net.params["conv"], one.params["conv"], strict=True):
        np.testing.assert_array_equal(mine.data, its.data)
    if "data" not in low_rank:
        assert_close(output(one, x), output(net, x))


@pytest.mark.parametrize(
    ("scheme", "method", "phase"),
    [("channel", "svd", "train"), ("spatial", "gram", "test"),
     ("channel", "randomized, power_iterations: 60", "test")],
)  # fmt: skip
def test_weights_changed_in_place_count_at_the_next_forward(make_pair, scheme, method, phase, rng):
    dense, low = make_pair(PLAIN, f"rank: 2, scheme: {scheme}, method: {method}", phase)
    x = PLAIN.random_input(rng)
    outputs = [output(low, x)]
    for _ in range(2):
        w = truncated(rng.standard_normal((6, 4, 3, 3)), 1, 2, scheme)
        w += 0.1 * rng.standard_normal(w.shape)  # a gap, so that randomized factors are the best ones too
        low.params["conv"][0].data[...] = w
        outputs.append(output(low, x))
        assert_close(outputs[-1], output_of_weights(PLAIN, dense, truncated(w, 1, 2, scheme), x), 1e-4)
    low.params["conv"][0].data[0, 0, 0, 0] += 3
    assert np.abs(output(low, x) - outputs[-1]).max() > 0.01
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01


def test_factors_changed_in_place_count_at_the_next_forward(make_pair, rng):
    dense, low = make_pair(PLAIN, "rank: 2, factored: true")
    x = PLAIN.random_input(rng)
    output(low, x)
    first, second, bias = low.params["conv"]
    assert (first.shape, second.shape, bias.shape) == ((2, 4, 3, 3), (6, 2, 1, 1), (6,))
    first.data[...] = rng.standard_normal(first.shape)
    second.data[...] = rng.standard_normal(second.shape)
    w = np.einsum("mr,rcij->mcij", second.data[:, :, 0, 0], first.data)
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x))


@each_loader
def test_a_bias_changed_in_place_is_added(make_pair, low_rank, rng):
    _, low = make_pair(PLAIN, low_rank.replace("target: data", "target: data, refresh: 1"), "train")
    x = PLAIN.random_input(rng)
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
def test_a_net_follows_its_input_to_other_sizes_and_back(make_pair, low_rank, rng):
    dense, low = make_pair(PLAIN, low_rank, dtype="float64")
    w, outputs = canonical(PLAIN, dense.params["conv"][0]), []
    first = PLAIN.random_input(rng)
    for shape in SIZES:
        x = first if shape == PLAIN.shape else rng.standard_normal(shape)
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


def test_a_net_in_training_keeps_its_basis_through_other_sizes(make_pair, rng):
    dense, low = make_pair(PLAIN, "rank: 4, target: data, refresh: 100", "train", "float64")
    output(low, PLAIN.random_input(rng))
    q = low.params["conv"][2].data.copy()
    low.blobs["x"].reshape(3, 4, 8, 7)
    low.reshape()
    y = output(low, rng.standard_normal((3, 4, 8, 7)))
    w = canonical(PLAIN, dense.params["conv"][0])
    assert_close(output_matrix(PLAIN, y), projected(PLAIN, low, w, bias_of(PLAIN, low), q), 1e-10)


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_randomized_factors_without_power_iterations_follow_the_weights(make_pair, scheme, rng):
    dense, low = make_pair(PLAIN, f"rank: 2, scheme: {scheme}, method: randomized, power_iterations: 0")
    x = PLAIN.random_input(rng)
    output(low, x)
    w = truncated(rng.standard_normal((6, 4, 3, 3)), 1, 2, scheme)
    low.params["conv"][0].data[...] = w
    assert_close(output(low, x), output_of_weights(PLAIN, dense, w, x), 1e-3)


@pytest.mark.parametrize(
    "low_rank",
    ["", "rank: 2", "rank: 2, target: data"],
)
def test_an_inner_product_of_no_images_gives_none(make_net, low_rank):
    assert make_net(INNER.text(low_rank, shape=(0, 3, 2, 2))).forward()["conv"].shape == (0, 7)
