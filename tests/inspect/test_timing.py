"""``minicaffe time``: the columns of its table, another batch, and the same net computed another way."""

import re
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.timing import compare_nets, time_net
from minicaffe.ops.engine import engine_of_run
from minicaffe.spec.net import parse_net

NET = """
name: small
layer:
- {name: data, type: Input, top: [data, label], input_param: {shape: [{dim: [4, 3, 16, 16]}, {dim: [4]}]}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 8, kernel_size: 3, pad: 1}}
- {name: relu, type: ReLU, top: conv}
- name: thin
  type: Convolution
  bottom: conv
  convolution_param: {num_output: 8, kernel_size: 3, pad: 1, weight_filler: {type: xavier}}
  low_rank_param: {rank: 2}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(NET)
    return "net.yaml"


def columns(text):
    """The head of each column of the table in ``text``, with its cell of each layer."""
    head, bars, *lines = text[text.index("layer ") :].splitlines()
    spans = [match.span() for match in re.finditer("-+", bars)]
    last = next(i for i, line in enumerate(lines) if line.startswith("all layers"))
    rows = [[line[start:end].strip() for start, end in spans] for line in lines[: last + 1]]
    return [
        (head[start:end].strip(), {row[0]: row[i] for row in rows}) for i, (start, end) in enumerate(spans)
    ]


def test_a_line_for_each_layer_and_the_columns_of_caffe_first():
    net = mc.Net(parse_net(NET), phase="train")
    table = time_net(net, 1)
    found = columns(table)
    assert [name for name, _ in found][:4] == ["layer", "type", "forward ms", "backward ms"]
    assert list(found[0][1]) == [layer.name for layer in net.layers] + ["all layers"]
    assert re.search(r"^forward and backward: [\d.]+ ms \(medians of 1 iterations\)$", table, re.M)


def test_speeds_and_memory_follow_from_the_shapes():
    net = mc.Net(parse_net(NET), phase="train")
    by_head = {}
    for name, column in columns(time_net(net, 1)):
        by_head.setdefault(name, column)
    conv = 4 * 8 * 27 * 256  # multiply-adds
    assert float(by_head["GFLOP/s"]["conv"]) == pytest.approx(
        2e-6 * conv / float(by_head["forward ms"]["conv"]), rel=0.05, abs=0.06
    )
    assert by_head["GFLOP/s"]["relu"] == "" and by_head["backward"]["relu"] == ""
    numbers = 4 * 3 * 256 + 8 * 27 + 8 + 4 * 8 * 256
    assert by_head["MiB"]["conv"] == f"{4 * numbers / 2**20:.2f}"
    assert by_head["MiB"]["relu"] == f"{4 * 2 * 4 * 8 * 256 / 2**20:.2f}", "read and written in place"
    shares = [float(share.strip("<%")) for name, share in by_head["share"].items() if name != "all layers"]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_the_batch_is_that_of_the_inputs_and_of_data_layers(spec, capsys):
    assert main(["time", spec, "--batch", "2", "--iterations", "1"]) == 0
    small = dict(columns(capsys.readouterr().out))["MiB"]
    assert small["relu"] == f"{4 * 2 * 2 * 8 * 256 / 2**20:.2f}"
    data = "- {name: data, type: MemoryData, memory_data_param: {batch_size: 8, channels: 1, height: 2, width: 2}}"
    net = parse_net(f"layer:\n{data}\n")
    net.set_batch(3)
    assert net.layer[0].memory_data_param.batch_size == 3


def test_a_net_without_inputs_has_no_batch_to_change():
    net = parse_net("layer:\n- {name: x, type: DummyData, dummy_data_param: {shape: {dim: [2, 3]}}}\n")
    with pytest.raises(mc.SpecError, match="no input and no data layer with a batch_size"):
        net.set_batch(3)


def test_old_input_fields_have_a_batch_too():
    text = (
        "input: [data]\ninput_dim: [1, 3, 8, 8]\nlayer:\n- {name: relu, type: ReLU, bottom: data, top: y}\n"
    )
    net = parse_net(text)
    net.set_batch(5)
    assert mc.Net(net).blobs["y"].shape == (5, 3, 8, 8)


@pytest.mark.parametrize("name", ["engine", "lowrank"])
def test_beside_itself_computed_the_other_way(spec, capsys, name):
    before = engine_of_run()
    assert main(["time", spec, "--against", name, "--iterations", "1"]) == 0
    out = capsys.readouterr().out
    other = {"engine": "caffe", "lowrank": "dense"}[name]
    assert [head for head, _ in columns(out)] == [
        "layer", "type", "forward ms", other, "ratio", "backward ms", other, "ratio",
    ]  # fmt: skip
    assert re.search(rf"^{other}: [\d.]+ ms; ratio [\d.]+$", out, re.M)
    assert engine_of_run() == before


def test_the_other_engine_of_the_direct_sum_is_the_default(spec, capsys, monkeypatch):
    monkeypatch.setattr("minicaffe.ops.engine._chosen", "CAFFE")
    assert main(["time", spec, "--against", "engine", "--iterations", "1"]) == 0
    assert re.search(r"^default: ", capsys.readouterr().out, re.M)


def test_a_net_without_low_rank_cannot_be_compared_with_itself_dense(spec, capsys):
    Path(spec).write_text(NET.replace("  low_rank_param: {rank: 2}\n", ""))
    assert main(["time", spec, "--against", "lowrank"]) != 0
    assert "no layer has low_rank_param" in capsys.readouterr().err


def test_of_two_nets_each_layer_is_beside_its_own_name():
    net, other = (mc.Net(parse_net(NET), phase="train") for _ in range(2))
    rows = columns(compare_nets(net, other, "other", 2))
    assert list(rows[0][1]) == [layer.name for layer in net.layers] + ["all layers"]


def test_a_detector_without_data_is_timed_with_boxes_and_not_with_zeros():
    net = mc.Net.from_text("""
layer:
- {name: loc, type: Input, input_param: {shape: {dim: [2, 8]}}}
- {name: conf, type: Input, input_param: {shape: {dim: [2, 6]}}}
- {name: priors, type: Input, input_param: {shape: {dim: [1, 2, 8]}}}
- {name: label, type: Input, input_param: {shape: {dim: [1, 1, 3, 8]}}}
- {name: loss, type: MultiBoxLoss, bottom: [loc, conf, priors, label], multibox_loss_param: {num_classes: 3}}
""")
    net.blobs["priors"].data[...] = [[[0.1, 0.1, 0.5, 0.5, 0.3, 0.2, 0.9, 0.8], [0.1, 0.1, 0.2, 0.2] * 2]]
    assert "MultiBoxLoss" in time_net(net, 1)
    assert net.blobs["label"].data[0, 0, :, 0].tolist() == [0, 0, 1]
    label = net.blobs["label"].data.copy()
    label[..., 1] = 3 - label[..., 1]
    net.blobs["label"].data[...] = label
    time_net(net, 1)
    np.testing.assert_array_equal(net.blobs["label"].data, label)  # what is there stays
