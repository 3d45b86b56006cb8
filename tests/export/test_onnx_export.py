"""ONNX models of nets compute what the nets do, in onnxruntime."""

import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.errors import SpecError
from minicaffe.onnx.graph import writers
from minicaffe.onnx.model import export_onnx
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net
from tests.export.export_cases import (
    CASES,
    CONVOLUTIONS,
    INPUT,
    inputs_of,
    low_rank_text,
    make_net,
    outputs_of,
)
from tests.layer_cases import LAYERS, one_layer
from tests.marks import on_the_cpu_alone

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minicaffe[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

FREE_BATCH = {name for name in LAYERS if "images" not in name}
FREE_BATCH |= {"Reshape, images inferred", "Tile, images once"}
DETECTORS = {  # in test_onnx_detection.py and test_onnx_yolo.py
    *("PriorBox", "DetectionOutput", "ROIPooling", "PSROIPooling", "Proposal", "Python"),
    *("YoloDetectionOutput", "Yolov3DetectionOutput"),
}
INPUTS = {  # where the layer wants other numbers than those around 0
    "ArgMax": lambda x: np.round(2 * x),  # equal values
    "Embed": lambda x: np.abs(np.round(x)),
    "ReLU6": lambda x: 9 * x,
    "Threshold": lambda x: np.round(4 * x) / 4,  # the threshold itself is among them
}


def model_of(net, folder):
    path = folder / "net.onnx"
    export_onnx(net, path)
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def assert_same(session, net, inputs):
    expected = outputs_of(net, inputs)
    assert [output.name for output in session.get_outputs()] == list(expected)
    for found, wanted in zip(session.run(None, inputs), expected.values(), strict=True):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-4 * max(np.abs(wanted).max(), 1e-2)


def some_inputs(net, name=""):
    change = INPUTS.get(name.partition(",")[0], lambda x: x)
    return {k: change(v) for k, v in inputs_of(net).items()}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_the_same(name, tmp_path):
    net = one_layer(name)
    session = model_of(net, tmp_path)
    assert_same(session, net, some_inputs(net, name))
    is_free = [value.shape[0] == "N" for value in session.get_inputs()]
    assert is_free == [name in FREE_BATCH] * len(is_free)


@pytest.mark.parametrize("name", sorted(FREE_BATCH))
def test_the_number_of_images_is_free(name, tmp_path):
    net = one_layer(name)
    session = model_of(net, tmp_path)
    for blob in net.inputs:
        net.blobs[blob].reshape(5, *net.blobs[blob].shape[1:])
    net.reshape()
    assert_same(session, net, some_inputs(net, name))


def test_every_type_that_can_be_exported_is_tried_here():
    tried = {text.partition("type: ")[2].partition(",")[0] for text, _ in LAYERS.values()}
    assert tried | {"Split", "Silence"} | DETECTORS == set(writers)


NETS = on_the_cpu_alone(
    CASES, ["cifar10_vgg"], "a large net; lenet and cifar10_quick are exported on the double"
)


@pytest.mark.parametrize("name", NETS)
def test_a_net_computes_the_same(name, tmp_path):
    net = make_net(name)
    assert_same(model_of(net, tmp_path), net, inputs_of(net))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_low_rank_is_a_pair_of_layers_where_that_costs_less(name, tmp_path):
    export_onnx(make_net(name), tmp_path / "net.onnx")
    types = [node.op_type for node in onnx.load(str(tmp_path / "net.onnx")).graph.node]
    assert types.count("Conv") == (1 if "nearly full" in name else 2)


@pytest.mark.parametrize("name", ["det1", "det2"])
def test_mtcnn_computes_the_same(name, shared_data, tmp_path):
    files = [shared_data / "mtcnn" / f"{name}.{ending}" for ending in ("prototxt", "caffemodel")]
    net = mc.Net(*files, phase="test")
    assert_same(model_of(net, tmp_path), net, inputs_of(net))


SEVERAL = """name: several
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: shift, type: Power, power_param: {shift: 1}, bottom: x, top: x}
- {name: relu, type: ReLU, bottom: x, top: x}
- {name: split, type: Split, bottom: x, top: [a, b]}
- {name: none, type: Silence, bottom: a}
- {name: y, type: Eltwise, bottom: [b, x]}
"""
PYRAMID = """name: n
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 8, 8]}}}
- {name: bins, type: SPP, spp_param: {pyramid_height: 2}}
"""


def test_layers_in_place_split_and_silence(tmp_path):
    net = mc.Net(parse_net(SEVERAL), phase="test")
    assert_same(model_of(net, tmp_path), net, inputs_of(net))


SEGNET = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 7, 10]}}}
- {name: relu, type: ReLU, bottom: x, top: x}  # so that some maxima are equal
- {name: pool1, type: Pooling, bottom: x, top: [pool1, mask1], pooling_param: {kernel_size: 2, stride: 2}}
- {name: pool2, type: Pooling, bottom: pool1, top: [pool2, mask2], pooling_param: {kernel_size: 2, stride: 2}}
- {name: bn, type: BN, bottom: pool2,
   bn_param: {scale_filler: {type: uniform}, shift_filler: {type: uniform}}}
