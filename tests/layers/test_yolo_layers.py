"""YOLO's layers, against references written from the formulas of darknet and its Caffe, and against OpenCV."""

import struct

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def darknet(shape, layer):
    """OpenCV's net of one darknet layer for inputs of a shape."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    _, channels, height, width = shape
    text = f"[net]\nbatch=1\nchannels={channels}\nheight={height}\nwidth={width}\n\n{layer}\n"
    weights = struct.pack("<iiii", 0, 1, 0, 0)  # a version, and no weight
    return cv2.dnn.readNetFromDarknet(*(np.frombuffer(b, np.uint8) for b in (text.encode(), weights)))


# ------------------------------------------------------------------------------------------------- Reorg

REORGS = [((1, 4, 2, 2), 2), ((2, 8, 4, 6), 2), ((3, 9, 3, 6), 3), ((2, 3, 5, 4), 1), ((1, 64, 26, 26), 2)]


def darknet_order(channels, height, width, stride):
    """Of each number of an array (C, H, W), the place in one (C / s², s · H, s · W)."""
    places = np.empty((channels, height, width), int)
    few = channels // stride**2
    for k, j, i in np.ndindex(places.shape):
        offset, c = divmod(k, few)
        row, column = stride * j + offset // stride, stride * i + offset % stride
        places[k, j, i] = column + width * stride * (row + height * stride * c)
    return places.ravel()


@pytest.mark.parametrize(("shape", "stride"), REORGS)
def test_reorg_moves_numbers_as_darknet_does(shape, stride, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    n, c, h, w = shape
    y = np.array([image.ravel()[darknet_order(c, h, w, stride)] for image in x])
    if h % stride == w % stride == 0:
        net = net_of(f"type: Reorg, reorg_param: {{stride: {stride}}}", shape)
        out = np.array(net.forward(x0=x)["L"])
        assert out.shape == (n, c * stride**2, h // stride, w // stride)
        np.testing.assert_array_equal(out.reshape(n, -1), y)
    net = net_of(f"type: Reorg, reorg_param: {{stride: {stride}, reverse: true}}", shape)
    out = np.array(net.forward(x0=x)["L"])
    assert out.shape == (n, c // stride**2, h * stride, w * stride)
    np.testing.assert_array_equal(out.reshape(n, -1)[:, darknet_order(c, h, w, stride)], x.reshape(n, -1))


@pytest.mark.parametrize(("shape", "stride"), REORGS[1:])
def test_reorg_is_that_of_opencv(shape, stride, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    if shape[2] % stride or shape[3] % stride:
        shape = (*shape[:2], 2 * stride, stride)
        x = rng.standard_normal(shape).astype(np.float32)
    other = darknet(shape, f"[reorg]\nstride={stride}")
    other.setInput(x)
    net = net_of(f"type: Reorg, reorg_param: {{stride: {stride}}}", shape)
    np.testing.assert_array_equal(net.forward(x0=x)["L"], other.forward())


def test_reorg_keeps_pixels_of_a_block_apart():
    x = np.arange(16).reshape(1, 4, 2, 2)
    out = net_of("type: Reorg, reorg_param: {stride: 2}", x.shape).forward(x0=x)["L"]
    np.testing.assert_array_equal(
        np.array(out).ravel(), [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    )


@pytest.mark.parametrize("reverse", ["true", "false"])
@pytest.mark.parametrize("shape", [(2, 8, 4, 2), (1, 4, 2, 6)])
def test_reorg_passes_gradients_back_to_where_numbers_came_from(reverse, shape):
    check_gradients(f"type: Reorg, reorg_param: {{stride: 2, reverse: {reverse}}}", [shape])


# --------------------------------------------------------------------------------- Yolov3DetectionOutput

BIASES = [10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319]
V3 = (
    "type: Yolov3DetectionOutput, yolov3_detection_output_param: {num_classes: 3, anchors_scale: [32, 16], "
    f"mask: [3, 4, 5, 0, 1, 2], biases: {BIASES}, confidence_threshold: %s, nms_threshold: %s}}"
)
V3_SHAPES = [(2, 24, 3, 4), (2, 24, 6, 8)]


def overlap(a, b):
    """Intersection over union of two boxes of corners."""
    sides = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return sides.prod() / (sum(areas) - sides.prod())


def suppressed(candidates, threshold):
    """Of (confidence, label, corners) those that stay, best first."""
    kept = []
    for candidate in sorted(candidates, key=lambda c: -c[0]):
        if all(overlap(candidate[2], other[2]) < threshold for other in kept):
            kept.append(candidate)
    return kept


def rows_of(batch, threshold):
    rows = [
        [image, label, confidence, *corners]
        for image, candidates in enumerate(batch)
        for confidence, label, corners in suppressed(candidates, threshold)
    ]
    return rows or [[image] + [-1] * 6 for image in range(len(batch))]


def corners_of(x, y, w, h):
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def v3_candidates(grids, image, threshold, masks=((3, 4, 5), (0, 1, 2)), scales=(32, 16), classes=3):
    """All boxes of an image with a label whose confidence is above the threshold."""
    for grid, mask, scale in zip(grids, masks, scales, strict=True):
        _, _, height, width = grid.shape
        for n, i, j in np.ndindex(len(mask), height, width):
            p = grid[image, n * (5 + classes) : (n + 1) * (5 + classes), i, j]
            w, h = (
                np.exp(p[2:4])
                * [BIASES[2 * mask[n]], BIASES[2 * mask[n] + 1]]
                / [width * scale, height * scale]
            )
            box = corners_of((j + sigmoid(p[0])) / width, (i + sigmoid(p[1])) / height, w, h)
            for k in range(classes):
                confidence = sigmoid(p[4]) * sigmoid(p[5 + k])
                if confidence > threshold:
                    yield confidence, k + 1, box


@pytest.mark.parametrize(("confidence", "nms"), [(0.5, 0.45), (0.01, 0.2), (0.3, 0.9), (0.99999, 0.45)])
def test_yolov3_keeps_the_best_of_boxes_that_overlap_whatever_their_labels(confidence, nms, rng):
    grids = [rng.standard_normal(shape) * 2 for shape in V3_SHAPES]
    net = net_of(V3 % (confidence, nms), *V3_SHAPES, dtype="float64")
    out = np.array(net.forward(x0=grids[0], x1=grids[1])["L"])[0, 0]
    expected = rows_of([list(v3_candidates(grids, image, confidence)) for image in (0, 1)], nms)
    np.testing.assert_allclose(out, expected, rtol=1e-10)
    assert len(out) > 5 or confidence > 0.9


def test_yolov3_finds_one_box_where_the_net_says_so():
    grids = [np.full(shape, -20.0) for shape in V3_SHAPES]
    grids[1][1, 8:16, 2, 5] = [
        0,
        0,
        0,
        0,
        20,
        -20,
        20,
        0,
    ]  # image 1, anchor 1 of the fine grid, column 5, row 2
    out = np.array(net_of(V3 % (0.1, 0.45), *V3_SHAPES).forward(x0=grids[0], x1=grids[1])["L"])[0, 0]
    box = corners_of(5.5 / 8, 2.5 / 6, 23 / 128, 27 / 96)
    np.testing.assert_allclose(out, [[1, 2, 1, *box]], rtol=1e-6)


def test_yolov3_makes_the_boxes_of_opencv(rng):
    shape, anchors = (1, 24, 4, 6), [1, 2, 3, 1, 2.5, 2]
    layer = f"mask=0,1,2\nanchors={str(anchors)[1:-1]}\nclasses=3\nnum=3\nthresh=0\nnms_threshold=0"
    other = darknet(shape, f"[yolo]\n{layer}")
    x = rng.standard_normal(shape).astype(np.float32)
    other.setInput(x)
    x_y_w_h, _, confidences = np.split(other.forward(), [4, 5], axis=1)
    best = confidences.max(axis=1)
    param = f"num_classes: 3, mask_group_num: 1, anchors_scale: 1, mask: [0, 1, 2], biases: {anchors}"
    net = net_of(
        f"type: Yolov3DetectionOutput, yolov3_detection_output_param: {{{param}, nms_threshold: 1}}", shape
    )
    out = np.array(net.forward(x0=x)["L"])[0, 0]
    order = np.argsort(-best)
    np.testing.assert_allclose(out[:, 2], best[order], rtol=1e-5)
    np.testing.assert_array_equal(out[:, 1], 1 + confidences.argmax(axis=1)[order])
    np.testing.assert_allclose(out[:, 3:], corners_of(*x_y_w_h[order].T).T, rtol=1e-5, atol=1e-6)


def test_yolov3_takes_uncertain_boxes_of_gaussian_yolo_for_less_likely(rng):
    shape = (2, 2 * 11, 3, 2)
    x = rng.standard_normal(shape)
    param = (
        "num_classes: 2, num_box: 2, mask_group_num: 1, anchors_scale: 8, mask: [0, 1], biases: [5, 7, 9, 4]"
    )
    text = f"type: Yolov3DetectionOutput, yolov3_detection_output_param: {{{param}, gaussian_box: true}}"
    out = np.array(net_of(text, shape, dtype="float64").forward(x0=x)["L"])[0, 0]
    batch = []
    for image in (0, 1):
        candidates = []
        for n, i, j in np.ndindex(2, 3, 2):
            p = x[image, 11 * n : 11 * n + 11, i, j]
            w, h = np.exp(p[[4, 6]]) * [(5, 7), (9, 4)][n] / [16, 24]
            box = corners_of((j + sigmoid(p[0])) / 2, (i + sigmoid(p[2])) / 3, w, h)
            sure = sigmoid(p[8]) * (1 - sigmoid(p[[1, 3, 5, 7]]).mean())
            candidates += [(sure * sigmoid(p[9 + k]), 1 + k, box) for k in (0, 1)]
        batch.append([c for c in candidates if c[0] > 0.01])
    np.testing.assert_allclose(out, rows_of(batch, 0.45), rtol=1e-10)


def test_yolov3_takes_the_first_anchors_of_each_part_of_the_mask(rng):
    """Three masks for each grid of two anchors: the third is not used."""
    grids = [rng.standard_normal((2, 16, *shape[2:])) * 2 for shape in V3_SHAPES]
    text = (V3 % (0.3, 0.45)).replace("num_classes", "num_box: 2, num_classes")
    out = net_of(text, *(grid.shape for grid in grids), dtype="float64").forward(x0=grids[0], x1=grids[1])[
        "L"
    ]
    batch = [list(v3_candidates(grids, image, 0.3, masks=((3, 4), (0, 1)))) for image in (0, 1)]
    np.testing.assert_allclose(out[0, 0], rows_of(batch, 0.45), rtol=1e-10)


def test_a_confidence_at_the_threshold_is_enough_for_yolov2_but_not_for_yolov3():
    """Of zeros p is 1/2; v3 has a label's sigmoid too, of 1/2."""
    x, boxes = np.zeros((1, 6, 1, 1)), "num_classes: 1, num_box: 1, biases: [1, 1]"
    v3 = f"mask_group_num: 1, anchors_scale: 1, mask: 0, {boxes}"
    for kind, param, threshold, found in (
        ("YoloDetectionOutput", f"yolo_detection_output_param: {{{boxes}", 0.5, True),
        ("YoloDetectionOutput", f"yolo_detection_output_param: {{{boxes}", 0.500001, False),
        ("Yolov3DetectionOutput", f"yolov3_detection_output_param: {{{v3}", 0.25, False),
        ("Yolov3DetectionOutput", f"yolov3_detection_output_param: {{{v3}", 0.249999, True),
    ):
        net = net_of(f"type: {kind}, {param}, confidence_threshold: {threshold}}}", x.shape)
        assert (net.forward(x0=x)["L"][0, 0, 0, 1] == 1) == found


