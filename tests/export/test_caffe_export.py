"""Nets that are exported compute the same elsewhere; their weights come back bit for bit.

OpenCV reads them here; ``golden/caffe/check_export.py`` holds the same nets against the real Caffe.
"""

import re

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats.blobs import fill_blob
from minicaffe.caffe.formats.messages import message_class, parse_message
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.spec.net import parse_net
from tests.export.export_cases import (
    CASES,
    CONVOLUTIONS,
    FILLERS,
    INNER_PRODUCTS,
    INPUT,
    PLAIN,
    inputs_of,
    low_rank_text,
    make_net,
    outputs_of,
)
from tests.layer_cases import one_layer
from tests.marks import on_the_cpu_alone

NETS = on_the_cpu_alone(
    CASES, ["cifar10_vgg"], "a large net; lenet and cifar10_quick are exported on the double"
)


def near(actual, expected, tolerance=1e-4):
    """Within a share of the largest."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-2)


@pytest.mark.cpu_only("it is about the tolerance of these tests")
@pytest.mark.parametrize("name", ["lenet", "cifar10_quick", "odd", *CONVOLUTIONS, *INNER_PRODUCTS])
def test_a_fault_of_one_percent_in_the_weights_would_be_seen(name):
    net = make_net(name)
    inputs = inputs_of(net)
    before = outputs_of(net, inputs)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] *= 1.01
    net._parameters_changed()
    with pytest.raises(AssertionError):
        for blob, values in outputs_of(net, inputs).items():
            near(values, before[blob], 3e-3)


def exported(net, folder):
    files = folder / "net.prototxt", folder / "net.caffemodel"
    assert mc.export(net, *files) == []
    return files


@pytest.mark.parametrize("name", NETS)
def test_opencv_computes_the_same(name, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    net = make_net(name)
    inputs = inputs_of(net)
    other = cv2.dnn.readNetFromCaffe(*map(str, exported(net, tmp_path)))
    other.setInput(inputs["data"], "data")
    found = other.forwardAndRetrieve([net.layers[-1].name])[0]
    found = found[: len(net.outputs)]  # what else there is are the places of a MAX pooling
    for output, values in zip(net.outputs, found, strict=True):
        near(values, outputs_of(net, inputs)[output])


@pytest.mark.parametrize("name", NETS)
def test_read_again_it_computes_the_same(name, tmp_path):
    net = make_net(name)
    inputs = inputs_of(net)
    again = mc.Net(*exported(net, tmp_path), phase="test")
    assert not any(layer.spec.has("low_rank_param") for layer in again.layers)
    for blob, values in outputs_of(net, inputs).items():
        near(outputs_of(again, inputs)[blob], values)


def test_a_shrunk_layer_is_a_pair_that_is_as_cheap(tmp_path):
    net = make_net("spatial")
    again = mc.Net(*exported(net, tmp_path), phase="test")
    assert [layer.name for layer in again.layers] == ["data", "layer_low_rank", "layer"]
    work = [sum(step.multiply_adds for step in made.steps) for made in (net, again)]
    assert work[0] == work[1]


def test_names_of_the_pair_are_no_other_layers(tmp_path):
    text = low_rank_text("channel") + "- {name: layer_low_rank, type: ReLU}\n"
    net = mc.Net(parse_net(text), phase="test", seed=1)
    again = mc.Net(*exported(net, tmp_path), phase="test")
    assert [layer.name for layer in again.layers] == ["data", "layer_low_rank_", "layer", "layer_low_rank"]


def test_learning_rates_go_with_the_arrays(tmp_path):
    text = low_rank_text("channel").replace(
        "name: layer,", "name: layer, param: [{lr_mult: 3}, {lr_mult: 5}],"
    )
    again = mc.Net(*exported(mc.Net(parse_net(text), phase="test"), tmp_path), phase="test")
    assert [[p.lr_mult for p in layer.spec.param] for layer in again.layers[1:]] == [[3], [3, 5]]


SIAMESE = """name: siamese
layer:
- {name: a, type: Input, input_param: {shape: {dim: [2, 3, 6, 6]}}}
- {name: b, type: Input, input_param: {shape: {dim: [2, 3, 6, 6]}}}
- {name: c1, type: Convolution, bottom: a, param: [{name: w}, {name: v}],
   convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}, low_rank_param: {rank: 2}}
