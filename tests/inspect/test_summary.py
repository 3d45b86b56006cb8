"""What a summary counts: shares, the memory of tops, ranks and energy; as a table and as JSON."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.report.facts import count_text
from minicaffe.inspect.summary import as_json, energies_kept, layer_rows, summarize
from minicaffe.spec.net import parse_net

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"

SHARED = """
name: siamese
layer:
- {name: x, type: Input, input_param: {shape: {dim: [4, 3]}}}
- {name: y, type: Input, input_param: {shape: {dim: [4, 3]}}}
- {name: a, type: InnerProduct, bottom: x, param: {name: w}, inner_product_param: {num_output: 5, bias_term: false}}
- {name: b, type: InnerProduct, bottom: y, param: {name: w}, inner_product_param: {num_output: 5, bias_term: false}}
- {name: relu, type: ReLU, bottom: a, top: a}
- {name: loss, type: EuclideanLoss, bottom: [a, b]}
- {name: again, type: Power, bottom: a}
"""
LOW_RANK = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 1, 28, 28]}}}
- {name: conv1, type: Convolution, convolution_param: {num_output: 20, kernel_size: 5}}
- {name: pool1, type: Pooling, pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
- name: conv2
  type: Convolution
  convolution_param: {num_output: 50, kernel_size: 5, weight_filler: {type: xavier}}
  low_rank_param: {energy: 0.8}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 8}, low_rank_param: {rank: 2, factored: true}}
"""


@pytest.fixture(scope="module")
def rows():
    return {row.name: row for row in layer_rows(mc.Net(PROTOTXT / "lenet" / "deploy.yaml"))}


def test_shares_are_of_the_whole_net(rows):
    assert rows["conv2"].params_share == pytest.approx(25_050 / 431_080)
    assert rows["conv2"].multiply_adds_share == pytest.approx(1_600_000 / 2_293_000)
    for part in ("params_share", "multiply_adds_share"):
        assert sum(getattr(row, part) for row in rows.values()) == pytest.approx(1)


def test_memory_is_that_of_the_tops_of_one_image(rows):
    assert rows["conv1"].activation_bytes == 20 * 24 * 24 * 4
    assert rows["relu1"].activation_bytes == 0, "it works in place"


def test_what_lies_in_another_blobs_memory_counts_once_and_a_loss_counts_whole():
    rows = {row.name: row for row in layer_rows(mc.Net(parse_net(SHARED)))}
    assert rows["a"].activation_bytes == 5 * 4
    assert rows["a_relu_0_split"].activation_bytes == 0
    assert rows["loss"].activation_bytes == 4


def test_a_shared_parameter_belongs_to_the_layer_that_has_it_first():
    rows = {row.name: row for row in layer_rows(mc.Net(parse_net(SHARED)))}
    assert (rows["a"].params, rows["a"].params_share) == (15, 1)
    assert (rows["b"].params, rows["b"].params_share) == (15, 0)
    assert rows["b"].note == "shares parameters with a" and not rows["a"].note


def test_the_rank_for_an_energy_needs_weights():
    net = mc.Net(parse_net(LOW_RANK), seed=1)
    (before,) = [row for row in layer_rows(net) if row.name == "conv2"]
    assert (before.rank, before.full_rank, before.energy) == (None, 50, None)
    assert before.note == "the rank for energy 0.8, at most 50, is not known without weights"
    assert "?/50" in summarize(net)

    squares = np.linalg.svd(net.params["conv2"][0].data.reshape(50, -1), compute_uv=False) ** 2
    rank = 1 + np.count_nonzero(np.cumsum(squares) < 0.8 * squares.sum())
    energies = energies_kept(net)
    (after,) = [row for row in layer_rows(net, energies) if row.name == "conv2"]
    assert after.rank == rank and f"{rank}/50" in summarize(net, energies)
    assert after.energy == pytest.approx(squares[:rank].sum() / squares.sum(), abs=1e-5)
    assert after.multiply_adds == rank * (20 * 25 + 50) * 64
    assert "ip" not in energies, "its factors are parameters: there is nothing to compare with"


THIN = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 4, 12, 12]}}}
- name: y
  type: Convolution
  convolution_param: {num_output: 20, kernel_size: 3, stride: 2, group: 2}
  low_rank_param: {rank: 3, PARAM}