def test_yolo_boxes_of_equal_overlap_as_the_threshold_go():
    """Two boxes of the size of a cell, half a cell apart, overlap by 1/3 of their union."""
    param = "num_classes: 1, num_box: 1, mask_group_num: 1, anchors_scale: 1, mask: 0, biases: [1, 1]"
    x = np.zeros((1, 6, 1, 2))
    x[0, 0] = [[-50, -50]]
    x[0, 2] = [[np.log(2), np.log(2)]]  # both 2 cells wide, 1 cell apart
    for threshold, left in (("0.3333333333333333", 1), ("0.33333333333333337", 2), ("0.4", 2), ("0", 1)):
        message = f"{{{param}, nms_threshold: {threshold}}}"
        text = f"type: Yolov3DetectionOutput, yolov3_detection_output_param: {message}"
        net = net_of(text, x.shape, dtype="float64")
        assert net.forward(x0=x)["L"].shape[2] == left


# ----------------------------------------------------------------------------------- YoloDetectionOutput

V2 = (
    "type: YoloDetectionOutput, yolo_detection_output_param: {num_classes: 3, num_box: 2, "
    "biases: [1.5, 0.5, 1, 2], confidence_threshold: %s, nms_threshold: %s}"
)


def v2_candidates(grids, image, threshold):
    for grid in grids:
        _, _, height, width = grid.shape
        for n, i, j in np.ndindex(2, height, width):
            p = grid[image, n * 8 : n * 8 + 8, i, j]
            w, h = np.exp(p[2:4]) * [(1.5, 0.5), (1, 2)][n] / [width, height]
            classes = np.exp(p[5:]) / np.exp(p[5:]).sum()
            confidence = sigmoid(p[4]) * classes.max()
            if confidence >= threshold:
                box = corners_of((j + sigmoid(p[0])) / width, (i + sigmoid(p[1])) / height, w, h)
                yield confidence, 1 + classes.argmax(), box


