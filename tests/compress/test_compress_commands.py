"""``minicaffe lowrank select|apply|sweep`` on LeNet and a few digits: what is written does what was printed."""

import re
from pathlib import Path

import numpy as np
import pytest

from minicaffe.cli.program import main
from minicaffe.compress import cost
from minicaffe.compress.cost import TimeCost
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.selection import Selector
from minicaffe.compress.sweep import read_rows
from minicaffe.compress.workbench import Workbench
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import DataError
from minicaffe.low_rank.products import product_of_rank
from tests.compress.lenet_cases import SIZES, rewrite, run, select, take_biases, with_ranks
from tests.marks import on_the_cpu_alone

pytestmark = pytest.mark.usefixtures("folder")
OTHERS = "other tests here search, fit and apply on the double"
on_the_cpu = pytest.mark.cpu_only(f"of files and words; {OTHERS}")


@pytest.fixture
def time_like_flops(monkeypatch):
    """Layers take a time that is as their multiply-adds, and the whole net of them and all else, 20 ms."""

    def measure(self, candidate, scheme, rank):
        return product_of_rank(candidate.product, candidate.scheme(scheme), rank).multiply_adds / 1e5

    monkeypatch.setattr(TimeCost, "_measure", measure)
    monkeypatch.setattr(TimeCost, "_measure_dense", lambda self, candidate: candidate.cost / 1e5)
    monkeypatch.setattr(cost, "_milliseconds", lambda *of_what: 20.0)


def accuracy(capsys, net="low.yaml", weights="low.npz"):
    """What ``minicaffe test`` says of a net on the whole test set."""
    output = run(capsys, "test", net, "--weights", weights, "--iterations", "6")
    return float(re.search(r"^accuracy = (\S+)", output, re.MULTILINE)[1])


def printed(output):
    """The accuracy that ``select`` has printed last, and the dense net's, on the whole test set."""
    found = re.search(r"^accuracy (\S+) \(.*\), dense (\S+), on 180 images$", output, re.MULTILINE)
    return float(found[1]), float(found[2])


def share_of(path, names):
    """The multiply-adds of some layers, counted in a net, as a share of the dense net's."""
    totals = [
        sum(step.multiply_adds for step in net.steps if step.layer.name in names)
        for net in (Net(path), Net("net.yaml"))
    ]
    return totals[0] / totals[1]


# -- select ----------------------------------------------------------------------------------------------

GOALS = {
    "drop": (["--max-drop", "5%"], 0.05, 1),
    "flops": (["--flops", "0.2"], 1, 0.2),
    "time": (["--time", "0.4"], 1, 1),
    "drop by time": (["--max-drop", "5%", "--by", "time"], 0.05, 1),
}


@pytest.mark.parametrize("name", on_the_cpu_alone(GOALS, ["flops", "time", "drop by time"], OTHERS))
def test_select_writes_a_net_that_scores_as_printed_and_keeps_to_the_goal(capsys, time_like_flops, name):
    goal, most_drop, most_flops = GOALS[name]
    output = select(capsys, *goal)
    kept, dense = printed(output)
    assert accuracy(capsys) == pytest.approx(kept, abs=1e-4)
    assert accuracy(capsys, "net.yaml", "lenet.npz") == pytest.approx(dense, abs=1e-4)
    assert dense - kept <= 2 * most_drop + 1e-9  # of 180 images two errors of the mean are five points
    share = float(re.search(r"^all of them +(\S+)$", output, re.MULTILINE)[1])
    assert share_of("low.yaml", ("conv1", "conv2")) == pytest.approx(share, abs=1e-3)
    assert share <= most_flops and share < 0.7
    if "time" in goal or "--time" in goal:
        time = float(re.search(r"^time: (\S+) of the dense net$", output, re.MULTILINE)[1])
        assert time == pytest.approx((1.12 + 18.88 * share) / 20, abs=1e-3)
        assert "--time" not in goal or time <= 0.4
    else:
        assert "time:" not in output


@pytest.mark.parametrize("share", on_the_cpu_alone(["1", "0.5", "0.1"], ["1", "0.5"], OTHERS))
def test_select_keeps_the_multiply_adds_within_the_share(capsys, share):
    select(capsys, "--flops", share)
    counted = share_of("low.yaml", ("conv1", "conv2"))
    assert 0.3 * float(share) < counted <= float(share)
    net = Net("low.yaml")
    assert net.copy_from("low.npz").matched == ["conv1", "conv2", "ip1", "ip2"]


