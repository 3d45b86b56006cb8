"""ONNX models of YOLO find what the nets find, in onnxruntime."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import SpecError
from minicaffe.onnx.model import export_onnx
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net
from tests.export.test_onnx_detection import assert_same, session_of

V3 = (
    "type: Yolov3DetectionOutput, yolov3_detection_output_param: {num_classes: 3, num_box: 2, "
    "anchors_scale: [32, 16], mask: [1, 2, 0, 1], biases: [10, 14, 23, 27, 37, 58], FIELDS}"
)
GAUSSIAN = (
    "type: Yolov3DetectionOutput, yolov3_detection_output_param: {num_classes: 2, num_box: 1, anchors_scale: 8, "
    "mask_group_num: 1, mask: 1, biases: [5, 7, 9, 12], gaussian_box: true, FIELDS}"
)
V2 = (
    "type: YoloDetectionOutput, yolo_detection_output_param: {num_classes: 3, num_box: 2, "
    "biases: [1.5, 0.5, 1, 2], FIELDS}"
)
DETECTORS = {
    "v3": (V3, [(16, 3, 4), (16, 6, 8)]),
    "Gaussian": (GAUSSIAN, [(11, 7, 5)]),
    "v2": (V2, [(16, 4, 3)]),
    "v2, two grids": (V2, [(16, 3, 3), (16, 6, 6)]),
}
SETTINGS = [
    "confidence_threshold: 0.2, nms_threshold: 0.3",
    "confidence_threshold: 0.05, nms_threshold: 0.6",
    "nms_threshold: 0.01",
    "confidence_threshold: 0, nms_threshold: 1",
]


def detector(name, fields):
    text, grids = DETECTORS[name]
    shapes = [(2, *grid) for grid in grids]
    net = layer_net(text.replace("FIELDS", fields), shapes).replace("force_backward: true\n", "")
    return mc.Net(parse_net(net), phase="test")


def predictions(rng, name, images):
    grids = DETECTORS[name][1]
    return {f"x{g}": rng.standard_normal((images, *grid)) * 1.5 for g, grid in enumerate(grids)}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", DETECTORS)
def test_detections_are_the_same_rows_in_the_same_order(name, settings, tmp_path, rng):
    net = detector(name, settings)
    session = session_of(net, tmp_path)
    assert session.get_inputs()[0].shape[0] == "N"
    assert session.get_outputs()[0].shape == [1, 1, "L_detections", 7]
    for images in (2, 1, 3):
        rows = assert_same(session, net, predictions(rng, name, images))
        assert set(rows[0, 0, :, 0]) == set(range(images)) and rows.shape[2] > images


@pytest.mark.parametrize("name", DETECTORS)
def test_where_nothing_is_found_each_image_has_a_row_that_says_so(name, tmp_path, rng):
    net = detector(name, "confidence_threshold: 2")
    rows = assert_same(session_of(net, tmp_path), net, predictions(rng, name, 3))
    assert rows.shape == (1, 1, 3, 7) and (rows[..., 1:] == -1).all()


def test_a_confidence_at_the_threshold_is_enough_for_yolo_v2_alone(tmp_path):
    inputs = {"x0": np.full((1, 16, 1, 1), -20.0)}
    inputs["x0"][0, [4, 5, 12, 13], 0, 0] = [
        0,
        20,
        0,
        20,
    ]  # a probability of 1/2 of an object, and of 1 of label 1
    inputs["x0"][0, [0, 8], 0, 0] = [-20, 20]
    text = layer_net(V2.replace("FIELDS", "confidence_threshold: 0.5"), [(1, 16, 1, 1)])
    net = mc.Net(parse_net(text.replace("force_backward: true\n", "")), phase="test")
    assert assert_same(session_of(net, tmp_path), net, inputs)[0, 0, :, 2].tolist() == [0.5, 0.5]


def test_what_onnx_cannot_say_is_one_line(tmp_path):
    with pytest.raises(SpecError, match="nms_threshold: 0: boxes that do not overlap cannot") as raised:
        export_onnx(detector("v3", "nms_threshold: 0"), tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)
