"""What detection and resizing layers compute, against short references written from their formulas."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection import boxes
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net
from tests.layer_cases import net_of

# --------------------------------------------------------------------------------------------- ROIPooling


def roi_max(x, region, out_h, out_w, scale):
    """One region's (C, PH, PW), bin after bin, in float32 as Caffe computes it."""
    f, (_, height, width) = np.float32, x.shape
    x1, y1, x2, y2 = (int(np.copysign(np.floor(abs(f(v) * f(scale)) + 0.5), v)) for v in region)
    bin_h, bin_w = f(max(y2 - y1 + 1, 1)) / f(out_h), f(max(x2 - x1 + 1, 1)) / f(out_w)
    y = np.zeros((len(x), out_h, out_w), x.dtype)
    for p, q in np.ndindex(out_h, out_w):
        rows = [
            np.clip(int(edge) + y1, 0, height) for edge in (np.floor(f(p) * bin_h), np.ceil(f(p + 1) * bin_h))
        ]
        cols = [
            np.clip(int(edge) + x1, 0, width) for edge in (np.floor(f(q) * bin_w), np.ceil(f(q + 1) * bin_w))
        ]
        pixels = x[:, rows[0] : rows[1], cols[0] : cols[1]]
        if pixels[0].size:
            y[:, p, q] = pixels.max(axis=(1, 2))
    return y


@pytest.mark.parametrize(("out_h", "out_w"), [(1, 1), (3, 4), (7, 7)])
@pytest.mark.parametrize("scale", [1.0, 0.0625, 0.13])
def test_roi_pooling_takes_the_maximum_of_each_bin(out_h, out_w, scale, rng):
    x = rng.standard_normal((3, 4, 11, 9)).astype(np.float32)
    corners = rng.uniform(-3, 14, (40, 4)) / scale
    regions = np.concatenate([rng.integers(0, 3, (40, 1)), corners], axis=1).astype(np.float32)
    param = f"pooled_h: {out_h}, pooled_w: {out_w}, spatial_scale: {scale}"
    net = net_of(f"type: ROIPooling, roi_pooling_param: {{{param}}}", x.shape, regions.shape)
    expected = [roi_max(x[int(r[0])], r[1:], out_h, out_w, scale) for r in regions]
    np.testing.assert_array_equal(net.forward(x0=x, x1=regions)["L"], np.array(expected))


def test_roi_pooling_of_many_regions_and_channels_is_cut_into_the_same_numbers(rng):
    x = rng.standard_normal((1, 130, 20, 17)).astype(np.float32)
    first = rng.uniform(0, 16, (70, 2))
    regions = np.concatenate([np.zeros((70, 1)), first, first + rng.uniform(0, 15, (70, 2))], axis=1)
    net = net_of("type: ROIPooling, roi_pooling_param: {pooled_h: 6, pooled_w: 5}", x.shape, regions.shape)
    expected = [roi_max(x[0], r[1:], 6, 5, 1) for r in regions]
    np.testing.assert_array_equal(net.forward(x0=x, x1=regions)["L"], np.array(expected))


def test_roi_pooling_sends_the_gradient_of_equal_pixels_to_the_first():
    net = net_of("type: ROIPooling, roi_pooling_param: {pooled_h: 1, pooled_w: 1}", (1, 1, 2, 2), (2, 5))
    net.forward(x0=np.ones((1, 1, 2, 2)), x1=[[0, 0, 0, 1, 1], [0, 1, 0, 1, 1]])
    gradient = net.backward(L=np.array([2, 3]).reshape(2, 1, 1, 1))["x0"]
    np.testing.assert_array_equal(gradient[0, 0], [[2, 3], [0, 0]])