- {name: c2, type: Convolution, bottom: b, param: [{name: w}, {name: v}], loss_weight: 0.5,
   convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}, low_rank_param: {rank: 2}}
- {name: both, type: Eltwise, bottom: [c1, c2]}
"""


def test_shared_weights_of_low_rank_are_written_for_each_layer(tmp_path):
    net = mc.Net(parse_net(SIAMESE), phase="test", seed=1)
    files, inputs = exported(net, tmp_path), inputs_of(net)
    again = mc.Net(*files, phase="test")
    near(outputs_of(again, inputs)["both"], outputs_of(net, inputs)["both"])
    assert not any(param.name for layer in again.layers for param in layer.spec.param)
    layers = files[0].read_text().split("layer {")
    assert [re.search('name: "(.*)"', layer)[1] for layer in layers if "loss_weight" in layer] == ["c2"]


def test_what_was_not_given_is_not_written(tmp_path):
    text = exported(make_net("odd"), tmp_path)[0].read_text()
    for field in (
        "loss_weight",
        "propagate_down",
        "axis",
        "bias_term: false",
        "group: 1",
        "dilation",
        "engine",
    ):
        assert f"{field}\n" not in text and f"{field}:" not in text


@pytest.mark.parametrize("engine", ["WINOGRAD", "CAFFE"])
def test_of_engines_those_of_caffe_are_written(tmp_path, engine):
    settings = f"convolution_param: {{num_output: 2, kernel_size: 3, engine: {engine}}}"
    head = INPUT.format(name="net", shape=[1, 3, 9, 9])
    net = mc.Net.from_text(f"{head}- {{name: conv, type: Convolution, {settings}}}\n")
    mc.export(net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert ("engine: CAFFE" in (tmp_path / "net.prototxt").read_text()) == (engine == "CAFFE")
    assert "WINOGRAD" not in (tmp_path / "net.prototxt").read_text()


def test_a_basis_of_each_batch_cannot_be_exported(tmp_path):
    net = mc.Net(parse_net(low_rank_text("held, data")), phase="test")
    with pytest.raises(SpecError, match=r"layer 'layer'.*computes a basis from each batch"):
        exported(net, tmp_path)
    assert not list(tmp_path.iterdir())


FORKS = INPUT.format(name="forks", shape="[1, 4, 6, 6]") + (
    f"- {{name: conv, type: DepthwiseConvolution, convolution_param: {{{PLAIN}, {FILLERS}}}}}\n"
    "- {name: six, type: ReLU6}\n"
    "- {name: pool, type: Pooling, pooling_param: {kernel_size: 3, stride: 2, ceil_mode: false}}\n"
)


def test_what_caffe_has_not_is_said_and_what_it_can_do_is_rewritten(tmp_path):
    net = mc.Net(parse_net(FORKS), phase="test", seed=2)
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    assert mc.export(net, *files) == ["layer 'six': type ReLU6 is not in Caffe 1.0, only in forks of it"]
    text = files[0].read_text()
    assert "group: 4" in text and "DepthwiseConvolution" not in text
    assert "mode" not in text
    again, inputs = mc.Net(*files, phase="test"), inputs_of(net)
    near(outputs_of(again, inputs)["pool"], outputs_of(net, inputs)["pool"])


TRAINING = """name: "training \\"quoted\\""
force_backward: true
layer:
- {name: d, type: Data, top: [data, label], include: {phase: TRAIN}, data_param: {source: sample/mnist-train,
   batch_size: 4}}
- {name: d, type: Data, top: [data, label], include: {phase: TEST}, data_param: {source: sample/mnist-test,
   batch_size: 2}}
