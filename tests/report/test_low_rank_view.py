"""View 4, Python side: which layers are looked at, what their curves and bases are, and accuracy against rank."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress.batches import run
from minicaffe.compress.survey import input_moments, matrix_layer
from minicaffe.compress.ways import WAYS
from minicaffe.device.array import to_device
from minicaffe.errors import DataError
from minicaffe.inspect.confusion import find_answers
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.pictures import from_data
from minicaffe.inspect.report.rank_accuracy import _test_batches, rank_accuracy
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.inspect.report.seen_images import SeenImages, seen_images, test_images
from minicaffe.inspect.report.views import low_rank
from minicaffe.inspect.summary import layer_rows
from minicaffe.low_rank.factorization import svd
from minicaffe.spec.net import parse_net
from tests import ROOT
from tests.report.conftest import net_of

LENET = ROOT / "prototxt" / "lenet" / "train.yaml", ROOT / "models" / "lenet.npz"
WIDE = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 2, 6, 6]}}}
- {name: small, type: Convolution, convolution_param: {num_output: 4, kernel_size: 3}}
- {name: depthwise, type: Convolution, convolution_param: {num_output: 4, kernel_size: 3, group: 4}}
- {name: wide, type: InnerProduct, inner_product_param: {num_output: 40}}
- {name: relu, type: ReLU}
"""


@pytest.fixture(scope="module")
def lenet():
    with copy_of(mc.Net(*LENET, phase="test", seed=0)) as net:
        yield net


def measured(net, names, images):
    """LeNet's accuracy at some ranks of some layers, with the moments and directions that it came from."""
    answers = find_answers(net)
    layers, _ = low_rank.choose_layers(net, names)
    moments = input_moments(net, list(layers.values()), seen_images(net, (), 64).batches)
    found = {n: {way: x.directions(way, moments[n]) for way in WAYS} for n, x in layers.items()}
    return layers, moments, found, rank_accuracy(net, answers, layers, moments, found, images)


def test_images_that_come_again_are_not_counted_as_more():
    data = "- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 50}}"
    ip = "- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 3}}"
    with mc.Net(parse_net(f"layer:\n{data}\n{ip}"), phase="test", seed=0) as net:
        rows = net.layers[0].rows
        assert seen_images(net, (), 60).text == "60 training images"
        assert seen_images(net, (), rows + 50).text == f"{rows:,} training images, drawn {rows + 50:,} times"


def test_layers_are_taken_from_the_smallest_on_and_the_others_have_a_reason(monkeypatch):
    net = mc.Net(parse_net(WIDE), seed=0)
    layers, left_out = low_rank.choose_layers(net)
    assert list(layers) == ["small", "wide"]
    assert left_out == [("depthwise", "depthwise: one filter for each channel")]
    monkeypatch.setattr(low_rank, "DEPTH_CUBED", 18**3 + 4**3)
    layers, left_out = low_rank.choose_layers(net)
    assert list(layers) == ["small"]
    assert left_out[1][0] == "wide" and "--layers wide shows it" in left_out[1][1]
    layers, left_out = low_rank.choose_layers(net, ("wide",))  # asked for by name: however long it takes
    assert list(layers) == ["wide"] and ("small", "not among --layers") in left_out


def test_accuracies_are_those_of_nets_with_the_approximated_weights(lenet):
    layers, moments, found, accuracy = measured(lenet, ("conv2", "ip2"), 30)
    assert accuracy.count == 30 and set(accuracy.points) == {"conv2", "ip2"}
    batches = _test_batches(lenet, 30)
    answers = find_answers(lenet)
    for way in WAYS:
        rank, claimed = accuracy.points["conv2"][way][3]
        vectors = found["conv2"][way].vectors[0, :, :rank]
        w = layers["conv2"].weights[0].copy()
        low = w @ vectors @ vectors.T if way == "data" else vectors @ vectors.T @ w
        shift = layers["conv2"].bias_change(way, moments["conv2"], found["conv2"][way], rank)
        blob, bias = lenet.params["conv2"]
        exact = blob.data.copy(), bias.data.copy()
        blob.data[...] = low.reshape(blob.shape)
        bias.data[...] += shift
        right = 0
        for batch, size in batches:
            run(lenet, batch)
            scores, labels, _ = answers.read(size)
            right += int((scores.argmax(1) == labels).sum())
        blob.data[...], bias.data[...] = exact
        assert 0.1 < claimed < 1 or way == "fitted"
        assert claimed == pytest.approx(right / 30)


