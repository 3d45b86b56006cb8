"""``minicaffe convert``: Caffe's net, weights and mean image become a readable YAML spec and .npz files."""

import json
import logging
import re

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats import binary
from minicaffe.caffe.formats.messages import message_class
from minicaffe.cli.program import main
from minicaffe.data.mean import load_mean
from minicaffe.errors import MinicaffeError, SpecError, WeightError
from minicaffe.files.spec_formats import load_net, open_net
from tests.golden_files import FOLDER, assert_near, parts, recorded

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

GOLDEN = FOLDER / "caffe"
DATA = """name: "trained"
layer {
  name: "digits"
  type: "Data"
  top: "data"
  top: "label"
  include { phase: TRAIN }
  transform_param { mean_file: "somewhere/mean.binaryproto" mirror: true scale: 1 }
  data_param { source: "train_lmdb" backend: LMDB batch_size: 64 }
}
layer {
  name: "digits"
  type: "Data"
  top: "data"
  top: "label"
  include { phase: TEST }
  transform_param { mean_file: "somewhere/mean.binaryproto" mirror: false }
  data_param { source: "test_lmdb" backend: LMDB batch_size: 10 }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 1 }
  convolution_param { num_output: 4 kernel_size: 3 stride: 1 pad: 0 engine: CUDNN bias_term: true
                      weight_filler { type: "gaussian" std: 1e-4 } bias_filler { type: "constant" value: 0 } }
}
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "prelu" type: "PReLU" bottom: "pool" top: "pool"
        prelu_param { filler { type: "constant" value: 0 } } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" param { lr_mult: 1 } param { lr_mult: 2 }
        inner_product_param { num_output: 5 axis: 1 } }
layer { name: "early" type: "InnerProduct" bottom: "conv" top: "early" inner_product_param { num_output: 5 }
        include { phase: TRAIN } }
layer { name: "yes" type: "Silence" bottom: "early" include { phase: TRAIN } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "1e3" }
"""
READABLE = """# Converted from Caffe's train_val.prototxt.
name: trained
layer:
- name: digits
  type: Input
  top: [data, label]
  input_param: {shape: [{dim: [3, 1, 8, 8]}, {dim: 3}]}
- name: conv
  type: Convolution
  convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: gaussian, std: 1e-4}}
- name: pool
  type: Pooling
  pooling_param: {pool: MAX, kernel_size: 2, stride: 2}
- name: prelu
  type: PReLU
  top: pool
  prelu_param: {filler: {type: constant, value: 0}}
- name: ip
  type: InnerProduct
  param: [{lr_mult: 1}, {lr_mult: 2}]
  inner_product_param: {num_output: 5}
- name: early
  type: InnerProduct
  bottom: conv
  inner_product_param: {num_output: 5}
  include: {phase: TRAIN}
- name: 'yes'
  type: Silence
  bottom: early
  include: {phase: TRAIN}
- name: accuracy
  type: Accuracy
  bottom: [ip, label]
  include: {phase: TEST}
- name: loss
  type: SoftmaxWithLoss
  bottom: [ip, label]
  top: 1e3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a training net whose data are not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_val.prototxt").write_text(DATA)
    return tmp_path


def plain(message):
    return (
        message if not hasattr(message, "fields") else {n: plain(getattr(message, n)) for n in message.fields}
    )


@pytest.mark.parametrize("name", ["v0", "v1", "current"])
def test_a_converted_net_gives_the_outputs_of_caffe(name, tmp_path):
    files = mc.convert(
        GOLDEN / f"{name}.prototxt", GOLDEN / f"{name}.caffemodel", tmp_path / "new" / "folder"
    )
    assert (files.spec.name, files.weights.name) == (f"{name}.yaml", f"{name}.npz")
    net = mc.Net(files.spec, weights=files.weights, phase="test")
    case = recorded("caffe/nets")[name]
    for blob, value in parts(case, "in_").items():
        net.blobs[blob].data[...] = net.setting.device.put(value)
    net.run_forward()
    for blob, value in parts(case, "out_").items():
        assert_near(mc.to_host(net.blobs[blob].data), value, 1e-5, f"top {blob}")


@pytest.mark.parametrize("name", ["v0", "v1", "current", "train"])
def test_yaml_says_what_the_prototxt_said(name, tmp_path):
    """The nets are the same, also where the text leaves out what goes without saying."""
    files = mc.convert(GOLDEN / f"{name}.prototxt", out_dir=tmp_path)
    for phase in ("train", "test"):
        one, other = (mc.Net(path, phase=phase) for path in (GOLDEN / f"{name}.prototxt", files.spec))
        for a, b in zip(one.layers, other.layers, strict=True):
            assert (a.name, a.type, a.spec.bottom, a.spec.top) == (b.name, b.type, b.spec.bottom, b.spec.top)
            assert a.param_propagate_down == b.param_propagate_down
        for a, b in zip(one.learnable, other.learnable, strict=True):
            assert (a.key, a.name, a.lr_mult, a.decay_mult) == (b.key, b.name, b.lr_mult, b.decay_mult)
        assert {n: b.shape for n, b in one.blobs.items()} == {n: b.shape for n, b in other.blobs.items()}


def test_the_spec_reads_as_a_person_writes_it(folder, capsys):
    assert main(["convert", "train_val.prototxt", "--input-shape", "data:3,1,8,8", "-o", "."]) == 0
    assert capsys.readouterr().out == "Wrote train_val.yaml\n"
    assert (folder / "train_val.yaml").read_text() == READABLE


def test_data_layers_stay_where_no_shape_is_given_for_them(folder):
    spec = load_net(mc.convert("train_val.prototxt", out_dir="out").spec)
    assert [layer.type for layer in spec.layer[:2]] == ["Data", "Data"]
    assert spec.layer[0].data_param.source == "train_lmdb"
    assert [layer.transform_param.mirror for layer in spec.layer[:2]] == [True, False]
    assert spec.layer[0].transform_param.mean_file == "somewhere/mean.binaryproto"


def test_a_mean_image_is_named_by_the_spec(folder, capsys):
    command = ["convert", "train_val.prototxt", "--mean", str(GOLDEN / "mean.binaryproto"), "-o", "out"]
    assert main(command) == 0
    assert capsys.readouterr().out == "Wrote out/train_val.yaml, out/mean.npz\n"
    np.testing.assert_array_equal(load_mean(folder / "out" / "mean.npz"), np.load(GOLDEN / "mean.npy"))
    assert [x.transform_param.mean_file for x in load_net("out/train_val.yaml").layer[:2]] == ["mean.npz"] * 2


def test_weights_and_mean_image_of_one_name_do_not_meet(tmp_path):
    (tmp_path / "a.caffemodel").write_bytes((GOLDEN / "current.caffemodel").read_bytes())
    (tmp_path / "a.binaryproto").write_bytes((GOLDEN / "mean.binaryproto").read_bytes())
    files = mc.convert(
        GOLDEN / "current.prototxt", tmp_path / "a.caffemodel", tmp_path, mean=tmp_path / "a.binaryproto"
    )
    assert (files.weights.name, files.mean.name) == ("a.npz", "a_mean.npz")
    load_mean(files.mean)
    mc.Net(files.spec, weights=files.weights)


def model_of(folder, names):
    """A .caffemodel with weights of ones for the named layers of the training net."""
    shapes = {"conv": [(4, 1, 3, 3), (4,)], "prelu": [(4,)], "ip": [(5, 36), (5,)], "early": [(5, 144), (5,)]}
    model = message_class("NetParameter")()
    for name in names:
        layer = model.layer.add(name=name)
        for shape in shapes[name]:
            layer.blobs.add(data=np.ones(int(np.prod(shape)))).shape.dim.extend(shape)
    (folder / "net.caffemodel").write_bytes(model.SerializeToString())


def test_weights_of_both_phases_are_converted_from_one_reading(folder, caplog, monkeypatch):
    model_of(folder, ["conv", "prelu", "ip", "early"])
    read, parse = [], binary.parse_message
    monkeypatch.setattr(binary, "parse_message", lambda name, data: read.append(name) or parse(name, data))
    files = mc.convert("train_val.prototxt", "net.caffemodel", "out", input_shapes={"data": (3, 1, 8, 8)})
    with np.load(files.weights) as arrays:
        assert {key.split("/")[0] for key in arrays} == {"conv", "prelu", "ip", "early"}
    assert caplog.text == "" and read == ["NetParameter"]
    for phase in ("train", "test"):
        assert mc.Net(files.spec, phase=phase).copy_from(files.weights).missing == []


def test_weights_of_a_net_without_its_data_are_converted_with_a_warning(folder, caplog):
    model_of(folder, ["conv", "prelu", "ip"])
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        files = mc.convert("train_val.prototxt", "net.caffemodel", "out")
    assert "not checked against the net, whose data are not there" in caplog.text
    with np.load(files.weights) as arrays:
        assert arrays["conv/0"].shape == (4, 1, 3, 3)


def test_weights_of_a_stage_are_converted_and_checked_where_it_is_named(folder, caplog):
    net = """input: "data" input_shape { dim: [1, 1, 8, 8] }
      layer { name: "a" type: "PReLU" bottom: "data" top: "a" exclude { stage: "s" } }
      layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" include { stage: "s" }
        convolution_param { num_output: %d kernel_size: 3 } }"""
    model_of(folder, ["conv"])
    (folder / "staged.prototxt").write_text(net % 4)
    files = mc.convert("staged.prototxt", "net.caffemodel", "out", stages=["s"])
    assert caplog.text == ""
    assert mc.Net(files.spec, files.weights, stages=["s"]).params["conv"][0].data[0, 0, 0, 0] == 1

    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        mc.convert("staged.prototxt", "net.caffemodel", "out")
    assert "they are of other stages (--stage)" in caplog.text
    (folder / "staged.prototxt").write_text(net % 5)
    with pytest.raises(WeightError, match="conv"):
        mc.convert("staged.prototxt", "net.caffemodel", "out", stages=["s"])


def test_files_beside_a_prototxt_are_found_from_where_its_yaml_is(folder):
    nets = folder / "nets"
    (nets / "images").mkdir(parents=True)
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(nets / "images" / "a.png")
    (nets / "list.txt").write_text("a.png 1\n")
    (nets / "net.prototxt").write_text("""layer { name: "d" type: "ImageData" top: "data" top: "label"
      image_data_param { source: "list.txt" root_folder: "images/" batch_size: 1 } }""")
    there = mc.convert("nets/net.prototxt", out_dir="out/deep").spec
    assert "source: ../../nets/list.txt" in there.read_text()
    beside = mc.convert("nets/net.prototxt", out_dir="nets").spec
    assert "source: list.txt" in beside.read_text()
    expected = mc.to_host(mc.Net("nets/net.prototxt").forward(["data"])["data"])
    for spec in (there, beside):
        np.testing.assert_array_equal(mc.to_host(mc.Net(spec).forward(["data"])["data"]), expected)


def test_layers_without_weights_are_said_and_left_out(folder, caplog):
    model_of(folder, ["conv", "prelu"])
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        files = mc.convert("train_val.prototxt", "net.caffemodel", "out", input_shapes={"data": (3, 1, 8, 8)})
    assert "net.caffemodel: has no weights for layer ip" in caplog.text
    with np.load(files.weights) as arrays:
        assert "ip/0" not in arrays


def test_a_caffemodel_alone_is_converted(tmp_path):
    """With the weights in it."""
    files = mc.convert(GOLDEN / "current.caffemodel", out_dir=tmp_path)
    net = mc.Net(files.spec, weights=files.weights)
    its = mc.Net(GOLDEN / "current.prototxt", weights=GOLDEN / "current.caffemodel")
    for name, blobs in its.params.items():
        for mine, blob in zip(net.params[name], blobs, strict=True):
            np.testing.assert_array_equal(mc.to_host(mine.data), mc.to_host(blob.data))
    assert [layer.type for layer in net.layers] == [
        layer.type for layer in mc.Net(GOLDEN / "current.prototxt").layers
    ]
    text = files.spec.read_text()
    assert "convolution_param: {num_output: 4, bias_term: false, weight_filler: {type: msra}" in text
    assert "  batch_norm_param: {eps: 0.001}\n" in text, "the shortest number that is the file's float32"


def test_shapes_for_inputs_that_have_none(tmp_path):
    text = 'input: "data" layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(SpecError, match="input: 1 names but 0 shapes"):
        mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path)
    files = mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path, input_shapes={"data": [2, 3]})
    assert mc.Net(files.spec).blobs["r"].shape == (2, 3)


def test_of_inputs_without_shapes_each_needs_one(tmp_path):
    text = 'input: "a" input: "b" layer { name: "r" type: "Eltwise" bottom: "a" bottom: "b" top: "r" }'
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"net\.prototxt: input: give an input shape for 'b' too$"):
        mc.convert(path, out_dir=tmp_path, input_shapes={"a": [2, 3]})
    files = mc.convert(path, out_dir=tmp_path, input_shapes={"a": [2, 3], "b": [2, 3]})
    assert mc.Net(files.spec).blobs["r"].shape == (2, 3)


@pytest.mark.parametrize("kind", ["Data", "ImageData", "MemoryData", "WindowData", "HDF5Data"])
def test_labels_of_data_layers_of_images_have_a_shape_that_goes_without_saying(tmp_path, kind):
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" }}')
    if kind == "HDF5Data":
        with pytest.raises(
            SpecError, match=r"net\.prototxt:1: layer 'd': give an input shape for 'label' too"
        ):
            mc.convert(path, out_dir=tmp_path, input_shapes={"data": [5, 3, 4, 4]})
        return
    net = mc.Net(mc.convert(path, out_dir=tmp_path, input_shapes={"data": [5, 3, 4, 4]}).spec)
    assert (net.blobs["data"].shape, net.blobs["label"].shape) == ((5, 3, 4, 4), (5,))


def test_weights_in_hdf5_are_converted_to_a_file_of_their_name(tmp_path):
    pytest.importorskip("h5py")
    files = mc.convert(GOLDEN / "current.prototxt", GOLDEN / "current.caffemodel.h5", tmp_path)
    assert files.weights.name == "current.npz"
    mc.Net(files.spec, weights=files.weights)


@pytest.mark.parametrize("name", ["a\nlayer: []", "a\x07b", "a\u2028b", "é # b"])
def test_the_comment_holds_whatever_name_the_file_has(tmp_path, name):
    path = tmp_path / f"{name}.prototxt"
    path.write_bytes((GOLDEN / "current.prototxt").read_bytes())
    spec = mc.convert(path, out_dir=tmp_path / "out").spec
    assert spec.name == f"{name}.yaml"
    first, second = spec.read_text().split("\n")[:2]
    assert first.startswith("# Converted from Caffe's ") and first.isprintable() and second == "name: current"


def test_a_text_that_would_not_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(mc.caffe.exchange.convert, "yaml_text", lambda *_: "layer: [")
    with pytest.raises(SpecError, match=r"current\.yaml:1: not valid YAML"):
        mc.convert(GOLDEN / "current.prototxt", GOLDEN / "current.caffemodel", tmp_path / "out")
    assert not (tmp_path / "out").exists()


KEPT = """
input: "x" input_shape { dim: [2, 3, 4, 4] }
layer { name: "n" type: "Normalize" bottom: "x" top: "n" norm_param { scale_filler { } } }
layer { name: "p" type: "PReLU" bottom: "n" top: "p" prelu_param { filler { } } propagate_down: true }
layer { name: "c" type: "Convolution" bottom: "p" top: "c" convolution_param { num_output: 3 kernel_size: 1 }
        low_rank_param { rank: 2 target: WEIGHTS scheme: CHANNEL } }
