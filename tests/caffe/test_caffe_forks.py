"""What forks of Caffe, and OpenCV, write into its files: 16-bit arrays, messages of their own, idle fields."""

import logging

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.caffe.formats.specs import net_tree
from minicaffe.data.mean import load_mean
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError, WeightError
from minicaffe.files.spec_formats import open_solver
from minicaffe.files.weight_formats import open_weights
from minicaffe.spec.net import parse_net
from tests.export.export_cases import INPUT

TYPES = {"<f8": 0, "<f4": 1, "<f2": 2}
PRODUCT = INPUT.format(name="n", shape="[1, 3]") + (
    "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2, bias_term: false}}\n"
)


def raw_model(path, data, kind, shape=(2, 3)):
    """A .caffemodel whose layer ip has these bytes."""
    model = message_class("NetParameter")(name="n")
    blob = model.layer.add(name="ip", type="InnerProduct").blobs.add(raw_data=data)
    if kind is not None:
        blob.raw_data_type = kind
    blob.shape.dim.extend(shape)
    path.write_bytes(model.SerializeToString())
    return path


# -- raw_data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_written_as_bytes_are_read(dtype, tmp_path):
    numbers = np.array([[1, -2.5, 3e-5], [65504, 0, -1e-7]], dtype)
    net = mc.Net(parse_net(PRODUCT), phase="test")
    net.copy_from(raw_model(tmp_path / "w.caffemodel", numbers.tobytes(), TYPES[dtype]))
    np.testing.assert_array_equal(to_host(net.params["ip"][0].data), numbers.astype(np.float32))


def test_bytes_without_a_type_are_of_64_bits_as_the_format_has_it(tmp_path):
    path = raw_model(tmp_path / "w.caffemodel", np.arange(6.0).tobytes(), None)
    with open_weights(path) as file:
        np.testing.assert_array_equal(file.read("ip/0"), np.arange(6.0).reshape(2, 3))


def test_a_mean_image_may_be_of_16_bits(tmp_path):
    blob = message_class("BlobProto")(num=1, channels=3, height=1, width=2, raw_data_type=2)
    blob.raw_data = np.arange(6).astype("<f2").tobytes()
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(load_mean(tmp_path / "mean.binaryproto"), np.arange(6).reshape(3, 1, 2))


@pytest.mark.parametrize(
    ("size", "kind", "problem"),
    [
        (11, 2, "11 bytes of raw_data are no FLOAT16s of 2; the file is damaged"),
        (10, 2, r"5 numbers do not fit the shape \(2, 3\); the file is damaged"),
        (14, 2, r"7 numbers do not fit the shape"),
        (12, 1, r"3 numbers do not fit the shape"),
        (24, 3, "raw_data of type INT; DOUBLE, FLOAT, FLOAT16 are read"),
        (24, 77, "raw_data of type 77; DOUBLE, FLOAT, FLOAT16 are read"),
    ],
)
def test_damaged_bytes_are_one_line(size, kind, problem, tmp_path):
    path = raw_model(tmp_path / "w.caffemodel", bytes(size), kind)
    with pytest.raises(WeightError, match=f"layer 'ip': parameter 0: {problem}") as caught:
        mc.Net(parse_net(PRODUCT), weights=path)
    assert "\n" not in str(caught.value)