- {name: ip, type: InnerProduct, bottom: data, param: [{lr_mult: 1}, {lr_mult: 2, decay_mult: 0}],
   inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: drop, type: Dropout, top: ip, include: {phase: TRAIN}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label], loss_weight: 0.5, loss_param: {ignore_label: 255}}
- {name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}}
"""


def test_a_training_net_keeps_both_phases(tmp_path):
    net = mc.Net(parse_net(TRAINING), phase="test", seed=1)
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    notes = mc.export(net, *files)
    net.close()
    assert len(notes) == 2 and all(
        "source of format IDX; it is an Input of the same shape" in n for n in notes
    )
    written = parse_message("NetParameter", files[1].read_bytes())
    # those of the other phase are not there: of layers without arrays Caffe would complain
    assert [layer.name for layer in written.layer] == ["d", "ip", "loss", "accuracy"]
    for phase, batch, types in (
        ("train", 4, ["Input", "InnerProduct", "Dropout", "SoftmaxWithLoss"]),
        ("test", 2, ["Input", "InnerProduct", "SoftmaxWithLoss", "Accuracy"]),
    ):
        again = mc.Net(*files, phase=phase)
        assert sorted(layer.type for layer in again.layers if layer.type != "Split") == sorted(types)
        assert again.name == 'training "quoted"' and again.spec.force_backward
        assert again.blobs["data"].shape == (batch, 1, 28, 28) and again.blobs["label"].shape == (batch,)
        loss = next(layer for layer in again.layers if layer.name == "loss")
        assert loss.spec.loss_weight == [0.5] and loss.spec.loss_param.ignore_label == 255
        assert [(p.lr_mult, p.decay_mult) for p in again.learnable] == [(1, 1), (2, 0)]


IMAGES = """layer:
- {name: d, type: ImageData, top: [data, label], image_data_param: {source: list.txt, root_folder: images/,
   batch_size: 2}, transform_param: {mean_file: mean.binaryproto}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 2}}
"""


def test_files_beside_the_spec_are_found_from_everywhere(tmp_path, monkeypatch):
    """Caffe looks in the working directory alone."""
    nets = tmp_path / "nets"
    (nets / "images").mkdir(parents=True)
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(nets / "images" / "a.png")
    (nets / "list.txt").write_text("a.png 1\na.png 0\n")
    mean = message_class("BlobProto")()
    fill_blob(mean, np.ones((3, 3, 4), np.float32))
    (nets / "mean.binaryproto").write_bytes(mean.SerializeToString())
    (nets / "net.yaml").write_text(IMAGES)
    monkeypatch.chdir(tmp_path)
    net = mc.Net("nets/net.yaml")
    notes = mc.export(net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    for name, path in (("source", "list.txt"), ("root_folder", "images/"), ("mean_file", "mean.binaryproto")):
        assert f"layer 'd': {name} is written with its whole path: {nets}/{path}" in notes
    expected = to_host(net.forward(["data"])["data"])
    monkeypatch.chdir("/")
    near(to_host(mc.Net(tmp_path / "net.prototxt").forward(["data"])["data"]), expected)
    monkeypatch.chdir(nets)
    assert mc.export(mc.Net("net.yaml"), tmp_path / "net.prototxt", tmp_path / "net.caffemodel") == []


def test_what_a_list_names_beside_it_is_told(tmp_path):
    (tmp_path / "list.txt").write_text("a b.png 1\n")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a b.png")
    (tmp_path / "net.yaml").write_text(
        IMAGES.replace("root_folder: images/,", "").replace("{mean_file: mean.binaryproto}", "{}")
    )
    notes = mc.export(mc.Net(tmp_path / "net.yaml"), tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    told = f"layer 'd': what {tmp_path}/list.txt lists is beside it; Caffe looks in the working directory"
    assert any(note.startswith(told) for note in notes)


def test_a_mean_image_of_numpy_makes_an_input_of_its_layer(tmp_path):
    (tmp_path / "list.txt").write_text("a.png 1\n")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "mean.npy", np.ones((3, 3, 4), np.float32))
    (tmp_path / "net.yaml").write_text(
        IMAGES.replace("root_folder: images/,", "").replace("binaryproto", "npy")
    )
    notes = mc.export(mc.Net(tmp_path / "net.yaml"), tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    assert notes == [
        "layer 'd': Caffe does not know a mean_file of format .npy; it is an Input of the same shape"
    ]


STAGES = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 6, 6]}}}
- {name: a, type: Power, power_param: {scale: 2}, include: {stage: x}}
- {name: b, type: Power, bottom: a, power_param: {shift: 1}, exclude: {not_stage: x}}
- {name: c, type: Power, bottom: b, power_param: {shift: 3}, include: {min_level: 2}}
- {name: d, type: Power, bottom: c, power_param: {scale: 5}, include: [{phase: TEST, stage: x}, {max_level: -1}]}
- {name: e, type: Power, bottom: c, power_param: {scale: 7}, exclude: [{phase: TEST, stage: x}, {stage: y}]}
- {name: f, type: Power, bottom: c, include: {not_stage: x}}
"""