@on_the_cpu
def test_select_of_some_layers_leaves_the_others_as_they_are(capsys, folder):
    output = select(capsys, "--flops", "0.3", "--layers", "conv2,ip1")
    assert re.search(r"^ip1 +(dense|channel +\d+ of 500) +[01]\.\d+$", output, re.MULTILINE)
    assert not re.search(r"^conv1 ", output.split("multiply-adds")[1].split("all of them")[0], re.MULTILINE)
    assert share_of("low.yaml", ("conv2", "ip1")) <= 0.3
    low, dense = Net("low.yaml", weights="low.npz"), Net("net.yaml", weights="lenet.npz")
    for name in ("conv1", "ip2"):
        for blob, its in zip(low.params[name], dense.params[name], strict=True):
            np.testing.assert_array_equal(blob.data, its.data)
    rates = {param.key: param.lr_mult for param in low.learnable}
    assert [rates[f"conv2/{i}"] for i in range(3)] == [1, 1, 2]
    text = (folder / "low.yaml").read_text()
    lines = [
        line
        for line in text.splitlines()
        if "low_rank_param" not in line and "{lr_mult: 1}, {lr_mult: 1}," not in line
    ]
    assert set(lines) <= set((folder / "net.yaml").read_text().splitlines())


@on_the_cpu
def test_select_without_an_output_writes_beside_the_net_and_leaves_the_net_alone(capsys, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    more = ["--weights", "lenet.npz", "--flops", "0.5", *SIZES]
    run(capsys, "lowrank", "select", folder / "net.yaml", *more)
    new = {path.name for path in folder.iterdir()} - set(before)
    assert new == {"net_lowrank.yaml", "net_lowrank.npz", "net_lowrank.journal.jsonl"}
    assert all((folder / name).read_bytes() == content for name, content in before.items())


@on_the_cpu
def test_select_gives_biases_to_layers_that_had_none(capsys, folder):
    take_biases()
    output = select(capsys, "--flops", "0.2")
    kept, dense = printed(output)
    assert accuracy(capsys) == pytest.approx(kept, abs=1e-4)
    assert accuracy(capsys, "net.yaml", "lenet.npz") == pytest.approx(dense, abs=1e-4)
    low = Net("low.yaml", weights="low.npz")
    assert all(len(low.params[name]) == 3 and low.params[name][2].data.any() for name in ("conv1", "conv2"))
    assert "bias_term" not in (folder / "low.yaml").read_text()


@pytest.mark.parametrize("has_biases", [True, False], ids=["biases", "none"])
def test_approximations_leave_the_trial_net_as_it_was(has_biases):
    if not has_biases:
        take_biases()
    bench = Workbench("net.yaml", "lenet.npz", calibration=1)
    batches = bench.draw(2)
    bench.approximate({})
    dense = bench.measure(batches)
    assert bench.measure(batches, bench.original).loss == pytest.approx(dense.loss, rel=1e-5)
    bench.approximate({"conv1": LayerRank("CHANNEL", 1), "conv2": LayerRank("DATA", 3)})
    assert bench.measure(batches).loss > 1.1 * dense.loss
    alone = bench.approximate({"conv2": LayerRank("SPATIAL", 2)}), bench.measure(batches)
    bench.approximate({"conv1": LayerRank("CHANNEL", 1)})
    bench.approximate({"conv2": LayerRank("SPATIAL", 2)})
    assert bench.measure(batches) == alone[1]
    bench.approximate({})
    assert bench.measure(batches) == dense


@on_the_cpu
def test_a_deploy_net_written_beside_takes_the_same_weights_and_computes_the_same(capsys, folder):
    select(capsys, "--flops", "0.3", "--also", "deploy.yaml")
    deploy, low = Net("deploy_lowrank.yaml"), Net("low.yaml", weights="low.npz")
    assert deploy.copy_from("low.npz").matched == ["conv1", "conv2", "ip1", "ip2"]
    low.run_forward()
    images = low.blobs["data"].data
    deploy.blobs["data"].reshape(*images.shape)
    deploy.reshape()
    scores = np.exp(low.blobs["ip2"].data)
    prob = deploy.forward(data=images)["prob"]
    np.testing.assert_allclose(prob, scores / scores.sum(axis=1, keepdims=True), atol=1e-5)
    assert "low_rank_param" not in (folder / "deploy.yaml").read_text()


@on_the_cpu
def test_finetuned_weights_are_trained_and_score_as_printed(capsys):
    output = select(capsys, "--flops", "0.1", "--finetune", "solver.yaml")
    found = re.search(r"^Wrote low_finetuned.npz: accuracy (\S+) \(", output, re.MULTILINE)
    bench = Workbench("net.yaml", "lenet.npz", calibration=1)
    net = Net("low.yaml", weights="low_finetuned.npz")
    kept = bench.measure(bench.draw(6), net).score
    assert kept == pytest.approx(float(found[1]), abs=1e-4)
    start, tuned = (Net("low.yaml", weights=path) for path in ("low.npz", "low_finetuned.npz"))
    for name, blobs in tuned.params.items():
        for blob, its in zip(blobs, start.params[name], strict=True):
            assert np.abs(blob.data - its.data).max() > 1e-5
    w, start_w = (net.params["ip1"][0].data.ravel() for net in (tuned, start))
    assert np.corrcoef(w, start_w)[0, 1] > 0.8  # not of a net that starts anew


# -- the journal -----------------------------------------------------------------------------------------


CONV1 = ["--layers", "conv1"]


@on_the_cpu
def test_a_second_run_measures_nothing_again_and_ends_the_same(capsys, measured):
    first, once = chosen(select(capsys, "--max-drop", "5%", *CONV1)), len(measured)
    assert once > 2
    again = select(capsys, "--max-drop", "5%", *CONV1)
    assert f"{once} measurements are taken from low.journal.jsonl; delete it to measure anew\n" in again
    assert chosen(again) == first
    assert len(measured) == once
    select(capsys, "--flops", "0.5", *CONV1)  # the dense net is known
    assert once < len(measured) <= once + 1


def chosen(output):
    """What ``select`` says from the plans on, but for the times."""
    return re.sub(r"(?m)^(forward pass, ms|Times: ).*$", "", output[output.index("Dense:") :])


@on_the_cpu
def test_a_run_with_other_numbers_measures_anew(capsys, measured, folder):
    def count(*arguments):
        before = len(measured)
        select(capsys, "--flops", "0.5", *arguments)
        return len(measured) - before

    assert count(*CONV1) == 2 and count(*CONV1) == 0
    assert count(*CONV1, "--batches", "2") == 2
    assert count() == 2
    weights = dict(np.load("lenet.npz"))
    np.savez("lenet.npz", **{**weights, "ip2/1": weights["ip2/1"] + 1})
    assert count(*CONV1) == 2
    (folder / "net.yaml").write_text((folder / "net.yaml").read_text().replace("MAX", "AVE"))
    assert count(*CONV1) == 2


@on_the_cpu
@pytest.mark.parametrize("which", ["train", "test"])
@pytest.mark.parametrize("command", ["select", "sweep"])
def test_measurements_of_data_that_were_replaced_are_not_taken(capsys, measured, command, which):
    """Under the same name, of the same size, and with the same labels."""

    def count():
        before = len(measured)
        if command == "select":
            select(capsys, "--flops", "0.5", *CONV1)
        else:
            arguments = ["net.yaml", "--weights", "lenet.npz", "--ranks", "0.5", *SIZES, *CONV1]
            run(capsys, "lowrank", "sweep", *arguments)
        return len(measured) - before

    first = count()
    assert first > 1 and count() == 0
    held = dict(np.load(f"{which}.npz"))
    np.savez(f"{which}.npz", data=255 - held["data"], label=held["label"])
    assert count() > 1 and count() == 0


@on_the_cpu
def test_an_interrupted_search_goes_on_where_it_was(capsys, measured):
    measured.limit = 2
    arguments = ["net.yaml", "--weights", "lenet.npz", "-o", "low.yaml", *SIZES, *CONV1]
    assert main(["lowrank", "select", "--max-drop", "5%", *arguments]) == 130
    said = (
        "interrupted: 2 measurements are kept in low.journal.jsonl, and the same command goes on from there"
    )
    assert capsys.readouterr().err == f"{said}\n"
    assert not Path("low.yaml").exists()
    measured.limit = -1
    resumed, count = select(capsys, "--max-drop", "5%", "--batches", "3", *CONV1), len(measured)
    assert count > 2
    Path("low.journal.jsonl").unlink()
    assert "2 measurements are taken from low.journal.jsonl; delete it to measure anew\n" in resumed
    assert chosen(select(capsys, "--max-drop", "5%", "--batches", "3", *CONV1)) == chosen(resumed)
    assert len(measured) == 2 * count


@on_the_cpu
def test_a_search_that_was_interrupted_before_it_measured_says_that_nothing_is_kept(capsys, measured):
    measured.limit = 0
    arguments = ["net.yaml", "--weights", "lenet.npz", "-o", "low.yaml", *SIZES, *CONV1]
    assert main(["lowrank", "select", "--max-drop", "5%", *arguments]) == 130
    assert (
        "interrupted: nothing was measured yet, and the same command begins anew\n" in capsys.readouterr().err
    )


# -- apply -----------------------------------------------------------------------------------------------


def apply(capsys, weights="lenet.npz", calibration=2):
    arguments = ["low.yaml", "--weights", weights, "--calibration", calibration, "-o", "low.npz"]
    return run(capsys, "lowrank", "apply", *arguments)


RANKS = {
    "factored": {"conv1": "rank: 4, factored: true", "conv2": "rank: 6, scheme: spatial, factored: true"},
    "truncated": {"conv1": "rank: 4", "conv2": "rank: 6, scheme: spatial, method: gram"},
    "held": {"conv1": "rank: 4, refresh: 3", "conv2": "flops: 0.1, scheme: spatial, refresh: 3"},
}


def mean_loss(net):
    losses = []
    for _ in range(3):
        net.run_forward()
        losses.append(float(to_host(net.loss())))
    return np.mean(losses)


@pytest.mark.parametrize("ranks", RANKS.values(), ids=RANKS)
def test_apply_writes_weights_that_are_better_than_truncated_ones(capsys, folder, ranks):
    with_ranks(folder, **ranks)
    output = apply(capsys)
    applied, truncated = Net("low.yaml"), Net("low.yaml", weights="lenet.npz")
    assert applied.copy_from("low.npz").matched == ["conv1", "conv2", "ip1", "ip2"]
    dense = mean_loss(Net("net.yaml", weights="lenet.npz"))
    assert mean_loss(applied) - dense < 0.7 * (mean_loss(truncated) - dense)
    rows = re.findall(r"^(\S+) +(\d+) +(0\.\d+)$", output, re.MULTILINE)
    found = {layer.name: layer.low_rank.rank for layer in applied.layers if layer.name in ranks}
    assert {name: int(rank) for name, rank, _ in rows} == found
    assert all(0.3 < float(energy) < 1 for _, _, energy in rows)
    for name in ("ip1", "ip2"):
        for blob, its in zip(applied.params[name], truncated.params[name], strict=True):
            np.testing.assert_array_equal(blob.data, its.data)


@on_the_cpu
def test_apply_to_inner_products_keeps_the_accuracy(capsys, folder):
    with_ranks(folder, ip1="rank: 30, factored: true", ip2="rank: 9")
    output = apply(capsys, calibration=20)
    assert re.search(r"^ip1 +30 +0\.\d+\nip2 +9 +(0\.\d+|1\.0000)$", output, re.MULTILINE)
    assert accuracy(capsys) >= accuracy(capsys, "net.yaml", "lenet.npz") - 0.04


def test_apply_of_a_data_basis_holds_a_basis_of_the_data_and_weights_fitted_in_it(capsys, folder):
    with_ranks(folder, conv1="rank: 8, target: data", conv2="rank: 40, target: data")
    output = apply(capsys)
    net = Net("low.yaml", weights="low.npz")
    for name, rank in (("conv1", 8), ("conv2", 40)):
        w, _, q = (blob.data for blob in net.params[name])
        np.testing.assert_allclose(q[0].T @ q[0], np.eye(rank), atol=1e-5)
        rows = w.reshape(len(w), -1)
        np.testing.assert_allclose(rows @ q[0] @ q[0].T, rows, atol=1e-5)
        assert re.search(rf"^{name} +{rank} +0\.9\d+$", output, re.MULTILINE)
    assert accuracy(capsys) > 0.9


FULL = {
    "factored": {"conv1": "rank: 20, factored: true", "conv2": "rank: 100, scheme: spatial, factored: true"},
    "truncated": {"conv1": "rank: 5, scheme: spatial", "conv2": "rank: 50"},
    "held": {"conv2": "rank: 50, refresh: 2"},
    "data": {"conv1": "rank: 25, target: data", "conv2": "rank: 500, target: data"},
    "inner products": {"ip1": "rank: 500", "ip2": "rank: 10, factored: true"},
}


@pytest.mark.parametrize("ranks", FULL.values(), ids=FULL)
def test_apply_at_full_rank_loses_nothing(capsys, folder, ranks):
    with_ranks(folder, **ranks)
    apply(capsys)
    low, dense = Net("low.yaml", weights="low.npz"), Net("net.yaml", weights="lenet.npz")
    dense.run_forward()
    expected, images = dense.blobs["ip2"].data, dense.blobs["data"].data
    found = low.forward(start="conv1", end="ip2", data=images)["ip2"]
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


@on_the_cpu
def test_apply_to_layers_without_a_bias_adds_none(capsys, folder):
    take_biases()
    with_ranks(folder, conv1="rank: 5, factored: true", conv2="rank: 12, scheme: spatial")
    truncated = mean_loss(Net("low.yaml", weights="lenet.npz"))
    apply(capsys)
    net = Net("low.yaml", weights="low.npz")
    assert [len(net.params[name]) for name in ("conv1", "conv2")] == [2, 1]
    assert mean_loss(net) < truncated
    plan = {"conv1": LayerRank("CHANNEL", 5), "conv2": LayerRank("SPATIAL", 12)}
    bench = Workbench("net.yaml", "lenet.npz", plan, 2, ranks_are_given=True)
    assert not any(found.bias.any() for found in bench.approximate(plan).values())


@on_the_cpu
@pytest.mark.parametrize(
    "rank", ["rank: 5, factored: true", "rank: 8, target: data"], ids=["factors", "basis"]
)
def test_apply_takes_param_messages_of_factors_and_of_a_basis(capsys, folder, rank):
    with_ranks(folder, conv1=rank)
    text = Path("low.yaml").read_text()
    with_params = "- name: conv1\n  param: [{lr_mult: 1}, {lr_mult: 3}, {lr_mult: 0}]\n"
    Path("low.yaml").write_text(re.sub(r"- name: conv1\n(  param: .*\n)?", with_params, text))
    apply(capsys)
    Net("low.yaml", weights="low.npz")
    dense = Workbench(
        "low.yaml", "lenet.npz", {"conv1": LayerRank("CHANNEL", 5)}, 2, ranks_are_given=True
    ).original
    conv1 = next(layer for layer in dense.layers if layer.name == "conv1")
    assert [x.lr_mult for x in conv1.spec.param] == ([1, 0] if "factored" in rank else [1, 3])


@on_the_cpu
def test_apply_without_an_output_writes_beside_the_net(capsys, folder):
    with_ranks(folder, conv1="rank: 4")
    run(capsys, "lowrank", "apply", "low.yaml", "--weights", "lenet.npz", "--calibration", "1")
    assert Net("low.yaml").copy_from("low_applied.npz").missing == []


# -- sweep -----------------------------------------------------------------------------------------------


def sweep(capsys, *arguments):
    """The rows of the table that is printed, as lists of text."""
    output = run(
        capsys,
        "lowrank",
        "sweep",
        "net.yaml",
        "--weights",
        "lenet.npz",
        "--ranks",
        "0.1,0.4",
        *SIZES,
        *arguments,
    )
    lines = output[output.index("\nlayer ") :].strip().splitlines()
    assert re.split("  +", lines[0]) == [
        "layer",
        "rank kept",
        "rank",
        "accuracy",
        "loss",
        "energy",
        "FLOPs",
        "time ms",
    ]
    return [re.split("  +", line) for line in lines[2:] if re.search(r"\d$", line)]


TARGETS = {  # what is swept, its ranks in conv2, and in a spec the lowest ones of both layers
    "weights": (["--target", "weights"], ["10", "40"], "rank: {}, scheme: spatial", (1, 10)),
    "weights, channel": (["--scheme", "channel"], ["5", "20"], "rank: {}", (2, 5)),
    "data": (["--target", "data"], ["50", "200"], "rank: {}, target: data", (2, 50)),
}


@pytest.mark.parametrize("name", on_the_cpu_alone(TARGETS, ["weights", "weights, channel"], OTHERS))
def test_sweep_prints_accuracy_energy_flops_and_time_for_each_rank(capsys, folder, name):
    arguments, ranks, param, lowest = TARGETS[name]
    rows = sweep(capsys, *arguments, "--batches", "6")
    assert [row[0] for row in rows] == [name for name in ("conv1", "conv2", "all layers") for _ in range(3)]
    assert [row[1] for row in rows] == ["0.10", "0.40", "1.00"] * 3
    assert [row[2] for row in rows[3:6]] == [*ranks, "full"]
    dense = f"{accuracy(capsys, 'net.yaml', 'lenet.npz'):.4f}"
    for group in (rows[:3], rows[3:6], rows[6:]):
        energy, flops = ([float(row[i]) for row in group] for i in (5, 6))
        assert energy == sorted(energy) and energy[0] < energy[1] < energy[2] == 1
        assert flops == sorted(flops) and flops[2] == 1
        assert group[2][3] == dense
        assert all(float(row[7]) > 0 for row in group)
    assert float(rows[6][4]) > float(rows[8][4])
    with_ranks(folder, conv1=param.format(lowest[0]), conv2=param.format(lowest[1]))
    assert [row[2] for row in (rows[0], rows[3])] == [str(rank) for rank in lowest]
    assert float(rows[6][6]) == pytest.approx(share_of("low.yaml", ("conv1", "conv2")), abs=1e-3)
    assert float(rows[6][6]) == pytest.approx(float(rows[0][6]) + float(rows[3][6]) - 1, abs=2e-3)


@on_the_cpu
def test_the_energy_of_all_layers_is_that_of_the_one_that_keeps_least(capsys):
    rows = sweep(capsys, "--target", "data")
    conv1, conv2, both = (float(row[5]) for row in rows if row[1] == "0.10")
    assert both == min(conv1, conv2) < max(conv1, conv2) - 0.01


@on_the_cpu
def test_sweep_draws_a_plot_and_when_run_again_measures_nothing(capsys, measured, folder):
    pytest.importorskip("matplotlib")
    rows = []
    for name, start in (("x.png", b"\x89PNG"), ("x.svg", b"<?xml")):
        rows.append(sweep(capsys, "--plot", name, *CONV1))
        assert len(measured) == 6
        content = (folder / name).read_bytes()
        assert content.startswith(start) and len(content) > 5000
    for text in ("share of what it is when dense, %", "time of the whole net, from timed layers"):
        assert f"<!-- {text} -->" in content.decode()
    assert rows[0] == rows[1]


@on_the_cpu
def test_sweeps_of_other_targets_schemes_and_batches_measure_anew(capsys, measured):
    for more in ([], ["--target", "data"], ["--scheme", "channel"], ["--batches", "2"]):
        before = len(measured)
        rows = sweep(capsys, *CONV1, *more)
        assert len(measured) == before + 6
    read = read_rows(
        Path("net_sweep_weights.journal.jsonl")
    )  # as a report does: the latest of each layer and rank
    assert set(read) == {"SPATIAL", "CHANNEL"}
    assert [f"{row.accuracy:.4f}" for row in read["SPATIAL"]] == [row[3] for row in rows]


@on_the_cpu
def test_fitting_to_approximated_inputs_keeps_more_than_symmetric_fitting(capsys, folder):
    with_ranks(folder, conv1="rank: 4, scheme: spatial, factored: true", conv2="rank: 6, factored: true")
    losses = []
    for more in ([], ["--symmetric"]):
        run(capsys, "lowrank", "apply", "low.yaml", "--weights", "lenet.npz", "-o", "low.npz", *more)
        losses.append(mean_loss(Net("low.yaml", weights="low.npz")))
    assert losses[0] < losses[1]


BAD = {"conv2": LayerRank("CHANNEL", 20)}


@on_the_cpu
def test_where_nothing_cheaper_keeps_the_accuracy_it_says_so(capsys, folder, monkeypatch):
    monkeypatch.setattr(Selector, "within_drop", lambda self, drop: (self._try(BAD), self._try({}))[1])
    output = select(capsys, "--max-drop", "1%")
    assert "nothing is approximated; the best that was seen: FLOPs 0.5" in output
    assert re.search(r"points?(?: of accuracy)?\), \S+ points to be reckoned as lost; allow more", output)


WARNINGS = {  # of 30 images a batch, of which none may have changed, three may
    "two batches": (
        ["--max-drop", "1%"],
        2,
        "60 images tell what is counted only to ± 2.9 points: give more to be sure of 1",
    ),
    "one batch": (
        ["--max-drop", "9%"],
        1,
        "30 images in one batch do not tell how sure what is counted is: give more to be sure of 9",
    ),
    "enough": (["--max-drop", "9%"], 2, None),
    "no drop": (["--flops", "0.6"], 1, None),
}


@on_the_cpu
@pytest.mark.parametrize(("goal", "batches", "warning"), WARNINGS.values(), ids=WARNINGS)
def test_images_that_are_too_few_to_be_sure_of_a_drop_are_said_to_be(
    capsys, monkeypatch, goal, batches, warning
):
    plan = {"conv2": LayerRank("CHANNEL", 45)}  # no answer changes
    monkeypatch.setattr(Selector, "within_drop", lambda self, drop: self._try(plan))
    output = select(capsys, *goal, "--batches", batches)
    said = re.findall(r"^.* to be sure of .*$", output, re.MULTILINE)
    assert said == [warning] * bool(warning)


@on_the_cpu
def test_a_search_that_goes_on_says_what_it_takes_from_the_journal(capsys, folder):
    assert "measurements are taken from" not in select(capsys, "--flops", "0.5")
    assert "measurements are taken from low.journal.jsonl; delete it" in select(capsys, "--flops", "0.5")


@on_the_cpu
def test_a_layer_is_fitted_anew_when_the_layers_before_it_have_other_ranks():
    def conv2(bench, rank_before):
        plan = {"conv1": LayerRank("CHANNEL", rank_before), "conv2": LayerRank("CHANNEL", 6)}
        found = bench.approximate(plan)["conv2"]
        return found.left @ found.right

    with Workbench("net.yaml", "lenet.npz", calibration=1) as bench:
        first, second, again = (conv2(bench, rank) for rank in (2, 15, 2))
    with Workbench("net.yaml", "lenet.npz", calibration=1) as fresh:
        alone = conv2(fresh, 15)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(second, alone, rtol=1e-4, atol=1e-6)
    assert np.linalg.norm(first - second) > 0.05 * np.linalg.norm(second)


# -- the bench -------------------------------------------------------------------------------------------


@on_the_cpu
def test_no_image_of_a_data_layer_is_drawn_twice():
    with Workbench("net.yaml", "lenet.npz", ["conv1"], calibration=1) as bench:
        assert bench.images.available == 6
        drawn = [*bench.draw(4), *bench.draw(2)]
        assert bench.images.available == 0
        images = np.concatenate([to_host(batch["data"]) for batch in drawn])
        assert len(np.unique(images, axis=0)) == len(images) == 180
        with pytest.raises(DataError, match=r"1 test batch wanted, but of an epoch are 0 left"):
            bench.draw(1)


@on_the_cpu
def test_of_fewer_test_images_than_a_batch_there_is_one_batch():
    rewrite("net.yaml", ("test.npz, batch_size: 30", "test.npz, batch_size: 181"))
    with Workbench("net.yaml", "lenet.npz", ["conv1"], calibration=1) as bench:
        assert bench.images.available == 1


COMMANDS = {
    "plan": ["plan", "net.yaml"],
    "select": ["select", "net.yaml", "--flops", "0.5", "--batches", "1"],
    "apply": ["apply", "low.yaml"],
    "sweep": ["sweep", "net.yaml", "--ranks", "0.5", "--batches", "1"],
}


@on_the_cpu
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_bench_is_closed_whatever_happens(capsys, folder, monkeypatch, command):
    with_ranks(folder, conv1="rank: 4")
    closed, close = [], Workbench.close
    monkeypatch.setattr(Workbench, "close", lambda self: closed.append(self) or close(self))

    def fail(*of_what):
        raise DataError("no")

    for name in ("draw", "approximate"):
        monkeypatch.setattr(Workbench, name, fail)
    flags = ["--weights", "lenet.npz", "--calibration", "1", "--layers", "conv1"]
    assert main(["lowrank", *command, *(flags[:4] if command[0] == "apply" else flags)]) == 2
    assert "error: no" in capsys.readouterr().err
    assert len(closed) == 1