# ---------------------------------------------------------------------------------------------- Normalize


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_normalize_brings_vectors_to_the_length_of_the_scale(across, shared, rng):
    x = rng.standard_normal((2, 5, 3, 4))
    param = f"across_spatial: {across}, channel_shared: {shared}, scale_filler: {{type: constant, value: 20}}"
    net = net_of(f"type: Normalize, norm_param: {{{param}}}", x.shape)
    length = np.sqrt((x**2).sum(axis=(1, 2, 3) if across else 1, keepdims=True))
    np.testing.assert_allclose(net.forward(x0=x)["L"], 20 * x / length, rtol=1e-5)


def test_normalize_of_zeros_is_zero():
    net = net_of("type: Normalize, norm_param: {across_spatial: false}", (1, 3, 2, 2))
    assert not net.forward(x0=np.zeros((1, 3, 2, 2)))["L"].any()


def test_normalize_of_more_numbers_than_a_core_caches_is_the_same(rng):
    x = rng.standard_normal((4, 40, 50, 60)).astype(np.float32)
    net = net_of("type: Normalize, norm_param: {across_spatial: false}", x.shape)
    np.testing.assert_allclose(net.forward(x0=x)["L"], x / np.sqrt((x**2).sum(1, keepdims=True)), rtol=1e-5)


# ------------------------------------------------------------------------------------------------- Interp