def test_stages_and_levels_were_chosen_when_the_net_was_made(tmp_path):
    net = mc.Net(parse_net(STAGES), phase="test", stages=["x"], level=3)
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    assert mc.export(net, *files) == ["layer 'f': left out, being of another level or stage"]
    again = mc.Net(*files, phase="test")
    assert (net.outputs, again.outputs) == (["d"], ["d"])
    near(outputs_of(again, inputs_of(net))["d"], outputs_of(net, inputs_of(net))["d"])
    assert mc.Net(*files, phase="train").outputs == ["e"]
    text = files[0].read_text()
    assert not any(word in text for word in ("stage", "level", "exclude")) and text.count("include") == 2


ONE_BOTTOM = """layer:
- {name: data, type: Input, include: {phase: TEST}, input_param: {shape: {dim: [2, 4, 11, 11]}}}
- {name: data, type: Input, include: {phase: TRAIN}, input_param: {shape: {dim: [2, 4, 6, 6]}}}
"""
TWO_BOTTOMS = """layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 4, 11, 11]}}}
- {name: half, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}, include: {phase: TRAIN}}
"""
FOR_EACH = f"""- {{name: pool, type: Pooling, pooling_param: {{kernel_size: 3, stride: 3, ceil_mode: false}}}}
- {{name: ip, type: InnerProduct, inner_product_param: {{num_output: 2, axis: 1, {FILLERS}}}}}
"""


@pytest.mark.parametrize("text", [ONE_BOTTOM + FOR_EACH, TWO_BOTTOMS + FOR_EACH])
def test_a_layer_whose_bottom_depends_on_the_phase_is_written_for_each(text, tmp_path):
    net = mc.Net(parse_net(text), phase="test", seed=1)
    files, inputs = exported(net, tmp_path), inputs_of(net)
    near(outputs_of(mc.Net(*files, phase="test"), inputs)["ip"], outputs_of(net, inputs)["ip"])
    training = mc.Net(files[0], phase="train")
    assert training.outputs == ["ip"] and training.blobs["pool"].shape == (2, 4, 2, 2)
    assert net.blobs["pool"].shape == (2, 4, 3, 3)


def test_a_phase_that_is_no_net_is_left_out_and_told(tmp_path):
    text = INPUT.format(name="n", shape="[2, 3]").replace(
        "type: Input,", "type: Input, include: {phase: TEST},"
    )
    net = mc.Net(parse_net(text + "- {name: relu, type: ReLU}\n"), phase="test")
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    (note,) = mc.export(net, *files)
    assert note.startswith("phase TRAIN is left out: ") and "add 'bottom: …'" in note
    near(outputs_of(mc.Net(*files), inputs_of(net))["relu"], outputs_of(net, inputs_of(net))["relu"])


