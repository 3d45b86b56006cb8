"""ONNX models of detectors find what the nets find, in onnxruntime."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.onnx.model import export_onnx
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'minicaffe[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def session_of(net, folder, **options):
    path = folder / "net.onnx"
    export_onnx(net, path, **options)
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def assert_same(session, net, inputs, tolerance=1e-5):
    """Both find the same; the net's output is returned."""
    for name, array in inputs.items():
        net.blobs[name].reshape(*array.shape)
    net.reshape()
    (expected,) = (to_host(array) for array in net.forward(**inputs).values())
    (found,) = session.run(None, {name: np.float32(array) for name, array in inputs.items()})
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    return expected


# --------------------------------------------------------------------------------------- DetectionOutput

PRIORS, CLASSES = 60, 4
DETECTOR = f"""layer:
- {{name: x, type: Input, top: [loc, conf, map, image], input_param: {{shape: [
    {{dim: [2, LOCATIONS]}}, {{dim: [2, {PRIORS * CLASSES}]}}, {{dim: [2, 1, 3, 5]}}, {{dim: [2, 3, 60, 100]}}]}}}}
- {{name: priors, type: PriorBox, bottom: [map, image],
   prior_box_param: {{min_size: [20, 30], max_size: [35, 40], variance: [0.1, 0.1, 0.2, 0.2]}}}}
- {{name: found, type: DetectionOutput, bottom: [loc, conf, priors],
   detection_output_param: {{num_classes: {CLASSES}, share_location: SHARED, FIELDS}}}}
"""


def detector(fields, shared=True):
    text = DETECTOR.replace("LOCATIONS", str(PRIORS * 4 * (1 if shared else CLASSES)))
    return mc.Net(parse_net(text.replace("SHARED", str(shared)).replace("FIELDS", fields)), phase="test")


def predictions(rng, net, images=2, spread=1.0):
    """Inputs with boxes that often overlap, and confidences of which no two are equal."""
    amount = images * PRIORS * CLASSES
    return {
        "loc": rng.standard_normal((images, net.blobs["loc"].shape[1])) * spread,
        "conf": rng.permutation(amount).reshape(images, -1) / amount,
        "map": np.zeros((images, 1, 3, 5)),
        "image": np.zeros((images, 3, 60, 100)),
    }


CODES = ["CORNER", "CENTER_SIZE", "CORNER_SIZE"]
SETTINGS = [
    "confidence_threshold: 0.2, nms_param: {nms_threshold: 0.4, top_k: 20}, keep_top_k: 10",
    "confidence_threshold: 0.5, nms_param: {nms_threshold: 0.3}, keep_top_k: 500, background_label_id: -1",
    "nms_param: {nms_threshold: 0.6, top_k: 1000}, background_label_id: 2, clip: true",
    "confidence_threshold: 0.9, nms_param: {nms_threshold: 1.5}, variance_encoded_in_target: true",
    "nms_param: {nms_threshold: 0, top_k: 5}, keep_top_k: 1",
    "nms_param: {nms_threshold: 0.2, top_k: 7}, keep_top_k: 200",
]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("code", CODES)
def test_detections_are_the_same_rows_in_the_same_order(code, settings, shared, tmp_path, rng):
    net = detector(f"{settings}, code_type: {code}", shared)
    session = session_of(net, tmp_path)
    assert [value.shape[0] for value in session.get_inputs()] == ["N"] * 4
    assert session.get_outputs()[0].shape == [1, 1, "found_detections", 7]
    amounts = set()
    for images in (2, 1, 3):
        spread = 4 if code == "CENTER_SIZE" else 2
        rows = assert_same(session, net, predictions(rng, net, images, spread))
        assert set(rows[0, 0, :, 0]) == set(range(images))
        amounts.add(rows.shape[2])
    assert len(amounts) == 3


def test_where_nothing_is_found_each_image_has_a_row_that_says_so(tmp_path, rng):
    net = detector("confidence_threshold: 2, keep_top_k: 3, code_type: CENTER_SIZE")
    session = session_of(net, tmp_path)
    for images in (1, 3):
        rows = assert_same(session, net, predictions(rng, net, images))
        assert rows.shape == (1, 1, images, 7) and (rows[..., 1:] == -1).all()