@pytest.mark.parametrize("shapes", [[(1, 16, 3, 3)], [(2, 16, 4, 3), (2, 16, 8, 6)]])
@pytest.mark.parametrize(("confidence", "nms"), [(0.3, 0.45), (0.01, 0.2), (0.99999, 0.45)])
def test_yolov2_keeps_the_best_label_of_each_box(shapes, confidence, nms, rng):
    grids = [rng.standard_normal(shape) * 2 for shape in shapes]
    net = net_of(V2 % (confidence, nms), *shapes, dtype="float64")
    out = np.array(net.forward(**{f"x{i}": grid for i, grid in enumerate(grids)})["L"])[0, 0]
    batch = [list(v2_candidates(grids, image, confidence)) for image in range(len(grids[0]))]
    np.testing.assert_allclose(out, rows_of(batch, nms), rtol=1e-10)


def test_yolov2_makes_the_boxes_of_opencv(rng):
    """Of boxes too small to overlap, since OpenCV leaves out others of the same label."""
    shape = (1, 16, 4, 6)
    other = darknet(shape, "[region]\nanchors=0.01,0.02,0.02,0.01\nclasses=3\nnum=2\nsoftmax=1\nthresh=0")
    x = rng.standard_normal(shape).astype(np.float32)
    other.setInput(x)
    x_y_w_h, _, confidences = np.split(other.forward(), [4, 5], axis=1)
    best = confidences.max(axis=1)
    text = (V2 % (0, 0.45)).replace("1.5, 0.5, 1, 2", "0.01, 0.02, 0.02, 0.01")
    out = np.array(net_of(text, shape).forward(x0=x)["L"])[0, 0]
    order = np.argsort(-best)
    np.testing.assert_allclose(out[:, 2], best[order], rtol=1e-5)
    np.testing.assert_array_equal(out[:, 1], 1 + confidences.argmax(axis=1)[order])
    np.testing.assert_allclose(out[:, 3:], corners_of(*x_y_w_h[order].T).T, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------- SegmentationEvaluate


def test_masks_are_scored_by_the_pixels_that_they_share_with_the_truth(rng):
    scores, truths = rng.random((2, 4, 5, 6)), rng.random((2, 4, 5, 6))
    truths[:, 1] = 0
    scores[:, 2], truths[:, 2] = 0, 0
    param = "segmentation_evaluate_param: {num_classes: 4, threshold: 0.3}"
    net = net_of(f"type: SegmentationEvaluate, {param}", scores.shape, truths.shape, phase="test")
    out = np.array(net.forward(x0=scores, x1=truths)["L"])
    assert out.shape == (1, 1, 1, 4)
    found, true = (np.moveaxis(blob, 1, 0).astype(np.float32) > np.float32(0.3) for blob in (scores, truths))
    expected = [
        sum(a and b for a, b in pairs) / max(1, sum(a or b for a, b in pairs))
        for pairs in (list(zip(f.ravel(), t.ravel(), strict=True)) for f, t in zip(found, true, strict=True))
    ]
    np.testing.assert_allclose(out[0, 0, 0], expected, rtol=1e-6)
    assert 0 < expected[0] < 1 and expected[1] == expected[2] == 0


@pytest.mark.parametrize(
    ("threshold", "value"), [("", 0.5), (", threshold: 0", 0), (", threshold: 0.25", 0.25)]
)
def test_a_pixel_counts_above_the_threshold_which_is_one_half_by_default(threshold, value):
    text = f"type: SegmentationEvaluate, segmentation_evaluate_param: {{num_classes: 1{threshold}}}"
    net = net_of(text, (1, 1, 1, 4), (1, 1, 1, 4), dtype="float64")
    scores, truths = np.array([0, 0.1, 0.1, 0.1]), np.array([0, 0, 0.1, 0.1])
    assert net.forward(x0=[[[value + scores]]], x1=[[[value + truths]]])["L"].item() == pytest.approx(2 / 3)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (V3 % (0.1, 0.5), [(0, 24, 3, 4), (0, 24, 6, 8)]),
        (V2 % (0.1, 0.5), [(0, 16, 3, 3)]),
        ("type: Reorg, reorg_param: {stride: 2}", [(0, 4, 2, 2)]),
        ("type: Reorg, reorg_param: {stride: 2, reverse: true}", [(0, 4, 2, 0)]),
        ("type: SegmentationEvaluate, segmentation_evaluate_param: {num_classes: 2}", [(0, 2, 3, 3)] * 2),
    ],
)
def test_of_no_images_nothing_is_found(layer, shapes):
    assert not np.any(net_of(layer, *shapes).forward()["L"])


