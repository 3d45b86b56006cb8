"""``minicaffe check-gradients``: every layer type is right, a planted fault is named, nets get numbers that fit."""

import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.core.layer import Layer, layer_classes
from minicaffe.inspect.gradients import subject_of
from minicaffe.inspect.layer_examples import EXAMPLES
from minicaffe.layers.pooling import Pooling
from minicaffe.testing import compare_gradients
from tests.data.annotated.bases import annotated, random_images, write

SOURCES = {
    "AnnotatedData",
    "Data",
    "DenseImageData",
    "HDF5Data",
    "ImageData",
    "ImageLabelmapData",
    "ImageSegData",
    "MemoryData",
}
SOURCES |= {"WindowData"}
NET = """
name: small
layer:
- {name: mnist, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 30}}
- {name: pool, type: Pooling, bottom: data, pooling_param: {kernel_size: 7, stride: 7}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 4, kernel_size: 2}
  low_rank_param: {rank: 2, factored: true}
- {name: relu, type: ReLU}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
- {name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}}
"""
OWN = """
import minicaffe as mc


@mc.register_layer
class Cubed(mc.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data ** 3

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = FACTOR * bottom[0].data ** 2 * top[0].diff
"""


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return str(path)


def compared(text, **options):
    subject = subject_of(text, **options)
    return compare_gradients(subject.net, subject.inputs, by=subject.by, most=min(subject.most, 40))


def test_every_type_with_a_gradient_has_an_example_and_no_other():
    own = {name for name, cls in layer_classes.items() if cls.__module__.startswith("minicaffe.")}
    assert {*EXAMPLES, *SOURCES} == {
        name for name in own if layer_classes[name].backward is not Layer.backward
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_gradient_of_a_type_is_right(name):
    found = compared(name)
    assert found.blobs and found.problems() == []


def test_a_net_with_data_gets_its_labels_and_few_images(net_file):
    found = compared(net_file)
    assert found.problems() == []
    assert [blob.name for blob in found.blobs] == ["data", "conv/0", "conv/1", "conv/2", "ip/0", "ip/1"]
    assert found.net.blobs["data"].shape == (4, 1, 28, 28)
    with mc.Net(net_file) as plain:
        np.testing.assert_array_equal(found.net.blobs["label"].data, plain.forward(["label"])["label"][:4])


def test_a_net_of_inputs_gets_labels_that_are_classes(tmp_path):
    path = tmp_path / "inputs.yaml"
    shapes = "{name: %s, type: Input, input_param: {shape: {dim: %s}}}"
    path.write_text(
        f"layer:\n- {shapes % ('x', [64, 3])}\n- {shapes % ('y', [64])}\n"
        "- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 7}}\n"
        "- {name: loss, type: SoftmaxWithLoss, bottom: [ip, y]}\n- {name: again, type: Accuracy, bottom: [ip, y]}\n"
    )
    subject = subject_of(str(path))
    labels = subject.inputs["y"]
    assert labels.shape == (4,) and set(labels) <= set(range(7)) and len(set(labels)) > 1
    assert compared(str(path)).problems() == []


def test_parameters_that_do_not_learn_stay_as_the_spec_has_them():
    """Others are moved: a constant filler hides faults. These may be a table, or an upsampling."""
    filler = "weight_filler: {type: constant, value: 3}, bias_filler: {type: constant, value: 3}"
    text = (
        f"type: InnerProduct, param: [{{lr_mult: 0}}, {{}}], inner_product_param: {{num_output: 4, {filler}}}"
    )
    ((weights, bias),) = subject_of(text).net.params.values()
    assert (weights.data == 3).all() and (bias.data != 3).all()


def test_labels_of_each_pixel_are_those_of_the_data(tmp_path):
    path = tmp_path / "pixels.yaml"
    path.write_text("""
layer:
- name: d
  type: DummyData
  top: [x, y]
  dummy_data_param:
    shape: [{dim: [8, 2, 3, 3]}, {dim: [8, 1, 3, 3]}]
    data_filler: [{type: gaussian}, {type: constant, value: 4}]
- {name: c, type: Convolution, bottom: x, convolution_param: {num_output: 5, kernel_size: 1}}
- {name: loss, type: SoftmaxWithLoss, bottom: [c, y]}
""")
    subject = subject_of(str(path))
    assert subject.inputs["y"].shape == (4, 1, 3, 3) and (subject.inputs["y"] == 4).all()
    assert compared(str(path)).problems() == []


def test_a_deploy_net_is_checked_in_phase_test():
    subject = subject_of("prototxt/lenet/deploy.yaml")
    assert subject.title == "LeNet (test)" and subject.net.blobs["data"].shape == (4, 1, 28, 28)


def test_a_wrong_backward_is_told_with_its_place_and_gives_exit_status_1(net_file, monkeypatch, capsys):
    right = Pooling.backward

    def wrong(self, top, propagate_down, bottom):
        right(self, top, propagate_down, bottom)
        bottom[0].diff[...] *= 1.01

    assert main(["check-gradients", net_file, "--most", "20"]) == 0
    assert "Right: all errors are below 1e-06" in capsys.readouterr().out
    monkeypatch.setattr(Pooling, "backward", wrong)
    assert main(["check-gradients", net_file, "--most", "20"]) == 1
    out = capsys.readouterr().out
    assert "WRONG: data (errors above 1e-06)" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("data"))
    backward, difference = map(float, row[-4:-2])
    assert backward == pytest.approx(1.01 * difference, rel=1e-3)