- {name: up2, type: Upsample, bottom: [bn, mask2], upsample_param: {SIZE2}}
- {name: up1, type: Upsample, bottom: [up2, mask1], upsample_param: {SIZE1}}
"""


def segnet(second, first):
    text = SEGNET.replace("SIZE2", second).replace("SIZE1", first)
    return mc.Net(parse_net(text), phase="test", seed=1)


@pytest.mark.parametrize(
    "sizes", [("upsample_h: 4, upsample_w: 5", "upsample_h: 7, upsample_w: 10"),
              ("scale: 2, pad_out_w: true", "scale: 2, pad_out_h: true")],
)  # fmt: skip
def test_pixels_go_back_to_where_they_were_the_largest(sizes, tmp_path):
    net = segnet(*sizes)
    session = model_of(net, tmp_path)
    assert session.get_inputs()[0].shape[0] == "N"
    for images in (2, 3):
        net.blobs["x"].reshape(images, 3, 7, 10)
        net.reshape()
        assert_same(session, net, inputs_of(net))


BOTH = """layer:
- {name: x, type: Input, top: [x, unused, taken_output, taken, taken_output_],
   input_param: {shape: [{dim: [2, 3]}, {dim: [2, 1]}, {dim: [2, 3]}, {dim: [2, 4]}, {dim: [2, 5]}]}}
- {name: y, type: Power, bottom: taken_output, power_param: {shift: 2}}
- {name: relu, type: ReLU, bottom: x, top: x}
"""


def test_an_output_that_is_an_input_has_a_name_of_its_own(tmp_path):
    net = mc.Net(parse_net(BOTH), phase="test")
    session, inputs = model_of(net, tmp_path), inputs_of(net)
    names = {"x": "x_output", "unused": "unused_output", "taken": "taken_output__", "y": "y"}
    names["taken_output_"] = "taken_output__output"
    found = dict(zip([value.name for value in session.get_outputs()], session.run(None, inputs), strict=True))
    expected = outputs_of(net, inputs)
    assert {names[name] for name in expected} == set(found)
    for name, values in expected.items():
        assert np.array_equal(found[names[name]], values)


def test_a_blob_with_the_name_of_a_node_is_another_one(tmp_path):
    text = BOTH.replace("unused,", "y/constant_2,").replace("[2, 1]", "[2, 3]")
    net = mc.Net(parse_net(text + "- {name: z, type: Eltwise, bottom: [y, y/constant_2]}\n"), phase="test")
    session, inputs = model_of(net, tmp_path), inputs_of(net)
    assert np.array_equal(session.run(["z"], inputs)[0], outputs_of(net, inputs)["z"])


NEEDS_BATCH = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: thrice, type: Tile, tile_param: {axis: 0, tiles: 3}}
"""
AFTER = {
    "Slice": "- {name: y, type: Slice, top: [y, z], slice_param: {slice_point: 1}}",
    "Concat": "- {name: y, type: Concat, bottom: [thrice, thrice]}",
    "Crop": "- {name: y, type: Crop, bottom: [thrice, thrice], crop_param: {axis: 1}}",
    "InnerProduct": "- {name: y, type: InnerProduct, inner_product_param: {num_output: 2}}",
    "Permute": "- {name: y, type: Permute, permute_param: {order: [0, 1]}}",
    "Reshape": "- {name: y, type: Reshape, reshape_param: {shape: {dim: [0, -1]}}}",
    "Reshape of one number": "- {name: sum, type: Reduction}\n"
    "- {name: y, type: Reshape, reshape_param: {shape: {dim: 1}}}",
    "Scale": "- {name: y, type: Scale}",
    "Tile": "- {name: y, type: Tile, tile_param: {tiles: 2}}",
}