def test_opencv_reads_the_same_numbers_from_16_bits(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    net = mc.Net(parse_net(SSD), phase="test", seed=3)
    mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    cv2.dnn.shrinkCaffeModel(str(tmp_path / "n.caffemodel"), str(tmp_path / "half.caffemodel"))
    half = mc.Net(parse_net(SSD), weights=tmp_path / "half.caffemodel", phase="test")
    for name, blobs in net.params.items():
        for mine, its in zip(blobs, half.params[name], strict=True):
            rounded = to_host(mine.data).astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(to_host(its.data), rounded)
    assert_opencv_detects_the_same(half, tmp_path / "n.prototxt", tmp_path / "half.caffemodel")


# -- a detector ------------------------------------------------------------------------------------------

CONV = (
    "kernel_size: 3, pad: 1, weight_filler: {type: gaussian, std: 0.4}, bias_filler: {type: uniform, min: -1}"
)
PRIORS = "min_size: 7.9, max_size: 15.5, aspect_ratio: 2"
OUTPUT = "num_classes: 3, nms_param: {nms_threshold: 0.45, top_k: 40}, code_type: CENTER_SIZE"
SSD = f"""name: mini
layer:
- {{name: data, type: Input, input_param: {{shape: {{dim: [1, 3, 24, 24]}}}}}}
- {{name: conv, type: Convolution, convolution_param: {{num_output: 6, stride: 4, {CONV}}}}}
- {{name: norm, type: Normalize,
   norm_param: {{across_spatial: false, scale_filler: {{value: 3}}, channel_shared: false}}}}
- {{name: loc, type: Convolution, bottom: norm, convolution_param: {{num_output: 16, {CONV}}}}}
- {{name: loc_perm, type: Permute, permute_param: {{order: [0, 2, 3, 1]}}}}
- {{name: loc_flat, type: Flatten}}
- {{name: conf, type: Convolution, bottom: norm, convolution_param: {{num_output: 12, {CONV}}}}}
- {{name: conf_perm, type: Permute, permute_param: {{order: [0, 2, 3, 1]}}}}
- {{name: conf_rows, type: Reshape, reshape_param: {{shape: {{dim: [0, -1, 3]}}}}}}
- {{name: conf_soft, type: Softmax, softmax_param: {{axis: 2}}}}
- {{name: conf_flat, type: Flatten}}
- {{name: priors, type: PriorBox, bottom: [norm, data], prior_box_param: {{{PRIORS}}}}}
- {{name: found, type: DetectionOutput, bottom: [loc_flat, conf_flat, priors],
   detection_output_param: {{{OUTPUT}}}}}
"""


def image():
    return np.random.default_rng(5).standard_normal((1, 3, 24, 24)).astype(np.float32)


def detections(rows):
    """Rows (image, label, confidence, corners) by label and confidence; OpenCV fills up with zeros."""
    rows = np.asarray(rows).reshape(-1, 7)
    rows = rows[rows[:, 2] > 0]
    return rows[np.lexsort((-rows[:, 2], rows[:, 1]))]


def assert_opencv_detects_the_same(net, prototxt, caffemodel):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    assert "keep_top_k: -1" not in prototxt.read_text(), "it would end the process"
    other = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    other.setInput(image(), "data")
    priors = other.forward("priors")
    other.setInput(image(), "data")
    found = detections(other.forward("found"))
    wanted = net.forward(data=image())["found"]
    np.testing.assert_allclose(priors, to_host(net.blobs["priors"].data), rtol=1e-5, atol=1e-6)
    assert len(found) > 5
    np.testing.assert_allclose(found, detections(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("priors", "output"),
    [
        (PRIORS, OUTPUT),
        (f"{PRIORS}, variance: [0.1, 0.1, 0.2, 0.2], clip: true, step: 4", f"{OUTPUT}, clip: true"),
        (
            f"{PRIORS}, offset: 0.25, step_h: 4, step_w: 3",
            f"{OUTPUT}, keep_top_k: 9, confidence_threshold: 0.3",
        ),
        (PRIORS, f"{OUTPUT}, background_label_id: 1, keep_top_k: 50"),
    ],
)
def test_opencv_finds_the_same_in_a_detector_that_was_exported(priors, output, tmp_path):
    """Also where what OpenCV wants is a default here, and where sizes are no whole pixels."""
    net = mc.Net(parse_net(SSD.replace(PRIORS, priors).replace(OUTPUT, output)), phase="test", seed=3)
    mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    assert_opencv_detects_the_same(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    again = mc.Net(tmp_path / "n.prototxt", tmp_path / "n.caffemodel", phase="test")
    np.testing.assert_allclose(
        again.forward(data=image())["found"], net.forward(data=image())["found"], atol=1e-5
    )


def test_opencv_finds_what_has_a_score_below_0_too(tmp_path):
    """As here, where no confidence_threshold says otherwise."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    text = "".join(line for line in SSD.splitlines(keepends=True) if "Softmax" not in line)
    text = text.replace("top_k: 40", "top_k: 400")
    net = mc.Net(parse_net(text), phase="test", seed=3)
    mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    other = cv2.dnn.readNetFromCaffe(str(tmp_path / "n.prototxt"), str(tmp_path / "n.caffemodel"))
    other.setInput(image(), "data")
    below = [
        np.sort(rows.reshape(-1, 7)[:, 2][rows.reshape(-1, 7)[:, 2] < 0])
        for rows in (other.forward("found"), np.asarray(net.forward(data=image())["found"]))
    ]
    assert len(below[1]) > 5
    np.testing.assert_allclose(*below, rtol=1e-4, atol=1e-4)


def test_clip_keeps_boxes_within_the_image():
    net = mc.Net(parse_net(SSD.replace(OUTPUT, f"{OUTPUT}, clip: true")), phase="test", seed=3)
    corners = np.asarray(net.forward(data=image())["found"])[0, 0, :, 3:]
    assert corners.min() == 0 and corners.max() == 1


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        ("save_output_param: {output_directory: results}", "save_output_param.output_directory"),
        ("visualize: true", "visualize"),
        ("save_file: film.avi", "save_file"),
    ],
)
def test_what_would_be_written_or_drawn_is_a_warning(setting, field, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    net = mc.Net(parse_net(SSD.replace(OUTPUT, f"{OUTPUT}, {setting}"), "ssd.yaml"), phase="test", seed=3)
    net.forward(data=image())
    assert f"ssd.yaml:17: layer 'found': detection_output_param.{field}: ignored" in caplog.text
    assert not any(tmp_path.iterdir())


def test_truth_may_be_a_number_in_the_messages_of_forks_too(tmp_path):
    text = """name: "n" input: "x" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 2 stride: 2 ceil_mode: 0 } }
layer { name: "b" type: "PriorBox" bottom: "p" bottom: "x" top: "b"
        prior_box_param { min_size: 2 clip: 1 flip: f } }
"""
    (tmp_path / "n.prototxt").write_text(text)
    net = mc.Net(tmp_path / "n.prototxt")
    assert net.blobs["p"].shape == (1, 2, 2, 2)
    assert net.layers[-1].spec.prior_box_param.clip and not net.layers[-1].spec.prior_box_param.flip


# -- Axpy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["[2, 4]", "[2, 4, 1, 1]"])
def test_axpy_is_a_scale_and_a_sum_for_caffe_and_opencv(shape, tmp_path):
    inputs = [("a", shape), ("x", "[2, 4, 3, 5]"), ("b", "[2, 4, 3, 5]")]
    text = "layer:\n" + "".join(
        f"- {{name: {name}, type: Input, input_param: {{shape: {{dim: {dims}}}}}}}\n" for name, dims in inputs
    )
    text += "- {name: y, type: Axpy, bottom: [a, x, b], propagate_down: [true, false, true]}\n"
    net = mc.Net(parse_net(text + "- {name: z, type: ReLU}\n"), phase="test")
    assert mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel") == []
    rng = np.random.default_rng(2)
    given = {name: rng.standard_normal(net.blobs[name].shape).astype(np.float32) for name, _ in inputs}
    wanted = np.asarray(net.forward(**given)["z"])
    again = mc.Net(tmp_path / "n.prototxt", phase="test")
    assert "Axpy" not in {layer.type for layer in again.layers}
    np.testing.assert_allclose(again.forward(**given)["z"], wanted, rtol=1e-6)
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    other = cv2.dnn.readNetFromCaffe(str(tmp_path / "n.prototxt"), str(tmp_path / "n.caffemodel"))
    for name, array in given.items():
        other.setInput(array, name)
    np.testing.assert_allclose(other.forward("z"), wanted, rtol=1e-5, atol=1e-6)


# -- a .caffemodel by itself -----------------------------------------------------------------------------


def test_a_net_that_was_saved_as_a_caffemodel_is_the_same_net(tmp_path, caplog):
    """Opened alone: the messages of forks, and how pooling rounds, are in it."""
    text = (
        SSD
        + """- {name: pool, type: Pooling, bottom: conv,
   pooling_param: {kernel_size: 3, stride: 2, ceil_mode: false}}
- {name: shuffle, type: ShuffleChannel, shuffle_channel_param: {group: 3}}
- {name: six, type: ReLU6, relu6_param: {negative_slope: 0.5}}
- {name: mean, type: Pooling, bottom: conv, pooling_param: {pool: AVE, global_pooling: true}}
- {name: twice, type: Axpy, bottom: [mean, conv, conv]}
"""
    )
    net = mc.Net(parse_net(text), phase="test", seed=3)
    net.save(tmp_path / "net.caffemodel")
    again = mc.Net(tmp_path / "net.caffemodel", weights=tmp_path / "net.caffemodel", phase="test")
    wanted = net.forward(data=image())
    found = again.forward(data=image())
    assert set(found) == set(wanted) == {"found", "six", "twice"}
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert caplog.text == ""


def test_one_warning_names_what_a_caffemodel_cannot_say(tmp_path, caplog):
    text = INPUT.format(name="n", shape="[1, 4, 6, 6]") + (
        "- {name: one, type: Convolution, convolution_param: {num_output: 4, kernel_size: 1},\n"
        "   low_rank_param: {rank: 1}}\n"
        "- {name: two, type: Interp, interp_param: {zoom_factor: 2}}\n"
        "- {name: three, type: Interp, interp_param: {zoom_factor: 2}}\n"
        "- {name: drop, type: Dropout, dropout_param: {scale_train: false}}\n"
    )
    mc.Net(parse_net(text), phase="test").save(tmp_path / "w.caffemodel")
    assert len(caplog.records) == 1
    told = "low_rank_param of one; interp_param of two, three; dropout_param.scale_train of drop"
    assert f"w.caffemodel: cannot hold {told}; keep the spec, or use mc.export" in caplog.text


def test_another_forks_use_of_a_number_keeps_no_file_from_being_read(tmp_path, caplog):
    """204 is DetectionOutput's in SSD; bytes that are no such message are named, as all that is not known."""
    layer = message_class("LayerParameter")(name="odd", type="Silence", bottom=["prob"])
    layer.detection_output_param = b"\xff\xff\xff"
    model = message_class("NetParameter")(name="n", layer=[layer])
    (tmp_path / "w.caffemodel").write_bytes(model.SerializeToString())
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        assert net_tree(tmp_path / "w.caffemodel").trees("layer")[0].text("name") == "odd"
    assert "by number: layer 'odd': LayerParameter 204" in caplog.text


# -- fields that change nothing --------------------------------------------------------------------------

IDLE = """name: "n" default_forward_type: FLOAT16 default_backward_type: FLOAT16 default_forward_math: FLOAT
engine: "MKLDNN" input: "x" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" engine: "MKL2017:MKLDNN" forward_type: FLOAT
        quantization_param { bw_layer_in: 8 scale_in: 0.5 }
        convolution_param { num_output: 2 kernel_size: 3 engine: MKL2017 conv_algorithm: "auto" relu: false } }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" quantization_param { bw_layer_in: 8 }
        convolution_param { num_output: 2 kernel_size: 3 engine: CAFFE } }
layer { name: "r" type: "ReLU" bottom: "d" top: "d" relu_param { fuse: true engine: CUDNN } }
layer { name: "e" type: "Eltwise" bottom: "d" bottom: "d" top: "e" eltwise_param { engine: MKL2017 } }
"""


def test_fields_of_forks_that_change_nothing_are_named_once(tmp_path, caplog):
    (tmp_path / "n.prototxt").write_text(IDLE)
    net = mc.Net(tmp_path / "n.prototxt", phase="test")
    assert net.blobs["e"].shape == (1, 2, 1, 1)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and told[0].startswith(
        f"{tmp_path / 'n.prototxt'}: ignored, as it changes no numbers"
    )
    names = told[0].split(": ")[-1].split(", ")
    assert names == [
        *("default_forward_type", "default_backward_type", "default_forward_math", "engine", "forward_type"),
        *("quantization_param", "convolution_param.engine", "convolution_param.conv_algorithm"),
        *("convolution_param.relu", "relu_param.fuse", "eltwise_param.engine"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("relu: false", "relu: true", "convolution_param.relu"),
        ("fuse: true", "negative_slop: 1", "relu_param.negative_slop"),
        ('engine: "MKLDNN"', "bn_stats_batch_size: 32", "bn_stats_batch_size"),
    ],
)
def test_fields_of_forks_that_change_numbers_stay_errors(old, new, field, tmp_path):
    (tmp_path / "n.prototxt").write_text(IDLE.replace(old, new))
    with pytest.raises(SpecError, match=rf"{field}: unknown field"):
        mc.Net(tmp_path / "n.prototxt", phase="test")


AUGMENTED = """
layer {{ name: "d" type: "Data" top: "x" data_param {{ source: "gone" batch_size: 1 }}
  transform_param {{ img_rand_resize_lower: 0 vertical_stretch_lower: 1.0 horizontal_stretch_upper: 1
    allow_upscale: true enable_classf_aug: false min_contrast: 0.5 apply_probability: 1 cvt_bgr2rgb: false {} }} }}
layer {{ name: "n" type: "DetectNetTransformation" bottom: "x" bottom: "x" top: "a" top: "b"
  detectnet_augmentation_param {{ flip_prob: 0 distort_param {{ hue_prob: 1 }} emit_constraint {{ }} {} }} }}
layer {{ name: "b" type: "BatchNorm" bottom: "a" top: "a" batch_norm_param {{ update_global_stats: false {} }} }}
layer {{ name: "c" type: "CTCLoss" bottom: "a" bottom: "b" top: "c"
  ctc_param {{ threshold: 0.7 decode_type: best_path {} }} }}
"""


def test_fields_of_augmentation_that_do_nothing_in_the_fork_or_at_this_value_are_passed_over(
    tmp_path, caplog
):
    (tmp_path / "n.prototxt").write_text(AUGMENTED.format("", "", "", ""))
    layers = net_tree(tmp_path / "n.prototxt").trees("layer")
    params = ("transform_param", "detectnet_augmentation_param", "batch_norm_param", "ctc_param")
    left = [list(layer.child(name).fields) for layer, name in zip(layers, params, strict=True)]
    assert left == [[], ["flip_prob"], [], []]
    assert "detectnet_augmentation_param.distort_param" in caplog.text
    for n, text in enumerate(
        (
            *("img_rand_resize_upper: 300", "vertical_stretch_upper: 1.2", "rand_resize_ratio_lower: 1"),
            *("enable_classf_aug: true", "cvt_bgr2rgb: true"),
        )
    ):
        (tmp_path / f"{n}.prototxt").write_text(AUGMENTED.format(text, "", "", ""))
        with pytest.raises(SpecError, match=f"transform_param.{text.split(':')[0]}: unknown field"):
            mc.Net(tmp_path / f"{n}.prototxt", phase="train")


def test_idle_fields_of_a_solver_are_passed_over_too(tmp_path, caplog):
    text = 'net_param { name: "n" eltwise_mem_sharing: true layer { name: "p" type: "Silence" } }'
    text += " base_lr: 1 max_iter: 1 solver_data_type: FLOAT store_blobs_in_old_format: true warmup_iter: 5"
    (tmp_path / "s.prototxt").write_text(text)
    with pytest.raises(SpecError, match="warmup_iter: unknown field"):
        open_solver(tmp_path / "s.prototxt")
    assert "net_param.eltwise_mem_sharing, solver_data_type, store_blobs_in_old_format" in caplog.text


def test_an_engine_of_a_fork_in_a_caffemodel_is_passed_over(tmp_path):
    model = message_class("NetParameter")(name="n")
    model.layer.add(name="r", type="ReLU", bottom=["x"], top=["x"]).relu_param.engine = 3
    (tmp_path / "w.caffemodel").write_bytes(model.SerializeToString())
    (layer,) = net_tree(tmp_path / "w.caffemodel").trees("layer")
    assert not layer.child("relu_param").fields