CUT = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 8, 8]}}}
- {name: pool, type: Pooling, top: [pool, mask], loss_weight: [0.5, 0], include: {phase: TEST},
   pooling_param: {kernel_size: 3, stride: 2, ceil_mode: false}}
- {name: pool, type: Pooling, bottom: x, include: {phase: TRAIN},
   pooling_param: {kernel_size: 3, stride: 2, ceil_mode: false}}
- {name: three, type: Convolution, bottom: x, include: {phase: TEST}, low_rank_param: {rank: 1},
   convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}}
"""


def test_what_a_layer_becomes_has_its_rules_its_second_top_and_its_loss(tmp_path):
    net = mc.Net(parse_net(CUT), phase="test", seed=1)
    files = exported(net, tmp_path)
    again, inputs = mc.Net(*files, phase="test"), inputs_of(net)
    wanted, found = outputs_of(net, inputs), outputs_of(again, inputs)
    assert set(wanted) == set(found) == {"pool", "mask", "three"}
    for blob in wanted:
        near(found[blob], wanted[blob])
    near(to_host(again.loss()), to_host(net.loss()))
    training = mc.Net(files[0], phase="train")
    assert training.outputs == ["pool"] and training.blobs["pool"].shape == (2, 3, 3, 3)
    written = parse_message("NetParameter", files[1].read_bytes())
    assert [layer.name for layer in written.layer if layer.blobs] == ["three_low_rank", "three"]
    assert [layer.name for layer in written.layer] == [
        layer.name for layer in again.layers if layer.type != "Split"
    ]


TIED = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 5]}}}
- {name: code, type: InnerProduct, param: {name: w}, inner_product_param: {num_output: 3, %s bias_term: false,
   weight_filler: {type: xavier}}}
- {name: back, type: InnerProduct, param: {name: w}, inner_product_param: {num_output: %d, bias_term: false,
   transpose: true}, %s}
"""


@pytest.mark.parametrize("text", [TIED % ("", 5, ""), TIED % ("transpose: true,", 3, "bottom: x")])
def test_weights_lose_their_name_where_another_layer_has_the_transpose(text, tmp_path):
    net = mc.Net(parse_net(text), phase="test", seed=1)
    files = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    notes = mc.export(net, *files)
    again, inputs = mc.Net(*files, phase="test"), inputs_of(net)
    for blob, values in outputs_of(net, inputs).items():
        near(outputs_of(again, inputs)[blob], values)
    tied = "bottom: x" not in text
    assert notes == ["layer 'back': it no longer shares 'w', of which it has the transpose"] * tied
    assert [param.name for layer in again.layers for param in layer.spec.param if param.name] == (
        ["w"] if tied else ["w", "w"]
    )
    assert "transpose" not in files[0].read_text()


def test_bottoms_that_caffe_does_not_take_are_said(tmp_path):
    net = one_layer("Convolution of different numbers of images")
    assert mc.export(net, tmp_path / "a", tmp_path / "b") == [
        "layer 'L': Caffe 1.0 wants bottoms of one shape, not (2, 4, 5, 4), (3, 4, 5, 4)"
    ]


@mc.register_layer
class TestsOwn(mc.Layer):
    __test__ = False

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)


@pytest.mark.parametrize(
    ("layer", "note"),
    [
        ("Clip, clip_param: {min: 0, max: 1}", "came to Caffe's master branch after its release 1.0"),
        ("Swish", "came to Caffe's master branch after its release 1.0"),
        ("Permute", "is not in Caffe 1.0, only in forks of it"),
        ("TestsOwn", "is not in Caffe 1.0, only in forks of it"),
    ],
)
def test_a_type_that_the_release_has_not_is_said(layer, note, tmp_path):
    text = INPUT.format(name="n", shape="[2, 3]") + f'- {{name: "the\\nlayer", type: {layer}}}\n'
    (found,) = mc.export(mc.Net(parse_net(text)), tmp_path / "a", tmp_path / "b")
    assert found.startswith("layer 'the layer': type ") and note in found