def test_at_full_rank_nothing_is_lost(lenet, monkeypatch):
    monkeypatch.setattr("minicaffe.inspect.report.rank_accuracy.first_rank", lambda layer: layer.full_rank)
    accuracy = measured(lenet, ("ip2",), 30)[-1]
    for way in ("weights", "fitted"):
        assert accuracy.points["ip2"][way][-1] == (10, accuracy.dense)


def test_layers_for_which_it_is_much_work_have_no_accuracy(lenet, monkeypatch):
    monkeypatch.setattr("minicaffe.inspect.report.rank_accuracy.WORK", 1e6)
    assert set(measured(lenet, ("conv2", "ip2"), 5)[-1].points) == {"ip2"}


def test_accuracy_is_measured_at_the_rank_that_is_shown_first(lenet):
    layers, *_, accuracy = measured(lenet, ("conv2", "ip2"), 5)
    for name, layer in layers.items():
        first = low_rank._numbers(lenet, layer, SeenImages([], 1, "images"))["start"]
        assert first == layer.full_rank // 4
        assert all(first in dict(points) for points in accuracy.points[name].values())


def test_test_images_are_the_inputs_of_the_net_with_their_labels(lenet):
    images, labels = test_images(lenet, find_answers(lenet), "data", 40)
    assert images.shape == (40, 1, 28, 28) and labels.shape == (40,)
    assert len(set(labels.tolist())) > 5
    run(lenet, {"data": to_device(images), "label": to_device(labels.astype(np.float32))})
    assert (lenet.blobs["ip2"].data.argmax(1) == labels).mean() > 0.9


def test_the_view_s_data_are_small_and_say_what_they_are_of(lenet):
    recording = record(lenet, from_data(lenet, 1))
    packer = Packer()
    found = low_rank.data(recording, packer, Options(test=0, layers=("conv2",)))
    json.dumps(found)
    assert found["seen"] == {"count": 512, "text": "512 training images"}
    assert found["accuracy"] is None and set(found["layers"]) == {"conv2"}
    conv2 = found["layers"]["conv2"]
    assert (conv2["m"], conv2["k"], conv2["full"], conv2["break_even"]) == (50, 500, 50, 45)
    assert (conv2["dense"], conv2["cost_of_rank"], conv2["columns"]) == (1_600_000, 35_200, 512 * 64)
    assert conv2["curves"]["shape"] == [3, 3, 51]
    assert conv2["bases"]["weights"]["shape"] == [1, 50, 50]
    assert conv2["bases"]["data"]["shape"] == [1, 500, 50]
    assert found["test"]["count"] == 200
    assert packer.size < 300_000


SPATIAL = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 4, 4, 4]}}}
- {name: y, type: Convolution, convolution_param: {num_output: 8, kernel_size: 3, weight_filler: {type: xavier}},
   low_rank_param: {rank: 3, scheme: spatial}}