layer { name: "gone" type: "ReLU" bottom: "c" top: "gone" exclude { } }
layer { name: "l" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "x" top: "l" loss_param { normalize: true } }
layer { name: "k" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "x" top: "k"
        loss_param { normalization: VALID } include { } }
layer { name: "m" type: "SigmoidCrossEntropyLoss" bottom: "c" bottom: "x" top: "m" loss_weight: 1 }
layer { name: "y" type: "Python" bottom: "m" top: "y" python_param { module: "m" layer: "L" } }
"""


def test_what_counts_by_being_given_is_kept(tmp_path):
    """A filler without fields is one of zeros, not the layer's own; a Python layer may have no bottom at all."""
    (tmp_path / "net.prototxt").write_text(KEPT)
    spec = load_net(mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path).spec)
    layers = {layer.name: layer for layer in spec.layer}
    assert layers["n"].norm_param.has("scale_filler") and layers["p"].prelu_param.has("filler")
    assert layers["p"].propagate_down == [True] and layers["c"].low_rank_param.rank == 2
    assert len(layers["gone"].exclude) == 1 and layers["m"].loss_weight == [1]
    assert layers["l"].loss_param.has("normalize") and not layers["m"].loss_param.has("normalize")
    assert layers["k"].loss_param.has("normalization") and layers["y"].bottom == ["m"]