ERRORS = [
    ("type: Reorg", [(1, 4, 2, 2)], "stride: required"),
    (
        "type: SegmentationEvaluate, segmentation_evaluate_param: {num_classes: 2}",
        [(1, 2, 3, 3), (1, 2, 6, 6)],
        r"truths \(1, 2, 6, 6\); expected one \(N, C, …\)",
    ),
    ("type: Reorg, reorg_param: {stride: 2}", [(1, 4, 2)], "expected 4 axes"),
    (
        "type: Reorg, reorg_param: {stride: 2}",
        [(1, 6, 2, 2)],
        "stride: 2² = 4 does not divide the bottom's 6 channels",
    ),
    ("type: Reorg, reorg_param: {stride: 2}", [(1, 4, 3, 2)], "2 does not divide the bottom's 3 × 2 pixels"),
    (V3 % (0.1, 0.5), [(1, 24, 3, 4)], "mask_group_num: 2, but 1 bottoms are given"),
    (
        V3 % (0.1, 0.5),
        [(1, 24, 3, 4), (1, 23, 6, 8)],
        r"'x1' has shape \(1, 23, 6, 8\); expected \(N, 3 · 8, H, W\)",
    ),
    (V3 % (0.1, 0.5), [(1, 24, 3, 4), (1, 24, 0, 8)], r"'x1' has shape \(1, 24, 0, 8\); expected"),
    (V2 % (0.1, 0.5), [(1, 16, 3, 0)], r"'x0' has shape \(1, 16, 3, 0\); expected"),
    (V3 % (0.1, 0.5), [(1, 24, 3, 4), (2, 24, 6, 8)], "with one N for all bottoms"),
    (V3 % (0.1, -0.5), V3_SHAPES, "nms_threshold: -0.5 is out of range"),
    (V3.replace("[32, 16]", "32") % (0.1, 0.5), V3_SHAPES, "anchors_scale: 1 given for 2 grids"),
    (V3.replace("[3, 4, 5, 0", "[3, 4, 0") % (0.1, 0.5), V3_SHAPES, "mask: 5 given; expected 3 .* × 2 grids"),
    (V3.replace("[3,", "[6,") % (0.1, 0.5), V3_SHAPES, "mask: 6 is no anchor: 12 biases are 6"),
    (V3.replace("num_classes: 3, ", "") % (0.1, 0.5), V3_SHAPES, r"expected \(N, 3 · 25, H, W\)"),
    (V2 % (0.1, 0.5), [(1, 15, 3, 3)], r"expected \(N, 2 · 8, H, W\)"),
    (
        V2.replace("2]", "]") % (0.1, 0.5),
        [(1, 16, 3, 3)],
        "biases: 3 given; expected a width and a height for each of 2",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), ERRORS)
def test_what_does_not_fit_is_told_in_one_line(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=problem) as error:
        net_of(layer, *shapes)
    assert "\n" not in str(error.value)