"""


@pytest.mark.parametrize(
    ("param", "numbers", "spelled"),
    [
        (
            "",
            2 * 3 * (10 + 18),
            "6 · 2·3·3 · 5·5 + 20 · 3 · 5·5 = 4,200 multiply-adds; dense it would be 9,000",
        ),
        ("factored: true", 2 * 3 * (10 + 18), "6 · 2·3·3 · 5·5 + 20 · 3 · 5·5"),
        ("target: data", 2 * 3 * (10 + 18), "6 · 2·3·3 · 5·5 + 20 · 3 · 5·5"),
        ("scheme: spatial", 2 * 3 * (2 * 3 + 10 * 3), "6 · 2·3 · 5·12 + 20 · 3·1·3 · 5·5"),
        ("rank: 9", 360, "20 · 2·3·3 · 5·5 = 9,000 multiply-adds"),  # too costly: W itself is multiplied with
    ],
)
def test_a_low_rank_layer_counts_the_numbers_that_it_computes_with(param, numbers, spelled):
    text = THIN.replace("rank: 3, PARAM", param if "rank" in param else f"rank: 3, {param}")
    net = mc.Net(parse_net(text), seed=1)
    row = layer_rows(net)[1]
    assert (row.params, row.params_dense, row.params_share) == (numbers + 20, 380, 1)
    assert ("dense: 380 parameters" in row.note) == (numbers != 360)
    assert json.loads(as_json(net))["params"] == numbers + 20
    assert re.search(rf"^all layers +{numbers + 20:,} ", summarize(net), re.MULTILINE)
    assert count_text(net.steps[1]).startswith(spelled)


def test_weights_that_are_not_finite_have_no_rank():
    net = mc.Net(parse_net(LOW_RANK))
    net.params["conv2"][0].data[0] = np.nan
    with pytest.raises(mc.TrainingError, match="layer 'conv2': no factorization"):
        energies_kept(net)


def test_json_holds_what_the_rows_hold():
    net = mc.Net(PROTOTXT / "lenet" / "deploy.yaml")
    found = json.loads(as_json(net, why="reason"))
    assert {key: found[key] for key in ("net", "phase", "why", "batch", "inputs", "outputs")} == {
        "net": "LeNet", "phase": "TEST", "why": "reason", "batch": 64, "inputs": ["data"], "outputs": ["prob"],
    }  # fmt: skip
    assert (found["params"], found["params_not_trained"], found["multiply_adds"]) == (431_080, 0, 2_293_000)
    conv2 = found["layers"][3]
    assert conv2["tops"] == {"conv2": [64, 50, 8, 8]} and conv2["type"] == "Convolution"
    assert conv2["activation_bytes"] == 50 * 8 * 8 * 4 and conv2["rank"] is None
    assert found["activation_bytes"] == sum(layer["activation_bytes"] for layer in found["layers"])


def test_the_command_prints_nothing_but_json_on_stdout(tmp_path, capsys):
    (tmp_path / "net.yaml").write_text(
        LOW_RANK.replace("energy: 0.8", "rank: 50")
    )  # which warns: it is costly
    assert main(["summary", str(tmp_path / "net.yaml"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["layers"][3]["rank"] == 50 and "costs" in err


def test_the_command_shows_the_ranks_of_weights(tmp_path, capsys):
    net = mc.Net(parse_net(LOW_RANK), seed=1)
    net.save(tmp_path / "w.npz")
    (tmp_path / "net.yaml").write_text(LOW_RANK)
    assert main(["summary", str(tmp_path / "net.yaml"), "--weights", str(tmp_path / "w.npz")]) == 0
    out = capsys.readouterr().out
    rank = net.layers[3].low_rank.energy_kept() and net.layers[3].low_rank.rank
    assert f"conv2: rank {rank} of 50" in out and "of the energy" in out
    assert out.startswith("net.yaml (TEST: it has neither data nor a loss")


@pytest.mark.parametrize("name", ["lenet", "googlenet"])
def test_a_table_fits_into_120_columns(name):
    net = mc.Net(PROTOTXT / name / "deploy.yaml")
    assert max(map(len, summarize(net, why="of this reason").splitlines())) <= 120
