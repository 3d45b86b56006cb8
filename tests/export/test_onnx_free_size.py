"""ONNX models whose images may be of any size compute what the net does at each, in onnxruntime."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.onnx.model import export_onnx
from minicaffe.spec.net import parse_net
from tests.export.export_cases import FILLERS, INPUT

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minicaffe[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SIZES = [(12, 12), (13, 18), (31, 25), (96, 47)]
CONV = f"num_output: 4, kernel_size: 3, {FILLERS}"
P_NET = f"""- {{name: conv1, type: Convolution, convolution_param: {{{CONV}}}}}
- {{name: prelu, type: PReLU, top: conv1}}
- {{name: pool1, type: Pooling, pooling_param: {{kernel_size: 2, stride: 2}}}}
- {{name: conv2, type: Convolution, convolution_param: {{{CONV}}}, low_rank_param: {{rank: 2}}}}
- {{name: boxes, type: Convolution, bottom: conv2, convolution_param: {{{CONV}}}}}
- {{name: scores, type: Convolution, bottom: conv2, convolution_param: {{{CONV}}}}}
- {{name: prob, type: Softmax}}
"""
NETS = {
    "a detector of faces": P_NET,
    "pooling up": "- {name: y, type: Pooling, pooling_param: {kernel_size: 3, stride: 2, pad: 1}}\n",
    "pooling down": "- {name: y, type: Pooling, pooling_param: {kernel_size: 3, stride: 2, ceil_mode: false}}\n",
    "mean, up": "- {name: y, type: Pooling, pooling_param: {pool: AVE, kernel_size: 3, stride: 2}}\n",
    "mean, up, pad": (
        "- {name: y, type: Pooling,\n"
        "   pooling_param: {pool: AVE, kernel_h: 4, kernel_w: 5, stride: 3, pad_h: 1, pad_w: 2}}\n"
    ),
    "mean, down, pad": (
        "- {name: y, type: Pooling,\n"
        "   pooling_param: {pool: AVE, kernel_size: 3, stride: 2, pad: 2, ceil_mode: false}}\n"
    ),
    "mean of all, classes": (
        "- {name: m, type: Pooling, pooling_param: {pool: AVE, global_pooling: true}}\n"
        f"- {{name: y, type: InnerProduct, inner_product_param: {{num_output: 5, {FILLERS}}}}}\n"
    ),
    "most of all": "- {name: y, type: Pooling, pooling_param: {global_pooling: true}}\n",
    "flat": "- {name: y, type: Flatten}\n",
    "rows": "- {name: y, type: Reshape, reshape_param: {shape: {dim: [0, 2, -1]}}}\n",
    "channels": "- {name: y, type: Reshape, reshape_param: {axis: 1, num_axes: 1, shape: {dim: [2, 3]}}}\n",
    "shuffled": "- {name: y, type: ShuffleChannel, shuffle_channel_param: {group: 3}}\n",
    "sliced": "- {name: y, type: Slice, top: [a, b], slice_param: {slice_point: 2}}\n",
    "detections": (
        "- {name: p, type: Permute, permute_param: {order: [0, 2, 3, 1]}}\n- {name: y, type: Flatten}\n"
    ),
    "up and cut": (
        f"- {{name: c, type: Convolution, convolution_param: {{{CONV}, pad: 5, stride: 2}}}}\n"
        f"- {{name: u, type: Deconvolution, convolution_param: {{{CONV}, stride: 2}}}}\n"
        "- {name: y, type: Crop, bottom: [u, data], crop_param: {axis: 2, offset: 2}}\n"
    ),
    "twice as large": "- {name: y, type: Upsample, upsample_param: {scale: 2}}\n",
    "put back": (
        "- {name: p, type: Pooling, top: [p, mask], pooling_param: {kernel_size: 2, stride: 2, pad: 0}}\n"
        "- {name: y, type: Upsample, bottom: [p, mask], upsample_param: {scale: 2}}\n"
    ),
    "channels to pixels": "- {name: y, type: Reorg, reorg_param: {stride: 1, reverse: true}}\n",
    "normalised": (
        "- {name: n, type: LRN}\n- {name: m, type: MVN}\n- {name: s, type: Scale, scale_param: {bias_term: true}}\n"
    ),
}


def net_of(layers):
    return mc.Net(parse_net(INPUT.format(name="n", shape="[1, 6, 12, 12]") + layers), phase="test", seed=3)


def session_of(path):
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NETS)
def test_the_size_of_images_is_free(name, tmp_path):
    net = net_of(NETS[name])
    export_onnx(net, tmp_path / "n.onnx", free_size=True)
    session = session_of(tmp_path / "n.onnx")
    assert session.get_inputs()[0].shape == ["N", 6, "data_height", "data_width"]
    for images, size in enumerate(SIZES, 1):
        x = np.random.default_rng(images).standard_normal((images, 6, *size)).astype(np.float32)
        net.blobs["data"].reshape(*x.shape)
        net.reshape()
        net.forward(data=x)
        for output, found in zip(net.outputs, session.run(None, {"data": x}), strict=True):
            wanted = to_host(net.blobs[output].data)
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_without_it_the_size_is_that_of_the_net(tmp_path):
    export_onnx(net_of(P_NET), tmp_path / "n.onnx")
    assert session_of(tmp_path / "n.onnx").get_inputs()[0].shape == ["N", 6, 12, 12]


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ("- {name: y, type: InnerProduct, inner_product_param: {num_output: 2}}\n", "InnerProduct"),
        ("- {name: y, type: Scale, scale_param: {num_axes: -1}}\n", "Scale"),
        ("- {name: y, type: Interp, interp_param: {zoom_factor: 2}}\n", "Interp"),
        ("- {name: y, type: Slice, top: [a, b], slice_param: {axis: 2, slice_point: 5}}\n", "Slice"),
        ("- {name: y, type: Pooling, pooling_param: {kernel_size: 2, stride: 2, pad: 1}}\n", "Pooling"),
        ("- {name: y, type: Reshape, reshape_param: {shape: {dim: [0, -1, 72]}}}\n", "cannot be free"),
    ],
)
def test_a_layer_that_needs_to_know_the_size_is_named(layers, kind, tmp_path):
    with pytest.raises(SpecError, match=f"{kind}.*layer 'y'|layer 'y'.*{kind} as it is here"):
        export_onnx(net_of(layers), tmp_path / "n.onnx", free_size=True)
    assert not any(tmp_path.iterdir())


def test_a_net_without_images_has_no_size_to_be_free(tmp_path):
    net = mc.Net(
        parse_net(INPUT.format(name="n", shape="[1, 6]") + "- {name: y, type: ReLU}\n"), phase="test"
    )
    with pytest.raises(SpecError, match="no input is of images"):
        export_onnx(net, tmp_path / "n.onnx", free_size=True)


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    (tmp_path / "n.yaml").write_text(INPUT.format(name="n", shape="[1, 6, 12, 12]") + P_NET)
    mc.Net(tmp_path / "n.yaml", phase="test", seed=3).save(tmp_path / "w.npz")
    return tmp_path


def run(files, *flags):
    return main(["export", str(files / "n.yaml"), str(files / "w.npz"), "-o", str(files / "out"), *flags])


def test_the_command_makes_a_model_of_free_size(files):
    assert run(files, "--format", "onnx", "--dynamic") == 0
    session = session_of(files / "out" / "n.onnx")
    assert [
        found.shape[2:] for found in session.run(None, {"data": np.zeros((1, 6, 50, 30), np.float32)})
    ] == [
        (20, 10),
        (20, 10),
    ]


def test_dynamic_is_for_onnx(files, capsys):
    assert run(files, "--dynamic") == 2
    assert "--dynamic: is for --format onnx" in capsys.readouterr().err


def test_an_input_may_be_exported_with_another_shape(files):
    assert run(files, "--format", "onnx", "--input-shape", "data:2,6,40,30") == 0
    assert session_of(files / "out" / "n.onnx").get_inputs()[0].shape == ["N", 6, 40, 30]
    assert run(files, "--input-shape", "data:2,6,40,30") == 0
    net = mc.Net(files / "out" / "n.prototxt", files / "out" / "n.caffemodel", phase="test")
    assert net.blobs["data"].shape == (2, 6, 40, 30)


def test_an_input_that_is_a_field_of_the_net_too(files):
    text = "input: [a, data]\ninput_dim: [1, 2, 3, 4, 1, 6, 12, 12]\nlayer:\n" + P_NET.replace(
        "conv1, type: Convolution,", "conv1, type: Convolution, bottom: data,"
    )
    (files / "n.yaml").write_text(text + "- {name: z, type: ReLU, bottom: a}\n")
    assert run(files, "--input-shape", "data:2,6,40,30") == 0
    net = mc.Net(files / "out" / "n.prototxt", files / "out" / "n.caffemodel", phase="test")
    assert (net.blobs["a"].shape, net.blobs["data"].shape) == ((1, 2, 3, 4), (2, 6, 40, 30))


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--input-shape", "dota:1,6,9,9"], "'dota' is not an input of this net; did you mean 'data'?"),
        (["--input-shape", "data:1,6,9,9", "--input-shape", "data:1,6,8,8"], "given twice"),
        (
            ["--input-shape", "data:1,5,12,12"],
            "; give --input-shape the size that the net was trained with\n",
        ),
        (["--input-shape", "data:1,6,2,2"], "layer 'conv1'"),
    ],
)
def test_a_shape_that_does_not_fit_is_one_line(flags, problem, files, capsys):
    assert run(files, *flags) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1
