"""DetectNet's Python layers, for which ours stand in: boxes of a grid grouped, listed and counted."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection.grouping import group_rectangles
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net

try:
    import cv2
except ImportError:
    cv2 = None

MODULES = {"ClusterDetections": "clustering", "ClusterGroundtruth": "clustering"}


def net_of(kind, param_str, tops, *shapes):
    module = f"caffe.layers.detectnet.{MODULES.get(kind, 'mean_ap')}"
    names = ", ".join(f"y{i}" for i in range(tops))
    param = f'module: {module}, layer: {kind}, param_str: "{param_str}"'
    text = layer_net(f"type: Python, top: [{names}], python_param: {{{param}}}", shapes)
    return mc.Net(parse_net(text.replace("force_backward: true\n", "")), phase="test")


def rectangles(rng, centres, each, spread):
    """Whole numbers x, y, width, height around some rectangles, mixed."""
    around = np.repeat(centres, each, axis=0) + rng.integers(-spread, spread + 1, (len(centres) * each, 4))
    return rng.permutation(around)


@pytest.mark.cpu_only("of a function on the host")
@pytest.mark.skipif(cv2 is None, reason="needs OpenCV")
@pytest.mark.parametrize(("least", "epsilon"), [(1, 0.02), (2, 0.2), (3, 0.1), (5, 0.6), (0, 0.2)])
def test_groups_are_those_of_opencv(least, epsilon, rng):
    amounts = set()
    for _ in range(30):
        centres = rng.integers([0, 0, 40, 40], [300, 200, 200, 150], (int(rng.integers(1, 6)), 4))
        inner = centres[:2] // [1, 1, 2, 2]
        outer, few = rectangles(rng, centres, int(rng.integers(1, 9)), 4), int(rng.integers(1, 4))
        some = np.concatenate([outer, rectangles(rng, inner, few, 2)])
        expected, weights = cv2.groupRectangles(some.tolist(), least, epsilon)
        means, sizes = group_rectangles(some, least, epsilon)
        np.testing.assert_array_equal(means, np.reshape(expected, (-1, 4)))
        np.testing.assert_array_equal(sizes, np.reshape(weights, -1))
        amounts.add(len(means))
    assert len(amounts) > 2


@pytest.mark.cpu_only("of a function on the host")
@pytest.mark.parametrize(
    ("outer", "inner", "stays"),
    [(2, 2, False), (5, 2, False), (3, 3, True), (4, 3, False), (3, 4, True), (4, 4, True), (5, 4, False)],
)
def test_a_group_in_another_stays_if_it_has_three_and_no_less_than_that(outer, inner, stays):
    some = np.array([[0, 0, 100, 100]] * outer + [[20, 20, 40, 40]] * inner)
    means, sizes = group_rectangles(some, 1, 0.1)
    expected = [[0, 0, 100, 100], *[[20, 20, 40, 40]] * stays]
    assert means.tolist() == expected and sizes.tolist() == [outer, inner][: len(expected)]


def grid_of(boxes, rows, columns, stride):
    """A coverage map and boxes relative to cells, of (x1, y1, x2, y2): each in all cells that it covers."""
    coverage, relative = np.zeros((1, 1, rows, columns)), np.zeros((1, 4, rows, columns))
    for x1, y1, x2, y2 in boxes:
        for i, j in np.ndindex(rows, columns):
            if x1 <= j * stride < x2 and y1 <= i * stride < y2:
                coverage[0, 0, i, j] = 1
                relative[0, :, i, j] = x1 - j * stride, y1 - i * stride, x2 - j * stride, y2 - i * stride
    return coverage, relative


BOXES = [(10, 20, 70, 60), (80, 8, 120, 56)]


def test_boxes_that_many_cells_agree_on_are_detected(rng):
    coverage, relative = grid_of(BOXES, 8, 16, 8)
    net = net_of("ClusterDetections", "128, 64, 8, 0.6, 3, 0.1, 22, 1", 1, coverage.shape, relative.shape)
    noisy = relative + rng.uniform(-0.9, 0.9, relative.shape)
    coverage[0, 0, 0, 0] = 0.5  # a cell below the threshold
    listed = net.forward(x0=coverage, x1=noisy)["y0"]
    assert listed.shape == (1, 50, 5) and not listed[0, 2:].any()
    order = np.argsort(listed[0, :2, 0])
    np.testing.assert_allclose(listed[0, order, :4], BOXES, atol=1.5)
    cells = coverage[0, 0] == 1
    sizes = [cells[:, :9].sum(), cells[:, 10:].sum()]
    np.testing.assert_allclose(listed[0, order, 4], np.log(sizes), rtol=1e-3)  # rounded to 16 bits


def test_edges_and_sides_are_cut_off_towards_0_before_they_are_grouped():
    coverage, relative = np.zeros((1, 1, 8, 16)), np.zeros((1, 4, 8, 16))
    coverage[0, 0, 0, :3] = 1
    for j in range(3):
        relative[0, :, 0, j] = -0.9 - 8 * j, 10.9, 40.05 - 8 * j, 30.8
    net = net_of("ClusterDetections", "128, 64, 8, 0.6, 2, 0.1, 9", 1, coverage.shape, relative.shape)
    (row,) = net.forward(x0=coverage, x1=relative)["y0"][0, :1]
    np.testing.assert_allclose(row, [0, 10, 40, 29, np.log(3)], rtol=1e-3)


def test_numbers_of_lists_are_rounded_to_16_bits():
    coverage, relative = np.zeros((1, 1, 1, 2)), np.zeros((1, 4, 1, 2))
    coverage[0, 0, 0, 0] = 1
    relative[0, :, 0, 0] = 1.0001, 33.31, 2049, 700.3
    net = net_of("ClusterGroundtruth", "16, 8, 8", 1, coverage.shape, relative.shape)
    assert net.forward(x0=coverage, x1=relative)["y0"][0, 0].tolist() == [1, 33.3125, 2048, 700.5, 0]


def test_low_boxes_and_small_groups_are_no_detections():
    coverage, relative = grid_of(BOXES, 8, 16, 8)
    for param_str in ("128, 64, 8, 0.6, 3, 0.1, 45", "128, 64, 8, 0.6, 30, 0.1, 22"):
        net = net_of("ClusterDetections", param_str, 1, coverage.shape, relative.shape)
        listed = net.forward(x0=coverage, x1=relative)["y0"]
        assert listed.any(axis=2).sum() == 1
        net = net_of("ClusterDetections", param_str.replace("0.6", "1.1"), 1, coverage.shape, relative.shape)
        assert not net.forward(x0=coverage, x1=relative)["y0"].any()


def test_the_true_boxes_of_a_grid_are_listed_once_by_class():
    coverage, relative = grid_of(BOXES, 8, 16, 8)
    both = np.zeros((1, 2, 8, 16))
    both[0, 0, :, :9], both[0, 1, :, 9:] = coverage[0, 0, :, :9], coverage[0, 0, :, 9:]
    net = net_of("ClusterGroundtruth", "128, 64, 8, 2", 2, both.shape, relative.shape)
    out = net.forward(x0=both, x1=relative)
    for k, box in enumerate(BOXES):
        np.testing.assert_array_equal(out[f"y{k}"][0, 0], [*box, 0])
        assert not out[f"y{k}"][0, 1:].any()


def test_of_too_many_boxes_the_first_are_listed(rng):
    coverage = np.ones((1, 1, 8, 16))
    relative = rng.uniform(0, 9, (1, 4, 8, 16))
    net = net_of("ClusterGroundtruth", "128, 64, 8", 1, coverage.shape, relative.shape)
    assert net.forward(x0=coverage, x1=relative)["y0"].any(axis=2).sum() == 50


def test_boxes_found_are_true_or_false_and_true_ones_found_or_missed():
    true, found = np.zeros((2, 50, 5)), np.zeros((2, 50, 5))
    true[0, :3, :4] = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]
    found[0, :4] = [1, 0, 11, 10, 2], [0, 0, 10, 10, 1], [20, 0, 30, 9, 1], [70, 70, 80, 80, 1]
    net = net_of("ScoreDetections", "", 1, true.shape, found.shape)
    rows = net.forward(x0=true, x1=found)["y0"]
    assert rows[0, :5].tolist() == [
        [1, 0, 11, 10, 1], [20, 0, 30, 9, 1], [0, 0, 10, 10, 2], [70, 70, 80, 80, 2], [50, 50, 60, 60, 3],
    ]  # fmt: skip
    assert not rows[0, 5:].any() and not rows[1].any()
    out = net_of("mAP", "128, 64, 8", 3, rows.shape).forward(x0=rows)
    np.testing.assert_allclose([out["y0"], out["y1"], out["y2"]], [[100 / 3], [50], [200 / 3]], rtol=1e-5)
    none = net_of("mAP", "", 3, rows.shape).forward(x0=np.zeros(rows.shape))
    assert not any(value.any() for value in none.values())


def test_what_is_wrong_is_one_line():
    with pytest.raises(mc.SpecError, match="'1, 2'; expected 7 numbers, the first three at least 1"):
        net_of("ClusterDetections", "1, 2", 1, (1, 1, 4, 4), (1, 4, 4, 4))
    with pytest.raises(mc.SpecError, match="a stride of 16 leaves no cell"):
        net_of("ClusterGroundtruth", "8, 8, 16", 1, (1, 1, 4, 4), (1, 4, 4, 4))
    with pytest.raises(mc.SpecError, match="top: 1 given; ClusterGroundtruth takes 2"):
        net_of("ClusterGroundtruth", "8, 8, 2, 2", 1, (1, 2, 4, 4), (1, 4, 4, 4))
    with pytest.raises(mc.ShapeError, match=r"boxes have shape \(1, 3, 4, 4\); expected \(N, 4, H, W\)"):
        net_of("ClusterGroundtruth", "8, 8, 2", 1, (1, 1, 4, 4), (1, 3, 4, 4))
    with pytest.raises(mc.ShapeError, match="expected lists of boxes"):
        net_of("ScoreDetections", "", 1, (1, 50, 5), (1, 50, 4))
    with pytest.raises(mc.SpecError, match="top: 1 given; mAP takes 3"):
        net_of("mAP", "", 1, (1, 50, 5))
