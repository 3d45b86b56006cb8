"""Weights that lack layers of the net: who warns, who refuses, and what does not count as missing."""

import logging

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.spec.net import parse_net

NET = """layer:
- name: data
  type: Input
  input_param: {shape: {dim: [1, 3, 6, 6]}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 4, kernel_size: 3, bias_term: false, weight_filler: {type: xavier}}
- name: norm
  type: BatchNorm
- name: scale
  type: Scale
- name: ip
  type: InnerProduct
  inner_product_param: {num_output: 2, weight_filler: {type: xavier}}
- name: prob
  type: Softmax
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """net.yaml, a picture, and lack.npz, which has the weights of all layers but norm."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    net = mc.Net("net.yaml")
    del net.params["norm"]
    net.save("lack.npz")
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save("a.png")
    return tmp_path


COMMANDS = {
    "export": ["export", "net.yaml", "lack.npz", "-o", "out"],
    "export onnx": ["export", "net.yaml", "lack.npz", "-o", "out", "--format", "onnx"],
    "fold": ["fold", "net.yaml", "--weights", "lack.npz", "-o", "out.yaml"],
    "classify": ["classify", "net.yaml", "--weights", "lack.npz", "a.png"],
    "test": ["test", "test.yaml", "--weights", "lack.npz", "--iterations", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_weights_that_lack_a_layer_unless_it_is_allowed(folder, capsys, command):
    pytest.importorskip("google.protobuf")
    pytest.importorskip("onnx") if "onnx" in command else None
    data = "type: DummyData\n  dummy_data_param: {shape: {dim: [1, 3, 6, 6]}}"
    (folder / "test.yaml").write_text(
        NET.replace("type: Input\n  input_param: {shape: {dim: [1, 3, 6, 6]}}", data)
    )
    before = sorted(folder.iterdir())
    assert main(COMMANDS[command]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: lack.npz: has no weights for layer norm; give weights of this net, or go on with --allow-missing\n"
    )
    assert sorted(folder.iterdir()) == before
    assert main([*COMMANDS[command], "--allow-missing"]) == 0
    assert "lack.npz: has no weights for layer norm" in capsys.readouterr().out


def test_time_only_says_it(folder, capsys):
    assert main(["time", "net.yaml", "--weights", "lack.npz", "--iterations", "1"]) == 0
    assert "lack.npz: has no weights for layer norm" in capsys.readouterr().out


def test_a_net_made_of_weights_that_lack_layers_warns_and_copy_from_reports(folder, caplog):
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        net = mc.Net("net.yaml", weights="lack.npz")
    assert "lack.npz: has no weights for layer norm" in caplog.text
    caplog.clear()
    assert net.copy_from("lack.npz").missing == ["norm"]
    assert caplog.text == ""  # who copies weights gets the report


def missing(text, lacking, tmp_path):
    """What a net says is missing of weights that it saved, without some layers."""
    net = mc.Net(parse_net(text))
    for name in lacking:
        del net.params[name]
    net.save(tmp_path / "w.npz")
    return mc.Net(parse_net(text)).copy_from(tmp_path / "w.npz").missing


SHARED = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- name: a
  type: InnerProduct
  param: [{name: w}, {name: b}]
  inner_product_param: {num_output: 3, weight_filler: {type: xavier}}
- {name: b, type: InnerProduct, param: [{name: w}, {name: OTHER}], inner_product_param: {num_output: 3}}
"""


@pytest.mark.parametrize("lacking", ["a", "b"])
def test_a_layer_that_shares_all_its_numbers_with_one_in_the_file_lacks_nothing(tmp_path, lacking):
    assert missing(SHARED.replace("OTHER", "b"), [lacking], tmp_path) == []


@pytest.mark.parametrize("lacking", ["a", "b"])
def test_a_layer_that_shares_some_of_them_lacks_the_others(tmp_path, lacking):
    assert missing(SHARED.replace("OTHER", "own"), [lacking], tmp_path) == [lacking]


UPSAMPLED = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 2, 4, 4]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 2, kernel_size: 1}}
- name: up
  type: Deconvolution
  param: {lr_mult: 0}
  convolution_param: {num_output: 2, group: 2, kernel_size: 4, stride: 2, bias_term: false, weight_filler: FILLER}
"""


@pytest.mark.parametrize(
    ("filler", "expected"),
    [
        ("{type: bilinear}", []),
        ("{type: constant, value: 0.5}", []),
        ("{type: xavier}", ["up"]),
        ("{}", ["up"]),
    ],
)
def test_numbers_that_the_spec_gives_for_good_are_not_missing(tmp_path, filler, expected):
    assert missing(UPSAMPLED.replace("FILLER", filler), ["up"], tmp_path) == expected
    trained = UPSAMPLED.replace("FILLER", filler).replace("lr_mult: 0", "lr_mult: 1")
    assert missing(trained, ["up"], tmp_path) == ["up"]


@pytest.mark.parametrize("low_rank", ["{rank: 1}", "{rank: 1, factored: true}", "{target: DATA, rank: 2}"])
def test_dense_weights_lack_nothing_of_a_layer_of_low_rank(tmp_path, low_rank):
    mc.Net(parse_net(NET)).save(tmp_path / "dense.npz")
    text = NET.replace("- name: conv\n", f"- name: conv\n  low_rank_param: {low_rank}\n")
    assert mc.Net(parse_net(text)).copy_from(tmp_path / "dense.npz").missing == []