"""


def test_a_layer_with_few_columns_or_split_in_space_has_a_note():
    """The error and the work are those of the layer; then of the split that is shown, at the same work."""

    def lost(w, rank):
        left, right = svd(w).truncate(rank).factors()
        return np.linalg.norm(w - left @ right) / np.linalg.norm(w)

    with mc.Net.from_text(SPATIAL, seed=1) as net:
        net.blobs["x"].data[...] = np.random.default_rng(1).normal(size=(1, 4, 4, 4))
        net.run_forward(1)
        seen = SeenImages([{"x": net.blobs["x"].data.copy()}], 1, "1 image")
        step, layer = net.steps[1], matrix_layer(net.steps[1])
        moments = input_moments(net, [layer], seen.batches)["y"]
        few, spatial = low_rank._notes(net, layer, seen, layer.directions("weights", moments))
    assert few.startswith("b and c are fitted to only 4 columns of X") and few.endswith(
        "From rank 4 on b is exact."
    )
    work, same = step.multiply_adds, round(step.multiply_adds / layer.cost_of_rank)
    w = layer.weights[0].astype(np.float64)
    in_space = w.reshape(8, 4, 3, 3).transpose(1, 2, 0, 3).reshape(12, 24)
    assert spatial == (
        f"In this net y is split in space: 3 filters of 3 × 1, then 8 of 1 × 3 ({work:,} multiply-adds, W off by "
        f"{lost(in_space, 3):.3g}). Shown is the other split, W ≈ A·B: as much work gives it rank {same} "
        f"(W off by {lost(w, same):.3g} by a)."
    )


@pytest.mark.parametrize("param", [{}, {"scheme": "spatial"}, {"factored": True}, None])
def test_a_layer_has_the_numbers_and_the_work_of_the_table_of_layers(param):
    low = {} if param is None else {"low_rank_param": {"rank": 3, **param}}
    conv = {"type": "Convolution", "convolution_param": {"num_output": 20, "kernel_size": 3, "stride": 2}}
    data = {"name": "x", "type": "Input", "input_param": {"shape": {"dim": [1, 4, 12, 12]}}}
    net = mc.Net({"layer": [data, {"name": "y", **conv, **low}]}, seed=1)
    row, layer = layer_rows(net)[1], matrix_layer(net.steps[1])
    now = low_rank._numbers(net, layer, SeenImages([], 1, "images"))["now"]
    assert now == {"numbers": row.params - 20, "work": row.multiply_adds}


def test_a_sweep_is_read_by_layer_and_scheme(tmp_path):
    row = {"layer": "conv2", "fraction": 0.5, "ranks": [25], "accuracy": 0.9, "loss": 1, "energy": 1, "flops": 1,
           "milliseconds": 1}  # fmt: skip
    rows = [row, {**row, "fraction": 0.1, "ranks": [5], "accuracy": 0.4}, {**row, "layer": "all layers"}]
    lines = [
        json.dumps({"run": "a", "key": json.dumps(["SPATIAL", r["layer"], r["fraction"]]), "value": r})
        for r in rows
    ]
    path = tmp_path / "net_sweep.journal.jsonl"
    path.write_text("\n".join([*lines, '{"run": "incompl']))
    assert low_rank.swept(path) == {"conv2": {"spatial": [(5, 0.4), (25, 0.9)]}}
    path.write_text("hello\n")
    with pytest.raises(DataError, match=r"no rows of 'lowrank sweep'; give the .journal.jsonl"):
        low_rank.swept(path)
    with pytest.raises(DataError, match="No such file"):
        low_rank.swept(tmp_path / "none")


def test_a_sweep_of_another_net_is_told_before_the_work(tmp_path, monkeypatch):
    row = {"layer": "fire9", "fraction": 0.5, "ranks": [2], "accuracy": 0.9, "loss": 1, "energy": 1, "flops": 1,
           "milliseconds": 1}  # fmt: skip
    (tmp_path / "x.jsonl").write_text(
        json.dumps({"key": json.dumps(["SPATIAL", "fire9", 0.5]), "value": row})
    )
    with copy_of(net_of("lenet")) as net, pytest.raises(DataError, match="another net: it has layers fire9"):
        low_rank.check(net, Options(sweep=tmp_path / "x.jsonl"))