@pytest.mark.parametrize(
    ("shape", "settings", "size"),
    [
        ((2, 3, 5, 4), "zoom_factor: 4", (17, 13)),
        ((1, 2, 9, 7), "shrink_factor: 2", (5, 4)),
        ((1, 2, 9, 7), "shrink_factor: 2, zoom_factor: 3", (13, 10)),
        ((1, 2, 9, 7), "height: 5, width: 20", (5, 20)),
        ((1, 2, 9, 7), "height: 1, width: 3", (1, 3)),
        ((1, 2, 9, 7), "zoom_factor: 2, pad_beg: -1, pad_end: -2", (11, 7)),
        ((1, 2, 1, 3), "zoom_factor: 8", (1, 17)),
    ],
)
def test_interp_is_bilinear_with_its_corners_on_those_of_the_image(shape, settings, size, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    out = np.array(net_of(f"type: Interp, interp_param: {{{settings}}}", shape).forward(x0=x)["L"])
    if "pad_beg" in settings:
        x = x[:, :, 1:-2, 1:-2]
    assert out.shape == (*shape[:2], *size)
    rows, cols = (
        np.linspace(0, length - 1, n) if n > 1 else np.zeros(1)
        for length, n in zip(x.shape[2:], size, strict=True)
    )
    for (i, r), (j, c) in [(a, b) for a in enumerate(rows) for b in enumerate(cols)]:
        h, w = int(r + 1e-6), int(c + 1e-6)
        corner = x[:, :, h : h + 2, w : w + 2]
        down, across = (
            np.array([1 - v, v])[:n] for v, n in zip((r - h, c - w), corner.shape[2:], strict=True)
        )
        np.testing.assert_allclose(out[:, :, i, j], down @ corner @ across, rtol=1e-4, atol=1e-5)


def test_interp_of_two_bottoms_has_the_size_of_the_second(rng):
    net = net_of("type: Interp", (1, 2, 3, 3), (4, 1, 6, 7))
    assert net.blobs["L"].shape == (1, 2, 6, 7)
    x = rng.standard_normal((1, 2, 3, 3)).astype(np.float32)
    net.blobs["x1"].reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(net.forward(x0=x)["L"], x)


# ---------------------------------------------------------------------------------------- places and axes


def test_ceil_mode_of_forks_is_the_round_mode():
    param = "pooling_param: {kernel_size: 3, stride: 2, %s}"
    sizes = [
        net_of(f"type: Pooling, {param % mode}", (1, 1, 8, 8)).blobs["L"].shape[2]
        for mode in ("", "ceil_mode: true", "ceil_mode: false", "round_mode: FLOOR")
    ]
    assert sizes == [4, 4, 3, 3]
    with pytest.raises(mc.SpecError, match="ceil_mode: round_mode is given too; keep round_mode"):
        net_of(f"type: Pooling, {param % 'ceil_mode: false, round_mode: FLOOR'}", (1, 1, 8, 8))


def test_shuffle_channel_deals_groups_out():
    net = net_of("type: ShuffleChannel, shuffle_channel_param: {group: 2}", (1, 6))
    np.testing.assert_array_equal(net.forward(x0=[[0, 1, 2, 3, 4, 5]])["L"], [[0, 3, 1, 4, 2, 5]])


def test_upsample_repeats_pixels(rng):
    x = rng.standard_normal((2, 3, 2, 4)).astype(np.float32)
    out = net_of("type: Upsample, upsample_param: {scale: 3}", x.shape).forward(x0=x)["L"]
    np.testing.assert_array_equal(out, x.repeat(3, axis=2).repeat(3, axis=3))


def test_axpy_is_scale_and_sum(rng):
    a, x, b = rng.standard_normal((2, 3, 1, 1)), *rng.standard_normal((2, 2, 3, 4, 5))
    net = net_of("type: Axpy", a.shape, x.shape, b.shape)
    np.testing.assert_allclose(net.forward(x0=a, x1=x, x2=b)["L"], a * x + b, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------------------------- PriorBox

SIZES = "min_size: 60, max_size: 111, aspect_ratio: [2, 3], variance: [0.1, 0.1, 0.2, 0.2]"


def priors_of(settings, feature=(2, 8, 3, 2), image=(2, 3, 300, 200)):
    return np.array(net_of(f"type: PriorBox, prior_box_param: {{{settings}}}", feature, image).forward()["L"])


def test_prior_box_is_that_of_ssd():
    out = priors_of(SIZES)
    assert out.shape == (1, 2, 3 * 2 * 6 * 4)
    boxes_there, variances = out.reshape(2, 3, 2, 6, 4)
    root2, root3 = np.sqrt(2), np.sqrt(3)
    widths = [60, np.sqrt(60 * 111), 60 * root2, 60 / root2, 60 * root3, 60 / root3]
    heights = [60, np.sqrt(60 * 111), 60 / root2, 60 * root2, 60 / root3, 60 * root3]
    for row, col, k in np.ndindex(3, 2, 6):
        x, y = (col + 0.5) * 100, (row + 0.5) * 100
        expected = [x - widths[k] / 2, y - heights[k] / 2, x + widths[k] / 2, y + heights[k] / 2]
        np.testing.assert_allclose(
            boxes_there[row, col, k], np.array(expected) / [200, 300, 200, 300], rtol=1e-5
        )
    np.testing.assert_allclose(variances, np.broadcast_to([0.1, 0.1, 0.2, 0.2], variances.shape), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ("min_size: 30", 1),
        ("min_size: 30, aspect_ratio: [2, 2, 1, 0.5]", 3),
        ("min_size: 30, aspect_ratio: [2, 3], flip: false", 3),
        ("min_size: [30, 60], max_size: [60, 90], aspect_ratio: 2", 8),
    ],
)
def test_prior_box_counts_each_ratio_once(settings, count):
    assert priors_of(settings).shape == (1, 2, 3 * 2 * count * 4)


def test_prior_box_takes_given_sizes_steps_and_offset():
    out = priors_of("min_size: 10.9, img_h: 100, img_w: 50, step_h: 20, step_w: 10, offset: 0, clip: true")
    got = out[0, 0].reshape(3, 2, 4)[2, 1]
    np.testing.assert_allclose(
        got, [5 / 50, 35 / 100, 15 / 50, 45 / 100], rtol=1e-6
    )  # 10.9 pixels count as 10
    assert out[0, 0].min() == 0 and out[0, 1].max() == np.float32(0.1)
    np.testing.assert_array_equal(
        priors_of("min_size: 9, img_size: 64, step: 8")[0, 0, :2], [-0.5 / 64, -0.5 / 64]
    )


def test_prior_box_gets_no_gradient():
    text = layer_net(f"type: PriorBox, prior_box_param: {{{SIZES}}}", [(1, 8, 3, 2), (1, 3, 30, 20)])
    net = mc.Net(parse_net(text))
    net.forward()
    assert net.backward() == {}


# ---------------------------------------------------------------------------------------- DetectionOutput


def decode_one(code, offset, prior):
    """One box, written out."""
    (x1, y1, x2, y2), (a, b, c, d) = prior, offset
    w, h = x2 - x1, y2 - y1
    if code == "CORNER":
        return [x1 + a, y1 + b, x2 + c, y2 + d]
    if code == "CORNER_SIZE":
        return [x1 + a * w, y1 + b * h, x2 + c * w, y2 + d * h]
    x, y, w, h = (x1 + x2) / 2 + a * w, (y1 + y2) / 2 + b * h, w * np.exp(c), h * np.exp(d)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def overlap_of(p, q):
    w, h = min(p[2], q[2]) - max(p[0], q[0]), min(p[3], q[3]) - max(p[1], q[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - w * h)


def suppress_one_by_one(candidates, scores, least, threshold, eta, top_k):
    """ApplyNMSFast of SSD's bbox_util.cpp, in words of Python."""
    order = sorted([i for i in range(len(scores)) if scores[i] > least], key=lambda i: -scores[i])
    kept = []
    for i in order[:top_k] if top_k >= 0 else order:
        if all(overlap_of(candidates[i], candidates[j]) <= threshold for j in kept):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def detect(
    locations, confidences, priors, code, encoded, shared, least, threshold, eta, top_k, keep, background
):
    """The rows of DetectionOutput, by the book."""
    images, count = len(locations), len(priors[0])
    classes = confidences.shape[1] // count
    rows = []
    for n in range(images):
        found = []
        for k in range(classes):
            if k == background:
                continue
            own = locations[n].reshape(count, -1, 4)[:, 0 if shared else k]
            scaled = own if encoded else own * priors[1]
            candidates = [decode_one(code, o, p) for o, p in zip(scaled, priors[0], strict=True)]
            scores = confidences[n].reshape(count, classes)[:, k]
            kept = suppress_one_by_one(candidates, scores, least, threshold, eta, top_k)
            found += [[n, k, scores[i], *candidates[i]] for i in kept]
        if 0 <= keep < len(found):
            best = sorted(range(len(found)), key=lambda i: -found[i][2])[:keep]
            found = [found[i] for i in sorted(best)]
        rows += found
    return np.array(rows).reshape(-1, 7)


CASES = [
    ("CENTER_SIZE", False, True, 0.01, 0.45, 1.0, 400, 200, 0),
    ("CENTER_SIZE", False, True, 0.3, 0.45, 1.0, 9, 5, 0),
    ("CENTER_SIZE", True, False, 0.2, 0.3, 1.0, -1, -1, 0),
    ("CORNER", False, False, 0.1, 0.5, 1.0, 20, 30, 2),
    ("CORNER_SIZE", False, True, 0.1, 0.6, 0.8, -1, 12, -1),
    ("CORNER", True, True, 0.0, 0.9, 0.7, -1, -1, 0),
    ("CENTER_SIZE", False, True, 2.0, 0.45, 1.0, 400, 200, 0),
]


def detection_inputs(rng, shared, images=3, count=40, classes=4):
    centre, size = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.1, 0.5, (count, 2))
    prior = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    priors = np.stack([prior, np.broadcast_to([0.1, 0.1, 0.2, 0.2], prior.shape)])
    locations = rng.standard_normal((images, count * 4 * (1 if shared else classes))) * 0.2
    return locations, rng.random((images, count * classes)), priors


@pytest.mark.parametrize(
    ("code", "encoded", "shared", "least", "threshold", "eta", "top_k", "keep", "back"), CASES
)
def test_detection_output_is_that_of_ssd(
    code, encoded, shared, least, threshold, eta, top_k, keep, back, rng
):
    locations, confidences, priors = detection_inputs(rng, shared)
    param = (
        f"num_classes: 4, share_location: {shared}, background_label_id: {back}, code_type: {code}, "
        f"nms_param: {{nms_threshold: {threshold}, top_k: {top_k}, eta: {eta}}}, keep_top_k: {keep}, "
        f"confidence_threshold: {least}, variance_encoded_in_target: {encoded}"
    )
    shapes = [locations.shape, confidences.shape, (1, 2, priors[0].size)]
    net = net_of(f"type: DetectionOutput, detection_output_param: {{{param}}}", *shapes, dtype="float64")
    out = net.forward(x0=locations, x1=confidences, x2=priors.reshape(1, 2, -1))["L"]
    expected = detect(
        locations, confidences, priors, code, encoded, shared, least, threshold, eta, top_k, keep, back
    )
    if not len(expected):
        expected = [[n, *[-1] * 6] for n in range(3)]  # nothing found: a row for each image says so
    assert out.shape[:2] == (1, 1)
    np.testing.assert_allclose(out[0, 0], expected, rtol=1e-10)


@pytest.mark.parametrize("moves", [False, True])
def test_detection_output_of_refinedet_starts_from_what_a_first_detector_has_found(moves, rng):
    locations, confidences, priors = detection_inputs(rng, True)
    objectness, first = rng.random((3, 40, 2)), rng.standard_normal((3, 40, 4)) * 0.3
    param = (
        "num_classes: 4, code_type: CENTER_SIZE, nms_param: {nms_threshold: 0.45, top_k: 30}, keep_top_k: 25, "
        "confidence_threshold: 0.2, objectness_score: 0.4"
    )
    given = [locations, confidences, priors.reshape(1, 2, -1), objectness.reshape(3, -1)]
    given += [first.reshape(3, -1)] if moves else []
    layer = f"type: DetectionOutput, detection_output_param: {{{param}}}"
    net = net_of(layer, *(x.shape for x in given), dtype="float64")
    out = net.forward(**{f"x{i}": x for i, x in enumerate(given)})["L"]
    rows = []
    for n in range(3):
        found = confidences[n].reshape(40, 4) * (objectness[n, :, 1:] >= 0.4)
        moved = [
            decode_one("CENTER_SIZE", *pair) for pair in zip(first[n] * priors[1], priors[0], strict=True)
        ]
        own = np.stack([moved if moves else priors[0], priors[1]])
        case = "CENTER_SIZE", False, True, 0.2, 0.45, 1.0, 30, 25, 0
        rows.append(detect(locations[n : n + 1], found.reshape(1, -1), own, *case))
        rows[-1][:, 0] = n
    np.testing.assert_allclose(out[0, 0], np.concatenate(rows), rtol=1e-10)


def test_an_image_to_draw_on_is_no_first_detector(rng):
    locations, confidences, priors = detection_inputs(rng, True)
    param = "num_classes: 4, confidence_threshold: 0.5"
    given = [locations, confidences, priors.reshape(1, 2, -1), np.zeros((3, 3, 9, 9))]
    layer = f"type: DetectionOutput, detection_output_param: {{{param}}}"
    with_image, without = (
        net_of(layer, *(x.shape for x in some)).forward(**{f"x{i}": x for i, x in enumerate(some)})["L"]
        for some in (given, given[:3])
    )
    np.testing.assert_array_equal(with_image, without)


def test_detection_output_changes_its_size_from_batch_to_batch():
    param = "num_classes: 3, nms_param: {nms_threshold: 0.45}, confidence_threshold: 0.5"
    net = net_of(f"type: DetectionOutput, detection_output_param: {{{param}}}", (1, 8), (1, 6), (1, 2, 8))
    priors = [[[0, 0, 0.4, 0.4, 0.5, 0.5, 1, 1], [0.1] * 8]]
    sizes = []
    for confidences in ([[0, 0.9, 0, 0, 0.8, 0.7]], [[0, 0.9, 0, 1, 0, 0]], [[1, 0, 0, 1, 0, 0]]):
        sizes.append(net.forward(x1=confidences, x2=priors)["L"].shape[2])
    assert sizes == [3, 1, 1]


def test_a_box_is_kept_unless_it_overlaps_a_kept_one_too_much():
    there = np.array([[0, 0, 2, 2], [0, 0, 2, 1.9], [1, 0, 3, 2], [5, 5, 6, 6], [4, 4, 3, 3]], np.float32)
    assert boxes.suppress(there, 0.5).tolist() == [0, 2, 3, 4]
    assert boxes.suppress(there, 0.3).tolist() == [0, 3, 4]
    assert boxes.suppress(there, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert boxes.suppress(there[:0], 0.5).tolist() == []


def test_boxes_with_corners_the_wrong_way_round_have_no_area():
    assert boxes.areas(np.array([[1, 1, 0, 2], [0, 0, 2, 3]])).tolist() == [0, 6]


WRONG = [
    ("type: PriorBox", [(1, 1, 2, 2)] * 2, "min_size: required"),
    (
        "type: PriorBox, prior_box_param: {min_size: 3, max_size: 2}",
        [(1, 1, 2, 2)] * 2,
        "must be larger than min_size",
    ),
    (
        "type: PriorBox, prior_box_param: {min_size: [3, 4], max_size: 5}",
        [(1, 1, 2, 2)] * 2,
        "max_size: 1 for 2",
    ),
    (
        "type: PriorBox, prior_box_param: {min_size: 3, variance: [1, 2]}",
        [(1, 1, 2, 2)] * 2,
        "variance: 2 given",
    ),
    (
        "type: PriorBox, prior_box_param: {min_size: 3, img_h: 9}",
        [(1, 1, 2, 2)] * 2,
        "img_w: required with img_h",
    ),
    (
        "type: PriorBox, prior_box_param: {min_size: 3, step: 1, step_w: 9}",
        [(1, 1, 2, 2)] * 2,
        "step: step_w is given",
    ),
    ("type: PriorBox, prior_box_param: {min_size: 3}", [(1, 1, 2), (1, 1, 2, 2)], "'x0' has shape"),
    ("type: DetectionOutput", [(1, 8), (1, 6), (1, 2, 8)], "num_classes: required"),
    (
        "type: DetectionOutput, detection_output_param: {num_classes: 3}",
        [(1, 8), (1, 6), (1, 2, 8), (1, 4), (1, 6)],
        r"bottoms of the first detector have shapes \(1, 4\) and \(1, 6\); expected \(1, 4\) and \(1, 8\)",
    ),
    (
        "type: DetectionOutput, detection_output_param: {num_classes: 3}",
        [(1, 8), (1, 6), (1, 1, 8)],
        r"priors have shape \(1, 1, 8\)",
    ),
    (
        "type: DetectionOutput, detection_output_param: {num_classes: 3}",
        [(1, 9), (1, 6), (1, 2, 8)],
        "locations have shape .* expected 8",
    ),
    (
        "type: DetectionOutput, detection_output_param: {num_classes: 3}",
        [(2, 8), (1, 6), (1, 2, 8)],
        "confidences have shape",
    ),
    (
        "type: DetectionOutput, detection_output_param: {num_classes: 3, share_location: false}",
        [(1, 8), (1, 6), (1, 2, 8)],
        "locations have shape .* expected 24",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


def test_with_a_threshold_above_one_no_box_is_suppressed():
    """As in SSD's Caffe."""
    param = "{num_classes: 2, nms_param: {nms_threshold: 4}, confidence_threshold: 0.1}"
    net = net_of(f"type: DetectionOutput, detection_output_param: {param}", (1, 8), (1, 4), (1, 2, 8))
    net.blobs[net.inputs[1]].data[...] = 0.5
    net.blobs[net.inputs[2]].data[0, 0] = [0, 0, 1, 1] * 2
    (found,) = net.forward().values()
    assert found.shape == (1, 1, 2, 7)
