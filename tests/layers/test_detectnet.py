"""DetectNet's data layer: what becomes of pictures, against OpenCV, and of boxes, against a grid of cells."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.augmentation import detectnet
from minicaffe.errors import DataError, ShapeError, SpecError
from tests.layer_cases import net_of

try:
    import cv2
except ImportError:
    cv2 = None
needs_opencv = pytest.mark.skipif(cv2 is None, reason="needs OpenCV")
needs_numpy = pytest.mark.cpu_only("of functions on the host")

# ------------------------------------------------------------------------------------------------ the grid


def grid_of(boxes, width, height, stride, scale, limit, kind, normed, cut, classes):
    """The grid of boxes (x, y, w, h, class): every cell of every box."""
    grid = np.zeros((9 + max(classes.values()), round(height / stride), round(width / stride)))
    for x, y, w, h, number in boxes:
        if cut:
            left, top = max(x, 0), max(y, 0)
            w, h, x, y = min(x + w, width) - left, min(y + h, height) - top, left, top
        if number not in classes or w <= 0 or h <= 0:
            continue
        sides = [
            min(side, max(limit, scale * side)) if kind == "GRIDBOX_MIN" else min(limit, scale * side)
            for side in (w, h)
        ]
        x0, y0 = x + w / 2 - sides[0] / 2, y + h / 2 - sides[1] / 2
        for i, j in np.ndindex(grid.shape[1:]):
            across = min(x0 + sides[0], (j + 1) * stride) - max(x0, j * stride)
            down = min(y0 + sides[1], (i + 1) * stride) - max(y0, i * stride)
            if across > 0 and down > 0 and across * down / stride**2 > 1e-6:
                density = stride**2 / sides[0] / sides[1]
                there = [x - j * stride, y - i * stride, x + w - j * stride, y + h - i * stride]
                grid[:, i, j] = 0
                grid[:8, i, j] = [1, *there, 1 / w, 1 / h, density if normed else max(1, density)]
                grid[8 + classes[number], i, j] = 1
    return grid


def labels_of(*pictures, rows=5):
    """Labels (N, 1, rows, 16) of lists of boxes (x, y, w, h, class)."""
    labels = np.zeros((len(pictures), 1, rows, 16), np.float32)
    for n, boxes in enumerate(pictures):
        labels[n, 0, 0, :2] = len(boxes), 16
        for i, (*box, number) in enumerate(boxes, start=1):
            labels[n, 0, i, :4], labels[n, 0, i, 5] = box, number
    return labels


def layer(size=(24, 16), more="", **fields):
    given = "".join(f", {name}: {value}" for name, value in fields.items())
    return (
        "type: DetectNetTransformation, top: [pictures, grid], "
        f"detectnet_groundtruth_param: {{image_size_x: {size[0]}, image_size_y: {size[1]}{given}}}{more}"
    )


@pytest.mark.parametrize("kind", ["GRIDBOX_MIN", "GRIDBOX_MAX"])
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_the_grid_says_where_objects_are(kind, normed, cut, rng):
    classes = {1: 0, 4: 2}
    random = [(*map(float, rng.uniform([-6, -6, 1, 1], [20, 20, 15, 15])), number) for number in (1, 4, 2)]
    pictures = [[box, (3.5, 2.25, 12.0, 9.5, 4), (10.0, 8.0, 4.0, 4.0, 1)] for box in random]
    mapping = [{"src": src, "dst": dst} for src, dst in classes.items()]
    text = layer(
        stride=4,
        scale_cvg=0.6,
        gridbox_type=kind,
        min_cvg_len=5,
        max_cvg_len=5,
        obj_norm=normed,
        crop_bboxes=cut,
        object_class=str(mapping).replace("'", ""),
    )
    net = net_of(text, (3, 3, 16, 24), (3, 1, 5, 16), phase="test")
    out = net.forward(x0=np.zeros((3, 3, 16, 24)), x1=labels_of(*pictures))
    for got, boxes in zip(out["grid"], pictures, strict=True):
        expected = grid_of(boxes, 24, 16, 4, 0.6, 5, kind, normed, cut, classes)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert out["grid"][:, 8].any() and out["grid"][:, 10].any() and not out["grid"][:, 9].any()


def test_a_grid_is_empty_again_in_the_next_batch():
    net = net_of(layer(), (1, 3, 16, 24), (1, 1, 5, 16), phase="test")
    x = np.zeros((1, 3, 16, 24))
    assert net.forward(x0=x, x1=labels_of([(2, 2, 9, 9, 1)]))["grid"].any()
    assert not net.forward(x0=x, x1=labels_of([]))["grid"].any()


# -------------------------------------------------------------------------------------------- the pictures

OFF = "{hue_rotation_prob: 0, desaturation_prob: 0, flip_prob: 0, scale_prob: 0, rotation_prob: 0, crop_prob: 0}"


def augmented(**changes):
    """The field detectnet_augmentation_param with all else off."""
    given = "".join(f", {name}: {value}" for name, value in changes.items())
    kept = [field for field in OFF[1:-1].split(", ") if field.split(":")[0] not in changes]
    return f", detectnet_augmentation_param: {{{', '.join(kept)}{given}}}"


def test_with_all_changes_off_a_picture_only_loses_the_mean(rng):
    x = rng.uniform(0, 255, (2, 3, 16, 24))
    net = net_of(
        layer(more=augmented() + ", transform_param: {mean_value: [1, 2, 3]}"), x.shape, (2, 1, 2, 16)
    )
    out = net.forward(x0=x, x1=labels_of([], [], rows=2))["pictures"]
    np.testing.assert_allclose(out, x - np.array([1, 2, 3])[:, None, None], rtol=1e-5, atol=1e-4)


def test_pictures_and_boxes_are_mirrored(rng):
    x = rng.uniform(0, 255, (1, 3, 16, 24))
    net = net_of(layer(more=augmented(flip_prob=1), scale_cvg=1), x.shape, (1, 1, 2, 16))
    out = net.forward(x0=x, x1=labels_of([(3, 2, 8, 8, 1)], rows=2))
    np.testing.assert_allclose(out["pictures"], x[..., ::-1], rtol=1e-6)
    expected = grid_of([(24 - 3 - 8 - 1, 2, 8, 8, 1)], 24, 16, 4, 1, 50, "GRIDBOX_MAX", False, True, {1: 0})
    np.testing.assert_allclose(out["grid"][0], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 2])
def test_a_scaled_picture_lies_in_the_middle_and_its_boxes_with_it(scale):
    text = layer((16, 16), more=augmented(scale_prob=1, scale_min=scale, scale_max=scale), scale_cvg=1)
    net = net_of(text, (1, 3, 16, 16), (1, 1, 2, 16))
    out = net.forward(x0=np.full((1, 3, 16, 16), 10), x1=labels_of([(4, 4, 8, 8, 1)], rows=2))
    corner = 4 if scale < 1 else 0
    expected = np.zeros((16, 16))
    expected[corner : 16 - corner, corner : 16 - corner] = 10
    np.testing.assert_allclose(out["pictures"][0], np.broadcast_to(expected, (3, 16, 16)), rtol=1e-5)
    edge = scale * 4 + (16 - 16 * scale) / 2
    box = (edge, edge, 8 * scale, 8 * scale, 1)
    expected = grid_of([box], 16, 16, 4, 1, 50, "GRIDBOX_MAX", False, True, {1: 0})
    np.testing.assert_allclose(out["grid"][0], expected, rtol=1e-5)


def test_at_test_a_picture_is_resized_to_the_nets_size_and_its_boxes_with_it():
    net = net_of(layer((24, 8), scale_cvg=1), (1, 3, 16, 12), (1, 1, 2, 16), phase="test")
    out = net.forward(x0=np.full((1, 3, 16, 12), 7), x1=labels_of([(2, 4, 3, 6, 1)], rows=2))
    np.testing.assert_allclose(out["pictures"], np.full((1, 3, 8, 24), 7), rtol=1e-5)
    expected = grid_of([(4, 2, 6, 3, 1)], 24, 8, 4, 1, 50, "GRIDBOX_MAX", False, True, {1: 0})
    np.testing.assert_allclose(out["grid"][0], expected, rtol=1e-5)


def test_random_changes_are_those_of_the_seed_and_go_on_after_a_snapshot(rng):
    x, labels = rng.uniform(0, 255, (2, 3, 20, 30)), labels_of([(3, 2, 8, 8, 1)], [(9, 9, 5, 4, 1)], rows=2)
    fields = "shift_x: 6, shift_y: 6, rotation_prob: 1, max_rotate_degree: 20, scale_prob: 1, scale_max: 1.4"
    nets = [
        net_of(layer(more=f", detectnet_augmentation_param: {{{fields}}}"), x.shape, labels.shape)
        for _ in range(2)
    ]
    first, second = (net.forward(x0=x, x1=labels) for net in (nets[0], nets[0]))
    assert np.isfinite(first["pictures"]).all() and not np.array_equal(first["pictures"], second["pictures"])
    nets[1].layers[-1].restore({"batch": 1})
    for name, again in nets[1].forward(x0=x, x1=labels).items():
        np.testing.assert_array_equal(again, second[name])


@needs_numpy
def test_a_crop_may_reach_beyond_the_picture_by_half_of_the_shift_on_each_side():
    off = {f"{name}_prob": 0.0 for name in ("scale", "flip", "rotation", "hue_rotation", "desaturation")}
    param = detectnet.DetectNetAugmentationParam(shift_x=6, shift_y=9, **off)
    rng = np.random.default_rng(0)
    corners = np.array([detectnet.draw(param, (30, 20), (24, 16), rng).corner for _ in range(1000)])
    assert corners.min(axis=0).tolist() == [-3, -4] and corners.max(axis=0).tolist() == [9, 9]


@needs_numpy
@needs_opencv
@pytest.mark.parametrize(("old", "new"), [((7, 9), (15, 20)), ((41, 30), (23, 17)), ((12, 12), (13, 12))])
def test_bicubic_resizing_is_opencvs(old, new, rng):
    x = rng.uniform(0, 255, (old[1], old[0], 3)).astype(np.float32)
    expected = cv2.resize(x, new, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(detectnet.resized(x, new), expected, atol=1e-3)


@needs_numpy
@needs_opencv
@pytest.mark.parametrize(("hue", "saturation"), [(0, 0.5), (30, 1), (75, 0.25)])
def test_colours_are_turned_as_opencv_does_it(hue, saturation, rng):
    x = rng.uniform(0, 255, (20, 30, 3)).astype(np.float32)
    x[0, :5], x[1, :3] = 100, 0
    hsv = cv2.cvtColor(x / 255, cv2.COLOR_BGR2HSV) * np.float32([1, saturation, 1]) + np.float32([hue, 0, 0])
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * 255
    np.testing.assert_allclose(detectnet.recolored(x, hue, saturation), expected, atol=1e-2)


@needs_numpy
def test_a_turn_of_the_hue_by_a_third_swaps_colours(rng):
    x = rng.uniform(0, 255, (4, 5, 3)).astype(np.float32)
    for hue, order in ((120, [2, 0, 1]), (-120, [1, 2, 0]), (360, [0, 1, 2])):
        np.testing.assert_allclose(detectnet.recolored(x, hue, 1)[..., order], x, atol=1e-2)


@needs_numpy
@needs_opencv
@pytest.mark.parametrize("angle", [3.0, -7.5, 80.0])
def test_a_picture_is_rotated_within_a_rectangle_as_opencv_does_it(angle):
    down, across = np.mgrid[0:40, 0:60].astype(np.float32)
    x = 100 + np.stack([np.sin(across / 5) * 50 + down, across * 2 + down, down * 3 - across], axis=2)
    size = (60, 40)
    around = cv2.RotatedRect((30, 20), size, angle).boundingRect()
    points = [
        cv2.RotatedRect(middle, size, turn).points()[:3]
        for middle, turn in (((30, 20), 0), ((30 - around[0], 20 - around[1]), angle))
    ]
    matrix = cv2.getAffineTransform(*(np.float32(three) for three in points))
    expected = np.zeros((around[3], around[2], 3), np.float32)
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_TRANSPARENT}
    cv2.warpAffine(x, matrix, around[2:], dst=expected, **flags)
    turned = detectnet.rotated(x, angle)
    assert turned.shape == expected.shape
    inside = turned.any(axis=2)
    assert inside.mean() > 0.95 * expected.any(axis=2).mean()
    np.testing.assert_allclose(turned[inside], expected[inside], atol=0.3)  # it rounds to 1/32 of a pixel


@needs_numpy
def test_a_rotated_box_keeps_its_middle_in_the_picture():
    x = np.zeros((40, 60, 3), np.float32)
    x[10:13, 40:43] = 255
    chosen = detectnet.Augmentation((60, 40), (2, 3), angle=30)
    turned = detectnet.augment_picture(x, chosen, (70, 60), None)[..., 0]
    middle = [
        (turned.sum(axis=axis) * np.arange(size)).sum() / turned.sum() for axis, size in ((0, 70), (1, 60))
    ]
    (box,) = detectnet.augment_boxes(np.float32([[40, 10, 2, 2]]), chosen, (60, 40))
    np.testing.assert_allclose(box[:2] + box[2:] / 2, middle, atol=0.1)


# ---------------------------------------------------------------------------------------------- the errors


def test_what_is_wrong_with_a_spec_or_labels_is_said():
    with pytest.raises(ShapeError, match=r"pictures have shape \(1, 1, 4, 4\); expected \(N, 3, H, W\)"):
        net_of(layer(), (1, 1, 4, 4), (1, 1, 2, 16))
    with pytest.raises(ShapeError, match="expected 16 numbers or more for each of 2 pictures"):
        net_of(layer(), (2, 3, 4, 4), (2, 1, 1, 5))
    with pytest.raises(SpecError, match="2 values for 3 channels; give 1 or 3"):
        net_of(layer(more=", transform_param: {mean_value: [1, 2]}"), (1, 3, 4, 4), (1, 1, 2, 16))
    net = net_of(layer(), (1, 3, 4, 4), (1, 1, 2, 16))
    for first, second in ((2, 16), (1, 5), (-1, 16), (np.nan, 16)):
        labels = labels_of([], rows=2)
        labels[0, 0, 0, :2] = first, second
        with pytest.raises(DataError, match="expected 0 to 1 boxes, and 16"):
            net.forward(x0=np.zeros((1, 3, 4, 4)), x1=labels)


def test_a_mean_image_is_resized_to_the_pictures(tmp_path):
    np.save(tmp_path / "mean.npy", np.full((3, 5, 6), 8, np.float32))
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 3, 16, 24]}}}\n"
        "- {name: y, type: Input, input_param: {shape: {dim: [1, 1, 2, 16]}}}\n"
        f"- {{name: L, bottom: [x, y], {layer(more=', transform_param: {mean_file: mean.npy}')}}}\n"
    )
    net = mc.Net(str(tmp_path / "net.yaml"), phase="test")
    out = net.forward(x=np.full((1, 3, 16, 24), 9), y=labels_of([], rows=2))["pictures"]
    np.testing.assert_allclose(out, np.ones((1, 3, 16, 24)), rtol=1e-4)


def test_a_mean_image_is_the_same_after_pictures_of_another_size(tmp_path, rng):
    np.save(tmp_path / "mean.npy", rng.uniform(0, 255, (3, 32, 32)).astype(np.float32))
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 3, 32, 32]}}}\n"
        "- {name: y, type: Input, input_param: {shape: {dim: [1, 1, 2, 16]}}}\n"
        f"- {{name: L, bottom: [x, y], {layer(more=', transform_param: {mean_file: mean.npy}')}}}\n"
    )
    net = mc.Net(str(tmp_path / "net.yaml"), phase="test")
    outs = []
    for side in (32, 8, 32):
        net.blobs["x"].reshape(1, 3, side, side)
        net.reshape()
        outs.append(net.forward(x=np.full((1, 3, side, side), 9), y=labels_of([], rows=2))["pictures"].copy())
    np.testing.assert_array_equal(outs[2], outs[0])