def test_long_messages_take_more_lines_than_one(tmp_path):
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 30, 30] } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 1000000
          kernel_h: 1 kernel_w: 2 stride_h: 3 stride_w: 4 pad_h: 1 pad_w: 1
          weight_filler { type: "gaussian" std: 0.123456789 mean: 0.987654321 } } }"""
    (tmp_path / "net.prototxt").write_text(text)
    lines = mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path).spec.read_text().splitlines()
    assert "    weight_filler: {type: gaussian, std: 0.123456789, mean: 0.987654321}" in lines
    assert max(map(len, lines)) <= 110
    rules = [f'include {{ phase: TEST stage: "{name}" }}' for name in ("a" * 30, "b" * 30, "c" * 30)]
    (tmp_path / "net.prototxt").write_text(text.replace('top: "c"', 'top: "c" ' + " ".join(rules)))
    spec = mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path).spec
    assert f"  include:\n  - {{phase: TEST, stage: {'a' * 30}}}\n  - " in spec.read_text()
    assert [rule.stage[0][0] for rule in load_net(spec).layer[1].include] == ["a", "b", "c"]


BROKEN = [
    (["none.prototxt", "-o", "out"], r"none.prototxt: cannot be read"),
    (["train_val.prototxt", "none.caffemodel", "-o", "out"], r"none.caffemodel: cannot be read"),
    (
        ["train_val.prototxt", "train_val.prototxt", "-o", "out"],
        r"train_val.prototxt: is a text; expected weights",
    ),
    (["train_val.prototxt", "--mean", "none.binaryproto", "-o", "out"], r"none.binaryproto"),
    (["train_val.yaml", "-o", "out"], r"train_val.yaml: expected a .prototxt or .caffemodel file"),
    (
        ["solver.prototxt", "-o", "out"],
        r"solver.prototxt: is a solver spec; .*'minicaffe train solver.prototxt'",
    ),
    (["train_val.prototxt", "-o", "train_val.prototxt/x"], r"train_val.prototxt/x: cannot be made"),
    (
        ["train_val.prototxt", "--input-shape", "dat:1,2", "-o", "out"],
        r"'dat': no data .*did you mean 'data'",
    ),
    (
        ["train_val.prototxt", "--input-shape", "conv:1,2", "-o", "out"],
        r"'conv': no data .*; they are data, label",
    ),
    (["train_val.prototxt", "--input-shape", "label:1", "-o", "out"], r"give an input shape for 'data' too"),
    (
        ["train_val.prototxt", "--input-shape", "data:1,2", "--input-shape", "data:1,2", "-o", "out"],
        r"given twice",
    ),
    (["train_val.prototxt", "other.caffemodel", "-o", "out"], r"another net's weights"),
    (
        ["train_val.prototxt", "other.caffemodel", "--input-shape", "data:3,1,8,8", "-o", "out"],
        r"another net's",
    ),
    (
        ["train_val.prototxt", "net.caffemodel", "--input-shape", "data:3,1,9,9", "-o", "out"],
        r"net.caffemodel: 'ip/0' has shape \(5, 36\), the net expects",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BROKEN)
def test_what_cannot_be_converted_gives_one_line_and_no_file(folder, capsys, arguments, message):
    (folder / "solver.prototxt").write_text("base_lr: 1 lr_policy: 'fixed' net: 'n'")
    (folder / "other.caffemodel").write_bytes((GOLDEN / "v0.caffemodel").read_bytes())
    (folder / "train_val.yaml").write_text("layer:\n- {name: x, type: ReLU}\n")
    model_of(folder, ["conv", "prelu", "ip"])
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "shape", ["data", "data:", "data:1,x", "data:1,-2", ":1,2", "data:1,,2", "data:9999999999"]
)
def test_a_wrong_shape_on_the_command_line_gives_one_line(shape, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", "net.prototxt", "--input-shape", shape, "-o", "out"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "write NAME:N,C,H,W" in error
    assert error.count("\n") == 1


def test_names_that_yaml_takes_for_something_else_stay_names(tmp_path):
    names = [
        "1",
        "true",
        "null",
        "~",
        "a: b",
        "#x",
        "- y",
        "é",
        "x\ny",
        " ",
        "{z}",
        "'q'",
        '"w"',
        "0x1F",
        "1e3",
        "@",
        "=",
        "<<",
        "a\tb",
        "a long name of some words that would not be broken over lines",
    ]
    quoted = [json.dumps(name) for name in names]
    layers = [
        f'layer {{ name: {q} type: "Input" top: {q} input_param {{ shape {{ dim: 1 }} }} }}' for q in quoted
    ]
    (tmp_path / "net.prototxt").write_text("\n".join(layers))
    files = mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path)
    assert [layer.name for layer in load_net(files.spec).layer] == names
    assert list(mc.Net(files.spec).blobs) == names
    lines = files.spec.read_text().splitlines()
    assert (
        len([line for line in lines if re.match(r"- name: |  type: Input$|  input_param: ", line)])
        == len(lines) - 2
    )


def test_nothing_is_written_where_the_last_file_cannot_be(tmp_path, monkeypatch):
    """A spec is written last: where it is, its weights are."""
    (tmp_path / "current.yaml").mkdir()
    with pytest.raises(MinicaffeError, match=r"current\.yaml"):
        mc.convert(GOLDEN / "current.prototxt", GOLDEN / "current.caffemodel", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_the_net_of_a_prototxt_has_all_its_values_in_yaml(folder):
    one, other = (
        open_net("train_val.prototxt"),
        load_net(mc.convert("train_val.prototxt", out_dir="out").spec),
    )
    for a, b in zip(one.layer, other.layer, strict=True):
        for name in a.fields:
            if name.endswith("_param") and name != "convolution_param":
                assert plain(getattr(a, name)) == plain(getattr(b, name)), (a.name, name)