@pytest.mark.parametrize("after", AFTER)
def test_a_batch_that_one_layer_needs_is_not_free_after_another(after, tmp_path):
    net = mc.Net(parse_net(NEEDS_BATCH + AFTER[after]), phase="test")
    session = model_of(net, tmp_path)
    assert_same(session, net, inputs_of(net))
    assert [value.shape for value in session.get_inputs()] == [[2, 3]]


OTHER_AXIS = "convolution_param: {axis: 2, num_output: 3, kernel_size: 2}"
REFUSED = [
    (low_rank_text("held, data"), "computes a basis from each batch"),
    (PYRAMID, "SPP cannot be exported"),
    (
        "name: n\nlayer:\n- {name: d, type: DummyData, dummy_data_param: {shape: {dim: [2, 3]}}}\n",
        "DummyData brings data",
    ),
    (
        f"{INPUT.format(name='n', shape='[2, 3]')}- {{name: s, type: Silence}}\n",
        "no blob comes out of this net",
    ),
    (
        f"{INPUT.format(name='n', shape='[2, 3]')}- {{name: d, type: Dropout, phase: TRAIN}}\n",
        r"layer 'd': phase: TRAIN: .* leave it out",
    ),
    *(
        (layer_net(f"type: {layer}", [(2, 4, 7, 6)]), message)
        for layer, message in (
            (
                f"Convolution, {OTHER_AXIS}",
                "layer 'L': convolution_param: axis 2: ONNX has channels at axis 1",
            ),
            (f"Deconvolution, {OTHER_AXIS}", "axis 2: ONNX has channels at axis 1"),
            ("BatchNorm, batch_norm_param: {use_global_stats: false}", "use_global_stats: false cannot be"),
            ("Pooling, pooling_param: {pool: STOCHASTIC, kernel_size: 2}", "STOCHASTIC cannot be exported"),
            (
                "Pooling, top: [a, b], pooling_param: {kernel_size: 1, stride: 4}",
                "a window that sees nothing has no maximum",
            ),
        )
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_cannot_be_exported_is_one_line_and_no_file(text, message, tmp_path):
    with pytest.raises(SpecError, match=message) as raised:
        export_onnx(mc.Net(parse_net(text), phase="test"), tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_more_than_protobuf_holds_is_refused(tmp_path, monkeypatch):
    net = make_net("transposed")
    monkeypatch.setattr("minicaffe.onnx.model.MAX_BYTES", 4 * (6 * 4 * 9 * 8 + 6) + 16)
    export_onnx(net, tmp_path / "net.onnx")
    monkeypatch.setattr("minicaffe.onnx.model.MAX_BYTES", 4 * (6 * 4 * 9 * 8 + 6) + 15)
    with pytest.raises(mc.WriteError, match=r"more.onnx: more than 2 GiB, .* lower rank"):
        export_onnx(net, tmp_path / "more.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_no_net_and_no_place_for_the_file_are_one_line(tmp_path):
    with pytest.raises(mc.MinicaffeError, match="export_onnx"):
        export_onnx("net.yaml", tmp_path / "net.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(mc.WriteError, match=r"net\.onnx"):
        export_onnx(mc.Net(parse_net(SEVERAL), phase="test"), tmp_path / "file" / "net.onnx")


def test_a_training_net_is_refused(tmp_path):
    with pytest.raises(SpecError, match="phase 'test'"):
        export_onnx(mc.Net(parse_net(SEVERAL), phase="train"), tmp_path / "net.onnx")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = ["export", "prototxt/lenet/deploy.yaml", "models/lenet.npz", "-o", str(tmp_path)]
    assert main([*arguments, "--format", "onnx"]) == 2
    assert (
        capsys.readouterr().err == "error: ONNX models need the onnx package; pip install 'minicaffe[onnx]'\n"
    )


def test_the_command_writes_a_model(tmp_path, capsys):
    arguments = ["export", "prototxt/lenet/deploy.yaml", "models/lenet.npz", "-o", str(tmp_path)]
    assert main([*arguments, "--format", "onnx"]) == 0
    assert capsys.readouterr().out.endswith(f"\nWrote {tmp_path / 'deploy.onnx'}\n")
    onnx.checker.check_model(str(tmp_path / "deploy.onnx"), full_check=True)