@pytest.mark.parametrize(("factor", "status"), [(3, 0), (2, 1)])
def test_a_layer_type_of_ones_own_is_checked(factor, status, tmp_path, monkeypatch, capsys):
    path = tmp_path / f"cubed{factor}.py"
    path.write_text(OWN.replace("FACTOR", str(factor)))
    try:
        assert main(["check-gradients", "Cubed", "--import", str(path), "--shape", "2,3"]) == status
    finally:
        layer_classes.pop("Cubed", None)
    assert ("x0" in capsys.readouterr().out) and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["type: Convolution, convolution_param: {num_output: 3, kernel_size: 2}, low_rank_param: {rank: 1}"],
        ["type: SoftmaxWithLoss", "--shape", "5,4", "--shape", "5"],
        ["HingeLoss", "--shape", "3,2", "--shape", "3"],
        ["type: Eltwise", "--shape", "2,3", "--shape", "2,3", "--shape", "2,3"],
        ["Pooling", "--shape", "1,1,9,9", "--most", "5"],
        ["CenterLoss", "--shape", "6,5", "--shape", "6"],
        ["MultiBoxLoss", "--shape", "2,24", "--shape", "2,18", "--shape", "1,2,24", "--shape", "1,1,3,8"],
        ["WarpCTCLoss", "--shape", "6,1,4", "--shape", "1,3"],
        ["Yolov3", "--shape", "3,7,3,3", "--shape", "3,3,5"],
    ],
)
def test_a_layer_may_be_text_and_its_shapes_may_be_given(words, capsys):
    assert main(["check-gradients", *words]) == 0
    assert "Right:" in capsys.readouterr().out


