"""Low-rank layers in training: when a basis is made, turned and held; snapshots; what gets a gradient."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.convolution.reference import im2col
from tests.low_rank.low_rank_cases import (
    CASES,
    GROUPS,
    PLAIN,
    Case,
    assert_close,
    data_matrix,
    each_loader,
    layer_of,
    output,
    output_matrix,
    projected,
    span,
)
from tests.train.training import arrays_of, assert_same_files

# fixtures, which pytest finds under these names


@pytest.mark.parametrize("low_rank", ["rank: 3", "rank: 9"], ids=["two stages", "merged"])
@pytest.mark.parametrize("case", [PLAIN, GROUPS], ids=["plain", "groups"])
def test_a_data_basis_is_made_every_refresh_iterations_and_turned_once_after_each_between(
    make_net, case, low_rank, rng
):
    rank = int(low_rank[6:])
    net = make_net(case.text(f"{low_rank}, target: data, refresh: 3"), phase="train", dtype="float64")
    basis = net.params["conv"][-1]
    for iteration in range(7):
        held = basis.data.copy()
        output(net, case.random_input(rng))
        columns, used = data_matrix(case, net), layer_of(net).low_rank.factors.q
        if iteration % 3 == 0:
            held = np.linalg.svd(columns)[0][..., :rank]
        np.testing.assert_allclose(span(used), span(held), atol=1e-8)
        turned = np.linalg.qr(columns @ (columns.swapaxes(-1, -2) @ used))[0] if iteration % 3 < 2 else used
        np.testing.assert_allclose(span(basis.data), span(turned), atol=1e-8)


def test_a_weight_basis_is_made_every_refresh_iterations_and_held_between(make_net, rng):
    net = make_net(PLAIN.text("rank: 2, refresh: 3"), phase="train", dtype="float64")
    w, _, basis = net.params["conv"]
    x = PLAIN.random_input(rng)
    for iteration in range(7):
        w.data[...] += 0.3 * rng.standard_normal(w.shape)
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
def test_with_energy_a_held_basis_fills_its_blob_up_with_zeros(make_net, low_rank, rng):
    net = make_net(GROUPS.text(low_rank + ", refresh: 2"), phase="train")
    basis = net.params["conv"][-1]
    output(net, GROUPS.random_input(rng))
    rank = layer_of(net).low_rank.rank
    assert 1 <= rank < GROUPS.full_rank(low_rank)
    kept, rest = basis.data[..., :rank], basis.data[..., rank:]
    np.testing.assert_allclose(
        kept.swapaxes(-1, -2) @ kept, np.broadcast_to(np.eye(rank), (2, rank, rank)), atol=1e-5
    )
    assert rest.size and not rest.any()


@pytest.mark.parametrize(
    "method",
    ["svd", "randomized", "gram"],
)
def test_weights_of_zeros_have_a_basis_like_others(make_net, method, rng):
    net = make_net(PLAIN.text(f"rank: 2, refresh: 3, method: {method}"), phase="train")
    net.params["conv"][0].data[...] = 0
    y = output(net, PLAIN.random_input(rng))
    np.testing.assert_array_equal(y, np.broadcast_to(net.params["conv"][1].data[:, None, None], y.shape))


@pytest.mark.parametrize("method", ["svd", "randomized", "gram"])
def test_weights_of_too_low_a_rank_have_an_orthonormal_basis(make_net, method, rng):
    net = make_net(PLAIN.text(f"rank: 3, refresh: 3, method: {method}"), phase="train")
    w, _, basis = net.params["conv"]
    w.data[...] = np.multiply.outer(rng.standard_normal(6), rng.standard_normal((4, 3, 3)))
    output(net, PLAIN.random_input(rng))
    np.testing.assert_allclose(basis.data[0].T @ basis.data[0], np.eye(3), atol=1e-5)


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_at_test_a_layer_that_has_no_weight_basis_yet_has_the_gradient_of_its_truncation(
    make_net, scheme, rng
):
    one, other = (
        make_net(PLAIN.text(f"rank: 2, scheme: {scheme}{more}"), seed=1, dtype="float64")
        for more in ("", ", refresh: 3")
    )
    x, dy = PLAIN.random_input(rng), rng.standard_normal((2, 6, 4, 3))
    for net in (one, other):
        output(net, x)
        net.backward(conv=dy)
    assert_close(other.params["conv"][0].diff, one.params["conv"][0].diff, 1e-10)


@pytest.mark.parametrize(
    "low_rank", ["rank: 2, target: data, method: randomized", "rank: 2, method: randomized"]
)
def test_equal_seeds_give_equal_randomized_layers(make_net, low_rank, rng):
    x = CASES["dilated"].random_input(rng)
    text = (
        CASES["dilated"]
        .text(low_rank + ", oversampling: 0, power_iterations: 0")
        .replace("gaussian", "xavier")
    )
    nets = [make_net(text, phase="train", seed=seed) for seed in (1, 1)]
    one, same = (output(net, x) for net in nets)
    np.testing.assert_array_equal(one, same)


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
    "weights, randomized": ("rank: 4, method: randomized",) * 2,
    "weights, held": ("rank: 4, refresh: 3",) * 2,
    "weights, held, randomized": ("rank: 4, method: randomized, refresh: 3",) * 2,
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


def test_a_frozen_layer_of_low_rank_gets_no_gradient_and_passes_one_on(make_net, rng):
    text = PLAIN.text("rank: 2", more=", param: [{lr_mult: 0}, {lr_mult: 0}]")
    net = make_net(text.replace("name: one", "force_backward: true"))
    output(net, PLAIN.random_input(rng))
    gradient = net.backward(conv=rng.standard_normal((2, 6, 4, 3)))
    assert np.abs(gradient["x"]).max() > 0.01
    assert not any(blob.has_diff for blob in net.params["conv"])


@pytest.mark.parametrize("wanted", [(1, 0), (0, 1)])
@each_loader
def test_only_the_parameters_that_train_get_a_gradient(make_net, low_rank, wanted, rng):
    param = f", param: [{{lr_mult: {wanted[0]}}}, {{lr_mult: {wanted[1]}}}]"
    net = make_net(PLAIN.text(low_rank, more=param), phase="train")
    output(net, PLAIN.random_input(rng))
    net.backward(conv=rng.standard_normal((2, 6, 4, 3)))
    has = [blob.has_diff and bool(np.abs(blob.diff).max() > 0.01) for blob in net.params["conv"]]
    assert has[:2] == [bool(flag) for flag in wanted]
    assert has[2:] == ["factored" in low_rank] * (len(has) - 2)


# -- weights that are loaded while a basis is held -------------------------------------------------------


@pytest.mark.parametrize("target", ["data", "weights"])
def test_weights_saved_before_any_training_have_no_basis_and_get_one_at_once(make_net, tmp_path, target, rng):
    text = PLAIN.text(f"rank: 4, target: {target}, refresh: 5")
    make_net(text, phase="train", seed=2).save(tmp_path / "untrained.npz")
    net, x = make_net(text, phase="train", seed=1), PLAIN.random_input(rng)
    output(net, x)
    output(net, x)
    net.copy_from(tmp_path / "untrained.npz")
    loaded = output(net, x)
    fresh = make_net(text, phase="train", seed=3)
    fresh.copy_from(tmp_path / "untrained.npz")
    assert_close(loaded, output(fresh, x))
    assert np.abs(loaded).max() > 0.1


def test_a_basis_of_more_columns_is_loaded_whole(make_net, tmp_path, rng):
    text = "energy: {}, target: data, refresh: 50"
    small, large = (make_net(PLAIN.text(text.format(e)), phase="train", seed=1) for e in (0.3, 0.99))
    x = PLAIN.random_input(rng)
    output(small, x)
    output(large, x)
    assert layer_of(small).low_rank.rank < layer_of(large).low_rank.rank
    large.save(tmp_path / "large.npz")
    small.copy_from(tmp_path / "large.npz")
    output(small, x)
    assert layer_of(small).low_rank.factors.q.shape == layer_of(large).low_rank.factors.q.shape


def test_a_snapshot_is_resumed_with_its_basis_whatever_was_loaded_before(make_net, tmp_path, rng):
    text = PLAIN.text("rank: 4, target: data, refresh: 10")
    make_net(PLAIN.text(), phase="train", seed=2).save(tmp_path / "dense.npz")
    x = PLAIN.random_input(rng)
    net = make_net(text, phase="train", seed=1)
    for _ in range(13):
        output(net, x)
    net.save(tmp_path / "s.npz")
    clean, used = (make_net(text, phase="train", seed=seed) for seed in (3, 4))
    used.copy_from(tmp_path / "dense.npz")
    for other in (clean, used):
        other.copy_from(tmp_path / "s.npz")
        layer_of(other).restore({"iteration": 13})
    expected = output(net, x)
    for other in (clean, used):
        np.testing.assert_array_equal(output(other, x), expected)