def test_an_image_without_detections_beside_others_has_no_row(tmp_path, rng):
    net = detector("confidence_threshold: 0.5, code_type: CENTER_SIZE")
    inputs = predictions(rng, net, 3)
    inputs["conf"][1] /= 3
    rows = assert_same(session_of(net, tmp_path), net, inputs)
    assert set(rows[0, 0, :, 0]) == {0, 2}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("nms_param: {eta: 0.9}", "eta: 0.9: NonMaxSuppression of ONNX keeps its threshold; set 'eta: 1'"),
        ("keep_top_k: 0", "no box can remain"),
        ("nms_param: {top_k: 0}", "no box can remain"),
    ],
)
def test_what_onnx_cannot_say_is_one_line(fields, message, tmp_path):
    with pytest.raises(SpecError, match=message) as raised:
        export_onnx(detector(fields), tmp_path / "net.onnx")
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("moves", [False, True])
def test_what_refinedets_first_detector_has_found_counts_too(moves, tmp_path, rng):
    text = DETECTOR.replace("LOCATIONS", str(PRIORS * 4)).replace("SHARED", "true")
    text = text.replace("image], input", "image, object, first], input").replace(
        "{dim: [2, 3, 60, 100]}",
        f"{{dim: [2, 3, 60, 100]}}, {{dim: [2, {PRIORS * 2}]}}, {{dim: [2, {PRIORS * 4}]}}",
    )
    text = text.replace("conf, priors]", f"conf, priors, object{', first' * moves}]")
    fields = "objectness_score: 0.4, confidence_threshold: 0.3, code_type: CENTER_SIZE, keep_top_k: 40"
    net = mc.Net(parse_net(text.replace("FIELDS", fields)), phase="test")
    inputs = {
        **predictions(rng, net, spread=2),
        "object": rng.random((2, PRIORS * 2)),
        "first": rng.standard_normal((2, PRIORS * 4)),
    }
    path = tmp_path / "net.onnx"
    export_onnx(net, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = to_host(net.forward(**inputs)["found"])
    names = [value.name for value in session.get_outputs()]
    (found,) = session.run(["found"], {name: np.float32(array) for name, array in inputs.items()})
    assert "found" in names and found.shape == expected.shape and expected.shape[2] > 20
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ a whole SSD

FILLERS = "weight_filler: {type: gaussian, std: 0.2}, bias_filler: {type: gaussian, std: 0.5}"
SSD = f"""layer:
- {{name: data, type: Input, input_param: {{shape: {{dim: [1, 3, 40, 56]}}}}}}
- {{name: conv, type: Convolution, convolution_param: {{num_output: 8, kernel_size: 3, stride: 4, {FILLERS}}}}}
- {{name: norm, type: Normalize, bottom: conv,
   norm_param: {{across_spatial: false, channel_shared: false, scale_filler: {{type: constant, value: 3}}}}}}
- {{name: small, type: Pooling, bottom: norm, pooling_param: {{kernel_size: 2, stride: 2}}}}
%s
- {{name: locs, type: Concat, bottom: [norm_locs, small_locs]}}
- {{name: confs, type: Concat, bottom: [norm_confs, small_confs]}}
- {{name: priors, type: Concat, bottom: [norm_priors, small_priors], concat_param: {{axis: 2}}}}
- {{name: scores, type: Reshape, bottom: confs, reshape_param: {{shape: {{dim: [0, -1, 3]}}}}}}
- {{name: probs, type: Softmax, bottom: scores, softmax_param: {{axis: 2}}}}
- {{name: probs_flat, type: Flatten, bottom: probs}}
- name: found
  type: DetectionOutput
  bottom: [locs, probs_flat, priors]
  detection_output_param: {{num_classes: 3, nms_param: {{nms_threshold: 0.45, top_k: 100}}, code_type: CENTER_SIZE,
    keep_top_k: 30, confidence_threshold: 0.3}}
"""
HEAD = f"""- {{name: X_loc, type: Convolution, bottom: X,
   convolution_param: {{num_output: LOCATIONS, kernel_size: 3, pad: 1, {FILLERS}}}}}
- {{name: X_perm, type: Permute, bottom: X_loc, permute_param: {{order: [0, 2, 3, 1]}}}}
- {{name: X_locs, type: Flatten, bottom: X_perm}}
- {{name: X_conf, type: Convolution, bottom: X,
   convolution_param: {{num_output: SCORES, kernel_size: 3, pad: 1, {FILLERS}}}}}
- {{name: X_conf_perm, type: Permute, bottom: X_conf, permute_param: {{order: [0, 2, 3, 1]}}}}
- {{name: X_confs, type: Flatten, bottom: X_conf_perm}}
- {{name: X_priors, type: PriorBox, bottom: [X, data], prior_box_param: {{min_size: 9, max_size: 14,
   aspect_ratio: [2, 1.5], flip: FLIP, clip: CLIP, variance: [0.1, 0.1, 0.2, 0.2], MORE}}}}"""


def ssd(flip="false", clip="false", more="offset: 0.5"):
    """An SSD with two heads, each with 4 priors for a cell, or 6."""
    priors = 6 if flip == "true" else 4
    fields = {"LOCATIONS": 4 * priors, "SCORES": 3 * priors, "FLIP": flip, "CLIP": clip, "MORE": more}
    head = HEAD
    for name, value in fields.items():
        head = head.replace(name, str(value))
    return mc.Net(
        parse_net(SSD % "\n".join(head.replace("X", x) for x in ("norm", "small"))), phase="test", seed=5
    )


VARIANTS = [
    {},
    {"flip": "true", "clip": "true"},
    {"more": "step: 5, offset: 0.3"},
    {"more": "img_h: 45, img_w: 50, step_h: 4, step_w: 6"},
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("free", [False, True])
def test_a_whole_ssd_finds_the_same_boxes(variant, free, tmp_path, rng):
    net = ssd(**variant)
    session = session_of(net, tmp_path, free_size=free)
    shape = [3, "data_height", "data_width"] if free else [3, 40, 56]
    assert session.get_inputs()[0].shape == ["N", *shape]
    found = set()
    for images, size in (
        (1, (40, 56)),
        (3, (60, 44) if free else (40, 56)),
        (2, (97, 33) if free else (40, 56)),
    ):
        data = rng.standard_normal((images, 3, *size))
        rows = assert_same(session, net, {"data": data}, 1e-4)
        found.update(rows[0, 0, :, 1])
    assert found >= {1, 2}


def test_priors_alone_are_a_constant(tmp_path):
    text = "type: PriorBox, prior_box_param: {min_size: 3, max_size: 5}"
    text = layer_net(text, [(2, 8, 3, 2), (2, 3, 30, 20)]).replace("force_backward: true\n", "")
    net = mc.Net(parse_net(text), phase="test")
    session = session_of(net, tmp_path)
    assert session.get_outputs()[0].shape == [1, 2, 48]
    assert_same(session, net, {name: np.zeros(net.blobs[name].shape) for name in net.inputs}, 1e-7)


# --------------------------------------------------------------------------------------------- regions

POOLED = {
    "ROIPooling": "roi_pooling_param: {{pooled_h: 3, pooled_w: 4, spatial_scale: {scale}}}",
    "PSROIPooling": "psroi_pooling_param: {{output_dim: 2, group_size: 3, spatial_scale: {scale}}}",
}


def regions_of(rng, count, scale):
    """Corners on halves and elsewhere, also beyond the image and in the wrong order."""
    corners = rng.uniform(-3, 16, (count, 4))
    corners[::2] = np.round(2 * corners[::2]) / 2
    return np.concatenate([rng.integers(0, 3, (count, 1)), corners / scale], axis=1).astype(np.float32)


@pytest.mark.parametrize("layer_type", POOLED)
@pytest.mark.parametrize("scale", [1.0, 0.0625, 0.13])
@pytest.mark.parametrize("axes", [(), (1, 1)])
def test_regions_are_pooled_alike(layer_type, scale, axes, tmp_path, rng):
    layer = f"type: {layer_type}, {POOLED[layer_type].format(scale=scale)}"
    text = layer_net(layer, [(3, 18, 11, 13), (50, 5, *axes)]).replace("force_backward: true\n", "")
    net = mc.Net(parse_net(text), phase="test")
    session = session_of(net, tmp_path)
    assert [value.shape[0] for value in session.get_inputs()] == ["N", "regions"]
    for count in (50, 40):
        x, regions = rng.standard_normal((3, 18, 11, 13)), regions_of(rng, count, scale)
        pooled = assert_same(session, net, {"x0": x, "x1": regions.reshape(count, 5, *axes)}, 1e-6)
        assert (pooled != 0).mean() > 0.4


def test_regions_that_two_layers_pool_are_as_many_as_one_likes(tmp_path, rng):
    text = f"""layer:
- {{name: x, type: Input, top: [x, rois], input_param: {{shape: [{{dim: [1, 18, 9, 9]}}, {{dim: [1, 5]}}]}}}}
- {{name: a, type: ROIPooling, bottom: [x, rois], roi_pooling_param: {{pooled_h: 3, pooled_w: 3}}}}
- {{name: b, type: PSROIPooling, bottom: [x, rois], {POOLED["PSROIPooling"].format(scale=1.0)}}}
- {{name: c, type: Concat, bottom: [a, b]}}
- {{name: y, type: InnerProduct, inner_product_param: {{num_output: 3, weight_filler: {{type: xavier}}}}}}
"""
    net = mc.Net(parse_net(text), phase="test", seed=1)
    session = session_of(net, tmp_path)
    assert session.get_outputs()[0].shape == ["regions", 3]
    for images, count in ((1, 6), (3, 20)):
        regions = regions_of(rng, count, 1.0)
        regions[:, 0] %= images
        assert_same(session, net, {"x": rng.standard_normal((images, 18, 9, 9)), "rois": regions})


@pytest.mark.parametrize("layer_type", POOLED)
def test_images_whose_regions_are_pooled_may_be_of_any_size(layer_type, tmp_path, rng):
    text = f"""layer:
- {{name: data, type: Input, input_param: {{shape: {{dim: [3, 3, 22, 26]}}}}}}
- {{name: rois, type: Input, input_param: {{shape: {{dim: [30, 5]}}}}}}
- {{name: conv, type: Convolution, bottom: data,
   convolution_param: {{num_output: 18, kernel_size: 2, stride: 2, weight_filler: {{type: gaussian}}}}}}
- {{name: y, type: {layer_type}, bottom: [conv, rois], {POOLED[layer_type].format(scale=0.5)}}}
"""
    net = mc.Net(parse_net(text), phase="test", seed=1)
    session = session_of(net, tmp_path, free_size=True)
    for size in ((22, 26), (31, 17)):
        inputs = {"data": rng.standard_normal((3, 3, *size)), "rois": regions_of(rng, 30, 0.5)}
        assert_same(session, net, inputs)


RPN = """layer:
- {name: data, type: Input, top: [data, info],
   input_param: {shape: [{dim: [IMAGES, 3, 96, 128]}, {dim: [IMAGES, NUMBERS]}]}}
- {name: conv, type: Convolution, bottom: data,
   convolution_param: {num_output: 18, kernel_size: 8, stride: 8, weight_filler: {type: gaussian, std: 0.1}}}
- {name: scores, type: Convolution, bottom: conv,
   convolution_param: {num_output: 12, kernel_size: 1, weight_filler: {type: gaussian, std: 0.3}}}
- {name: prob, type: Sigmoid, bottom: scores, top: scores}
- {name: offsets, type: Convolution, bottom: conv,
   convolution_param: {num_output: 24, kernel_size: 1, weight_filler: {type: gaussian, std: 0.1}}}
- {name: rois, bottom: [scores, offsets, info], top: [rois, SCORES], PROPOSAL}
- {name: pooled, type: PSROIPooling, bottom: [conv, rois],
   psroi_pooling_param: {output_dim: 2, group_size: 3, spatial_scale: 0.125}}
- {name: mean, type: Pooling, bottom: pooled, pooling_param: {pool: AVE, kernel_size: 3, stride: 3}}
- {name: y, type: Reshape, bottom: mean, reshape_param: {shape: {dim: [-1, 2]}}}
- {name: none, type: Silence, bottom: SCORES}
"""
PROPOSALS = {
    "Proposal": "type: Proposal, proposal_param: {feat_stride: 8, ratio: [0.5, 2], scale: [1, 2, 3], min_size: 24, "
    "pre_nms_topn: 300, post_nms_topn: 60, nms_thresh: 0.5}",
    "all of them": "type: Proposal, proposal_param: {feat_stride: 8, ratio: 1, scale: [1, 1.5, 2, 2.5, 3, 4], "
    "min_size: 8, pre_nms_topn: 9000, post_nms_topn: 9000, nms_thresh: 0.7}",
    "ProposalLayer": "type: Python, python_param: {module: rpn.proposal_layer, layer: ProposalLayer, "
    """param_str: "{'feat_stride': 8, 'scales': [2, 3], 'RPN_MIN_SIZE': 40}"}""",
}


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("numbers", [3, 4])
@pytest.mark.parametrize("proposal", PROPOSALS)
def test_regions_are_proposed_and_pooled_alike(proposal, numbers, free, tmp_path, rng):
    images = 1 if proposal == "ProposalLayer" else 2
    text = RPN.replace("IMAGES", str(images)).replace("NUMBERS", str(numbers)).replace("SCORES", "found")
    net = mc.Net(parse_net(text.replace("PROPOSAL", PROPOSALS[proposal])), phase="test", seed=2)
    session = session_of(net, tmp_path, free_size=free)
    assert session.get_outputs()[0].shape[0] == "regions"
    for size in ((96, 128), (64, 160) if free else (96, 128)):
        info = np.array([[*size, 1.1, 0.8], [size[0] - 20, size[1] - 30, 0.7, 0.9]])[:images, :numbers]
        inputs = {"data": rng.standard_normal((images, 3, *size)), "info": info}
        pooled = assert_same(session, net, inputs)
        assert 10 < len(pooled) < net.layers[-5].rules.after * images or proposal == "Proposal"


def test_code_of_the_user_cannot_be_exported(tmp_path):
    (tmp_path / "twice.py").write_text("import minicaffe as mc\n\n\nclass Twice(mc.Layer):\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(*bottom[0].shape)\n")  # fmt: skip
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [2]}}}\n"
        "- {name: y, type: Python, bottom: x, python_param: {module: twice, layer: Twice}}\n"
    )
    net = mc.Net(str(tmp_path / "net.yaml"), phase="test")
    with pytest.raises(SpecError, match="code cannot be exported, but for"):
        export_onnx(net, tmp_path / "net.onnx")
