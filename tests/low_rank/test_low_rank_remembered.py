"""What a layer of low rank makes of its weights, not of its images, is made once for all passes of a test net.

For one image W·Q is r times as much work as the whole dense layer is, and so is left · right.
"""

import numpy as np
import pytest

from minicaffe.low_rank.factors import ProjectedWeights
from minicaffe.low_rank.schemes import ChannelScheme
from tests.low_rank.low_rank_cases import (
    INNER,
    PLAIN,
    assert_close,
    bias_of,
    canonical,
    output,
    output_matrix,
    projected,
)

HELD = {"data": "rank: 3, target: data", "weights": "rank: 3, refresh: 4"}
each_basis = pytest.mark.parametrize("low_rank", HELD.values(), ids=HELD)
each_case = pytest.mark.parametrize("case", [PLAIN, INNER], ids=["convolution", "inner product"])


def count_calls(monkeypatch, cls, name):
    """A list that grows with each call of a method."""
    calls, method = [], getattr(cls, name)

    def counted(self, *args):
        calls.append(name)
        return method(self, *args)

    monkeypatch.setattr(cls, name, counted)
    return calls


def trained(case, low_rank, folder, make_net, rng, seed):
    """A file of weights with a stored basis."""
    net = make_net(case.text(low_rank), phase="train", seed=seed)
    output(net, case.random_input(rng))
    net.save(folder / f"{seed}.npz")
    return folder / f"{seed}.npz"


def assert_is_projected(case, net, y):
    w, basis = (net.params["conv"][i].data.astype("f8") for i in (0, -1))
    assert_close(output_matrix(case, y), projected(case, net, w, bias_of(case, net), basis), 1e-4)


@each_case
@each_basis
def test_with_a_stored_basis_weights_are_projected_once_for_all_batches(
    case, low_rank, make_net, tmp_path, monkeypatch, rng
):
    files = [trained(case, low_rank, tmp_path, make_net, rng, seed) for seed in (1, 2)]
    net = make_net(case.text(low_rank), phase="test")
    calls = count_calls(monkeypatch, ProjectedWeights, "project")
    for n, file in enumerate(files, 1):
        net.copy_from(file)
        found = [output(net, case.random_input(rng)).copy() for _ in range(4)]
        assert len(calls) == n
    assert_is_projected(case, net, found[-1])


@each_case
@each_basis
def test_weights_and_a_basis_that_a_script_changes_count_at_the_next_forward(
    case, low_rank, make_net, tmp_path, monkeypatch, rng
):
    net = make_net(case.text(low_rank), phase="test")
    net.copy_from(trained(case, low_rank, tmp_path, make_net, rng, 1))
    w, basis = net.params["conv"][0], net.params["conv"][-1]
    assert w.data.any() and basis.data.any()
    other = np.linalg.qr(rng.standard_normal((canonical(case, w)[0].size, 3)))[0]
    calls = count_calls(monkeypatch, ProjectedWeights, "project")
    for n, (blob, values) in enumerate(((w, -2 * w.data), (basis, other[None]), (w, w.data + 1)), 1):
        blob.data[...] = values
        for _ in range(3):
            assert_is_projected(case, net, output(net, case.random_input(rng)))
        assert len(calls) == n


@each_basis
def test_a_step_of_training_projects_the_weights_once(low_rank, make_net, monkeypatch, rng):
    net = make_net(PLAIN.text(low_rank), phase="train")
    calls = count_calls(monkeypatch, ProjectedWeights, "project")
    for n in range(1, 4):
        output(net, PLAIN.random_input(rng))
        net.backward(conv=rng.standard_normal((2, 6, 4, 3)))
        assert len(calls) == n


@pytest.mark.parametrize("is_seen", [False, True], ids=["loaded", "seen by a script"])
@pytest.mark.parametrize(
    "low_rank", ["rank: 6", "rank: 6, factored: true", "rank: 30, target: data", "rank: 6, refresh: 3"]
)
def test_factors_that_are_multiplied_first_are_multiplied_once(
    low_rank, is_seen, make_net, tmp_path, monkeypatch, rng
):
    net = make_net(PLAIN.text(low_rank), phase="test")
    net.copy_from(trained(PLAIN, low_rank, tmp_path, make_net, rng, 1))
    if is_seen:
        assert net.params["conv"][0].data.any() and net.params["conv"][1].data.any()
    calls = count_calls(monkeypatch, ChannelScheme, "weights")
    before = [output(net, PLAIN.random_input(rng)).copy() for _ in range(3)][-1]
    assert len(calls) == 1
    net.params["conv"][0].data[...] *= 2
    bias_of(PLAIN, net).data[...] *= 2
    x = net.blobs["x"].data.copy()
    for _ in range(3):
        assert_close(output(net, x), 2 * before, 1e-4)
    assert len(calls) == 2