SLIPS = {
    "a typing error": ("bottom[0].data ** 3", "bottom[0].dat ** 3", 2, "own.py:11: AttributeError: "),
    "a top that is not written": (
        "top[0].data[...] = bottom",
        "y = bottom",
        1,
        "The top is 0 everywhere: does",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_a_layer_of_ones_own_is_told_by_its_line(slip, tmp_path, monkeypatch, capsys):
    right, wrong, status, told = SLIPS[slip]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(layer_classes, "Cubed", None)  # taken out again at the end
    del layer_classes["Cubed"]
    (tmp_path / "own.py").write_text(OWN.replace(right, wrong).replace("FACTOR", "3"))
    monkeypatch.delitem(sys.modules, "own", raising=False)
    assert main(["check-gradients", "Cubed", "--import", "own.py"]) == status
    said = capsys.readouterr()
    assert told in said.err + said.out and said.err.count("\n") == (status == 2)
    if status == 1:
        assert "Cubed: backward against central differences" in said.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["Relu"], "neither a file nor a layer type; did you mean 'ReLU'?"),
        (["ArgMax"], "this layer type has no gradient"),
        (["Data"], "a layer without bottoms has no gradient"),
        ([""], "neither a file nor a layer type"),
        (["no.yaml"], "no.yaml"),
        (["bottom: x"], "as the text of a layer it has no type"),
        (
            ["type: Convolution, convolution_param: {num_outputs: 3}"],
            "error: check-gradients Convolution: convolution_param.num_outputs: unknown field; did you mean",
        ),
        (["type: Pooling, pooling_param: {kernel_size: 30}"], "error: check-gradients Pooling: a window of"),
        (["prototxt/lenet/deploy.yaml", "--shape", "1,2"], "--shape is for layers"),
        (["ReLU", "--shape", "1,x"], "write sizes with commas"),
        (
            ["SoftmaxWithLoss", "--shape", "4,3"],
            "takes 2 bottoms, and --shape is there for 1",
        ),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_status_2(words, problem, capsys):
    try:
        status = main(["check-gradients", *words])
    except SystemExit as error:
        status = error.code
    err = capsys.readouterr().err
    assert status == 2 and problem in err and err.strip().count("\n") <= 1


DETECTOR = """
layer:
DATA
- {name: loc, type: Convolution, bottom: data, convolution_param: {num_output: 8, kernel_size: 5, stride: 4}}
- {name: loc_last, type: Permute, permute_param: {order: [0, 2, 3, 1]}}
- {name: loc_flat, type: Flatten}
- {name: conf, type: Convolution, bottom: data, convolution_param: {num_output: 6, kernel_size: 5, stride: 4}}
- {name: conf_last, type: Permute, permute_param: {order: [0, 2, 3, 1]}}
- {name: conf_flat, type: Flatten}
- {name: priors, type: PriorBox, bottom: [loc, data], prior_box_param: {min_size: 4, max_size: 8}}
- {name: loss, type: MultiBoxLoss, bottom: [loc_flat, conf_flat, priors, label],
   multibox_loss_param: {num_classes: 3}}
"""
BOXES_OF_INPUT = """
- {name: data, type: Input, input_param: {shape: {dim: [6, 1, 13, 13]}}}
- {name: label, type: Input, input_param: {shape: {dim: [1, 1, 1, 8]}}}"""
YOLO = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [6, 1, 4, 4]}}}
- {name: label, type: Input, input_param: {shape: {dim: [6, 1, 3, 5]}}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 7, kernel_size: 3}}
- {name: loss, type: LOSS, bottom: [conv, label], PARAMnum_class: 2, num: 1, biases: [1, 1]}}
"""


def test_a_detector_of_inputs_gets_boxes(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(DETECTOR.replace("DATA", BOXES_OF_INPUT))
    found = compared(str(path))
    assert found.problems() == []  # of which one would be that all is 0
    ((number, label, _, x0, y0, x1, y1, difficult),) = found.net.blobs["label"].data[0, 0]
    assert number == 0 and label in (1, 2) and not difficult
    assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1


def test_a_detector_with_data_gets_the_boxes_of_the_images_that_are_left(tmp_path):
    images = random_images(np.random.default_rng(0), 6, (13, 13), 1)
    box = (0, 0.1, 0.2, 0.5, 0.7, 0)
    write(tmp_path / "lmdb", [annotated(image, {1 + i % 2: [box]}) for i, image in enumerate(images)])
    path = tmp_path / "net.yaml"
    path.write_text(
        DETECTOR.replace(
            "DATA",
            "- {name: d, type: AnnotatedData, top: [data, label], data_param: {source: lmdb, batch_size: 6}}",
        )
    )
    found = compared(str(path))
    assert found.problems() == []
    assert found.net.blobs["data"].shape == (4, 1, 13, 13)
    rows = found.net.blobs["label"].data[0, 0]
    assert rows[:, 0].tolist() == [0, 1, 2, 3, -1, -1] and rows[:4, 1].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(rows[:, 3:7], [box[1:5]] * 6, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "param"), [("RegionLoss", "region_loss_param: {"), ("Yolov3", "yolov3_param: {mask: 0, ")]
)
def test_a_net_of_yolo_gets_a_box_for_each_image(tmp_path, loss, param):
    path = tmp_path / "net.yaml"
    path.write_text(YOLO.replace("LOSS", loss).replace("PARAM", param))
    subject = subject_of(str(path))
    rows = subject.inputs["label"]
    assert rows.shape == (4, 1, 3, 5) and not rows[:, :, 1:].any()
    assert ((rows[:, :, 0, 3:] > 0) & (rows[:, :, 0, 3:] < 1)).all()
    assert len(compare_gradients(subject.net, subject.inputs, most=2).blobs) == 3  # none is refused


def test_where_nothing_could_be_compared_nothing_is_called_right(capsys):
    assert main(["check-gradients", "type: Power, power_param: {scale: 0}"]) == 1
    out = capsys.readouterr().out
    assert "Neither right nor wrong: no number could be compared" in out and "Right: " not in out


NO_DERIVATIVE = {
    "CenterLoss": "type: CenterLoss, center_loss_param: {num_output: 3, center_filler: {type: uniform}}",
    "DiceCoefLoss": "type: DiceCoefLoss",
    "MarginInnerProduct": "type: MarginInnerProduct, margin_inner_product_param: {num_output: 3, type: DOUBLE, "
    "lambda_min: 0, base: 0, weight_filler: {type: xavier}}",
    "RegionLoss": "type: RegionLoss, region_loss_param: {num_class: 2, num: 1, biases: [1, 1]}",
    "YoloSeg": "type: YoloSeg, yolo_seg_param: {object_scale: 1}",
    "Yolov3": "type: Yolov3, yolov3_param: {num_class: 2, num: 1, mask: 0, biases: [8, 8], anchors_scale: 8}",
}


@pytest.mark.parametrize("name", NO_DERIVATIVE)
def test_a_backward_that_is_no_derivative_in_the_fork_either_is_said_to_be(name, capsys):
    shapes = ["--shape", "1,4", "--shape", "1,4"] if name == "DiceCoefLoss" else []
    if shapes:  # numbers of one sign have no r below 0
        subject = subject_of(name, [(1, 4), (1, 4)])
        inputs = {"x0": np.full((1, 4), 2.0), "x1": np.full((1, 4), -2.0)}
        assert compare_gradients(subject.net, inputs).problems()
        assert main(["check-gradients", name, *shapes]) == 0
    else:
        assert main(["check-gradients", NO_DERIVATIVE[name]]) == 1
    said = f"backward of {name} is not the derivative of its forward, as in its fork: it is "
    assert [line.startswith(said) for line in capsys.readouterr().out.splitlines()].count(True) == 1


def test_layers_whose_backward_is_another_are_those_of_the_test_above():
    assert {name for name, cls in layer_classes.items() if cls.backward_instead} == {*NO_DERIVATIVE}


def test_what_layers_tell_of_each_batch_is_not_told_of_each_number(capsys):
    for name in ("RegionLoss", "Yolov3"):
        assert main(["check-gradients", name]) == 0
        out, err = capsys.readouterr()
        assert f"{name}: backward against" in out and "noobj" not in out + err
