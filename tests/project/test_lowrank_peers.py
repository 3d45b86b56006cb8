"""benchmarks/lowrank_peers.py and tucker.py: the ways of others to low rank."""

import importlib
import re
import sys

import numpy as np
import pytest

from minicaffe.compress.journal import Journal
from minicaffe.compress.workbench import Workbench
from tests import ROOT

pytestmark = pytest.mark.cpu_only("Tucker-2 is written for NumPy")


@pytest.fixture
def script(monkeypatch):
    """A benchmark, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in ("tucker", "lowrank_peers"):
        sys.modules.pop(name, None)


def low_rank(rng, shape, r1, r2):
    """w (M, C, kh, kw) whose inner rank is r1, and whose outer rank is r2."""
    m, c, *kernel = shape
    core = rng.standard_normal((r2, r1, *kernel))
    return np.einsum("ma,abij,cb->mcij", rng.standard_normal((m, r2)), core, rng.standard_normal((c, r1)))


def test_tucker_finds_weights_of_low_rank_exactly(script, rng):
    w = low_rank(rng, (12, 9, 3, 2), 3, 4)
    np.testing.assert_allclose(script("tucker").tucker2(w, 3, 4), w, atol=1e-9)


def test_all_ranks_keep_any_weights(script, rng):
    w = rng.standard_normal((5, 4, 3, 3))
    np.testing.assert_allclose(script("tucker").tucker2(w, 4, 5), w, atol=1e-12)


def test_tucker_is_better_than_each_unfolding_by_itself(script, rng):
    w, ranks = rng.standard_normal((10, 8, 3, 3)), (4, 3)
    inner, outer = (
        np.linalg.svd(unfolded.reshape(len(unfolded), -1))[0][:, :rank]
        for unfolded, rank in zip((w.swapaxes(0, 1), w), ranks, strict=True)
    )
    projected = np.einsum("mcij,ma,na,cb,db->ndij", w, outer, outer, inner, inner, optimize=True)
    assert np.linalg.norm(script("tucker").tucker2(w, *ranks) - w) < 0.999 * np.linalg.norm(projected - w)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (60, 60)])
def test_vbmf_counts_the_components_above_noise(script, rng, shape):
    x = 5 * rng.standard_normal((shape[0], 6)) @ rng.standard_normal((6, shape[1]))
    assert script("tucker").vbmf_rank(x + rng.standard_normal(shape)) == 6


def test_vbmf_finds_nothing_in_noise(script, rng):
    assert script("tucker").vbmf_rank(rng.standard_normal((50, 200))) == 0


def test_vbmf_keeps_what_has_no_noise(script, rng):
    w = low_rank(rng, (12, 10, 3, 3), 3, 4)
    assert script("tucker").vbmf_ranks(w) == (3, 4)


@pytest.mark.parametrize(
    "wanted, ratio", [(0.95, None), (0.9, 0.75), (0.8, 0.5), (0.7, 0.5), (0.5, 0.25), (0.1, 0.25)]
)
def test_the_lowest_ratio_that_keeps_a_score(script, wanted, ratio):
    scores = {0.25: 0.5, 0.5: 0.8, 0.75: 0.9}
    assert script("lowrank_peers").lowest_ratio(scores, wanted) == ratio


def test_a_score_that_is_lost_and_found_again_is_lost(script):
    assert script("lowrank_peers").lowest_ratio({0.25: 0.5, 0.5: 0.9, 0.75: 0.7, 0.9: 0.95}, 0.8) == 0.9


@pytest.fixture(scope="module")
def bench():
    """LeNet on the bundled digits."""
    bench = Workbench(
        ROOT / "prototxt" / "lenet" / "train.yaml", ROOT / "models" / "lenet.npz", calibration=1
    )
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def batches(bench):
    return {"chosen on": bench.draw(1), "untouched": bench.draw(1)}


@pytest.fixture
def peers(script, bench, batches, tmp_path):
    return script("lowrank_peers").Peers(bench, batches, Journal(tmp_path / "journal", "of this test"))


@pytest.mark.parametrize("way", ["svd spatial", "svd channel", "tucker", "greedy"])
def test_weights_cost_what_was_asked_for_at_most(peers, way):
    name, *scheme = way.split()
    found = getattr(peers, name)(*(word.upper() for word in scheme), 0.4)
    assert 0.05 < found.share <= 0.4
    for layer, w in found.weights.items():
        assert w.shape == peers.weights[layer].shape
        assert 0 < np.linalg.norm(w - peers.weights[layer]) < np.linalg.norm(peers.weights[layer])


def test_all_ranks_of_tucker_cost_what_the_dense_layers_do(peers):
    found = peers.tucker(1.0)
    assert found.share == 1
    for layer, w in found.weights.items():
        np.testing.assert_allclose(w, peers.weights[layer], atol=1e-6)


def test_the_first_layer_keeps_its_channels(peers):
    _, (name, (r1, _)), _ = peers.tucker(0.3).key
    assert (name, r1) == ("conv1", peers.weights["conv1"].shape[1])


@pytest.mark.parametrize("sensitive, other", [("conv1", "conv2"), ("conv2", "conv1")])
def test_aimet_takes_rank_from_the_layer_that_loses_less(peers, monkeypatch, sensitive, other):
    def score(found, on):
        ((name, _, rank),) = found.key[1:]
        return 1 - (0.5 if name == sensitive else 0.001) / rank

    monkeypatch.setattr(peers, "accuracy", score)
    found = peers.greedy(0.9)
    assert found.weights.keys() == {other}
    assert found.share <= 0.9


def test_the_table_has_a_line_for_each_share_and_one_for_vbmf(script, peers):
    dense = peers.bench.measure(peers.batches["untouched"], peers.bench.original).score
    table = script("lowrank_peers").compare(peers, [0.9], "untouched", dense, lambda share: (share, dense))
    head, _, asked, vbmf = table.splitlines()
    assert re.split(r"  +", head) == ["share", "ours", "AIMET", "SVD, spatial", "SVD, channel", "Tucker-2"]
    assert re.match(r"0\.9 +\+0\.00 \(0\.900\)( +[-+][\d.]+ \(0\.\d{3}\)){4}$", asked)
    assert re.match(r"[\d.]+, VBMF's  ( *[-+][\d.]+ \([\d.]+\)){5}$", vbmf)
