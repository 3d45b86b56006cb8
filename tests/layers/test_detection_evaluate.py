"""Which detections are true, against a reference of loops; and average precision, against sums by hand."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection.average_precision import average_precision
from minicaffe.ops.detection.pixel_boxes import in_pixels, pixel_overlaps
from tests.layer_cases import net_of

BOXES = np.array(
    [
        [0, 1, 0, 0.1, 0.1, 0.4, 0.5, 0],
        [0, 1, 1, 0.5, 0.1, 0.9, 0.5, 0],
        [0, 2, 0, 0.2, 0.2, 0.6, 0.6, 1],
        [1, 2, 0, 0.0, 0.0, 0.5, 0.5, 0],
        [3, 1, 0, 0.3, 0.3, 0.8, 0.8, 0],
    ]
)


def overlap(a, b, ends=0.0):
    """Intersection over union; with ``ends`` 1 both ends of a side are counted."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + ends, min(a[3], b[3]) - max(a[1], b[1]) + ends
    if ends and (width < ends or height < ends):
        width = height = 1.0
    if width <= 0 or height <= 0:
        return 0.0
    return (
        width * height / (sum((c[2] - c[0] + ends) * (c[3] - c[1] + ends) for c in (a, b)) - width * height)
    )


def judged_slowly(detections, boxes, classes, threshold=0.5, difficult=True, sizes=None):
    """The rows, detection after detection."""
    rows, line = [], 0
    for c in range(1, classes):
        rows.append([-1, c, sum(1 for b in boxes if b[1] == c and (difficult or not b[7])), -1, -1])
    for image in sorted({d[0] for d in detections}):
        own = [d for d in detections if d[0] == image]
        for label in sorted({d[1] for d in own} - {-1}):
            wanted = [b for b in boxes if b[0] == image and b[1] == label]
            found = [d for d in own if d[1] == label]
            if wanted:
                found = sorted(found, key=lambda d: -d[2])
            taken = set()
            for d in found:
                if sizes:
                    scale = np.array([sizes[line][1], sizes[line][0]] * 2)
                    overlaps = [overlap(np.clip(d[3:], 0, 1) * scale, b[3:7] * scale, 1) for b in wanted]
                else:
                    overlaps = [overlap(d[3:], b[3:7]) for b in wanted]
                best = int(np.argmax(overlaps)) if overlaps else None
                verdict = [0, 1]
                if overlaps and overlaps[best] >= threshold:
                    if not difficult and wanted[best][7]:
                        verdict = [0, 0]
                    elif best not in taken:
                        verdict = [1, 0]
                        taken.add(best)
                rows.append([image, label, d[2], *verdict])
        if sizes:
            line = (line + 1) % len(sizes)
    return np.array(rows)


def some_detections(rng, count=60):
    """Boxes near those that there are, of equal scores too, and of an image that has none."""
    source = BOXES[rng.integers(0, len(BOXES), count)]
    found = np.column_stack(
        [
            source[:, 0],
            source[:, 1],
            rng.integers(0, 9, count) / 10,
            source[:, 3:7] + rng.uniform(-0.12, 0.12, (count, 4)),
        ]
    )
    found[:5, 0] = 2
    found[5:9, 1] = 3 - found[5:9, 1]
    return found[np.argsort(found[:, 0], kind="stable")]


def judged(detections, boxes, param):
    net = net_of(
        f"type: DetectionEvaluate, detection_evaluate_param: {{num_classes: 4, {param}}}",
        (1, 1, len(detections), 7),
        (1, 1, len(boxes), 8),
        dtype="float64",
    )
    return net, lambda: np.array(net.forward(x0=detections[None, None], x1=boxes[None, None])["L"])


def test_boxes_after_a_row_of_none_are_not_read(rng):
    found = some_detections(rng)
    _, rows = judged(found, np.insert(BOXES, 3, -1.0, axis=0), "overlap_threshold: 0.5")
    np.testing.assert_allclose(rows()[0, 0], judged_slowly(found, BOXES[:3], 4))


def test_a_detection_of_no_image_is_not_judged_and_leaves_a_row_of_zeros():
    found = np.array([[-1, 1, 0.9, *BOXES[0, 3:7]], [0, 1, 0.8, *BOXES[0, 3:7]]])
    _, rows = judged(found, BOXES[:2], "overlap_threshold: 0.5")
    np.testing.assert_allclose(rows()[0, 0, 3:], [[0, 1, 0.8, 1, 0], [0] * 5])


@pytest.mark.parametrize(("threshold", "is_true"), [(0.5, 1), (0.500001, 0)])
def test_an_overlap_as_high_as_the_threshold_is_enough(threshold, is_true):
    found = np.array([[0, 1, 0.9, 0, 0, 0.5, 1]])
    _, rows = judged(found, np.array([[0, 1, 0, 0, 0, 1, 1, 0.0]]), f"overlap_threshold: {threshold}")
    assert rows()[0, 0, 3].tolist() == [0, 1, 0.9, is_true, 1 - is_true]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("difficult", [True, False])
def test_rows_are_those_of_the_reference(threshold, difficult, rng):
    found = some_detections(rng)
    param = f"overlap_threshold: {threshold}, evaluate_difficult_gt: {difficult}"
    _, rows = judged(found, BOXES, param)
    expected = judged_slowly(found, BOXES, 4, threshold, difficult)
    assert rows().shape == (1, 1, *expected.shape)
    np.testing.assert_allclose(rows()[0, 0], expected)
    assert difficult or threshold > 0.5 or [0, 0] in expected[3:, 3:].tolist()


def test_detections_of_nothing_have_no_row():
    nothing = np.array([[0, -1, -1, -1, -1, -1, -1], [1, -1, -1, -1, -1, -1, -1.0]])
    _, rows = judged(nothing, BOXES[:4], "overlap_threshold: 0.5")
    np.testing.assert_array_equal(rows()[0, 0], [[-1, 1, 2, -1, -1], [-1, 2, 2, -1, -1], [-1, 3, 0, -1, -1]])


def test_without_boxes_all_detections_are_false(rng):
    found = some_detections(rng)
    _, rows = judged(found, np.full((1, 8), -1.0), "overlap_threshold: 0.5")
    assert (rows()[0, 0, :3, 2] == 0).all() and (rows()[0, 0, 3:, 3:] == [0, 1]).all()


def test_one_class_and_the_background_take_all_labels_for_that_class():
    net = net_of(
        "type: DetectionEvaluate, detection_evaluate_param: {num_classes: 2}", (1, 1, 1, 7), (1, 1, 5, 8)
    )
    rows = net.forward(x0=[[[[0, 1, 0.5, 0.2, 0.2, 0.6, 0.6]]]], x1=BOXES[None, None])["L"]
    np.testing.assert_allclose(rows[0, 0], [[-1, 1, 5, -1, -1], [0, 1, 0.5, 1, 0]])


def test_with_sizes_boxes_are_compared_in_pixels_and_lines_go_on_with_images(tmp_path, rng):
    sizes = [(20, 10), (7, 30), (4, 5)]
    (tmp_path / "sizes.txt").write_text("a 20 10\nb 7 30\n\nc 4 5\n")
    found = some_detections(rng)
    param = f"overlap_threshold: 0.5, name_size_file: {tmp_path / 'sizes.txt'}"
    _, rows = judged(found, BOXES, param)
    np.testing.assert_allclose(rows()[0, 0], judged_slowly(found, BOXES, 4, sizes=sizes))
    again = judged_slowly(found, BOXES, 4, sizes=[*sizes[1:], sizes[0]])  # there were four images
    np.testing.assert_allclose(rows()[0, 0], again)


def pixels_of(boxes, size, text):
    """Boxes in pixels, and their areas, by a layer with a resize_param of this text."""
    layer = f"type: DetectionEvaluate, detection_evaluate_param: {{num_classes: 2, resize_param: {{{text}}}}}"
    net = net_of(layer, (1, 1, 1, 7), (1, 1, 1, 8))
    return net.layers[-1].in_pixels(boxes, size)


def test_boxes_of_resized_images_in_pixels():
    boxes = np.array([[0.25, 0.25, 0.75, 0.75], [-0.5, 0.4, 1.5, 0.5]])

    def pixels(size, text):
        return pixels_of(boxes, size, text)

    found, area = pixels((40, 100), "height: 10, width: 20")
    np.testing.assert_allclose(found, [[25, 10, 75, 30], [0, 16, 100, 20]])
    np.testing.assert_allclose(area, [51 * 21, 101 * 5])
    # 10 × 20 has room for 8 × 20 of an image of 40 × 100: a tenth of padding above and below
    found, _ = pixels((40, 100), "height: 10, width: 20, resize_mode: FIT_LARGE_SIZE_AND_PAD")
    np.testing.assert_allclose(found[0], [25, 40 * 0.15 / 0.8, 75, 40 * 0.65 / 0.8])
    found, _ = pixels((40, 10), "height: 20, width: 20, resize_mode: FIT_LARGE_SIZE_AND_PAD")
    np.testing.assert_allclose(found[0], [0, 10, 10, 30])
    found, area = pixels(
        (40, 100), "height: 10, width: 20, resize_mode: FIT_SMALL_SIZE, height_scale: 60, width_scale: 80"
    )
    np.testing.assert_allclose(found, [[20, 15, 60, 40], [0, 24, 100, 30]])
    np.testing.assert_allclose(area, [40 * 25, 100 * 6])


def test_a_box_in_an_image_of_one_pixel_has_its_area_without_ends():
    box = np.array([0.25, 0.5, 0.75, 1])
    assert in_pixels(box, (1, 1))[1] == 0.5 * 0.5
    assert in_pixels(box, (1, 2))[1] == (1 + 1) * (0.5 + 1)


def test_a_box_that_is_all_padding_stays_where_it_is():
    """A tenth at each end is padding: boxes that end or begin there are all in it."""
    boxes = np.array([[0.25, 0, 0.5, 0.1], [0.25, 0.9, 0.5, 1], [0.25, 0, 0.5, 0.18]])
    found, _ = pixels_of(boxes, (40, 100), "height: 10, width: 20, resize_mode: FIT_LARGE_SIZE_AND_PAD")
    np.testing.assert_allclose(found, [[25, 0, 50, 4], [25, 36, 50, 40], [25, 0, 50, 4]])
    boxes = boxes[:, [1, 0, 3, 2]]
    found, _ = pixels_of(boxes, (100, 40), "height: 20, width: 10, resize_mode: FIT_LARGE_SIZE_AND_PAD")
    np.testing.assert_allclose(found, [[0, 25, 4, 50], [36, 25, 40, 50], [0, 25, 4, 50]])


def test_boxes_in_pixels_that_do_not_touch_have_one_pixel_in_common():
    a, b = np.array([0.0, 0, 4, 4]), np.array([[6.0, 6, 9, 9], [4, 0, 8, 4]])
    found = pixel_overlaps((a, np.array(25.0)), (b, np.array([16.0, 25])))
    np.testing.assert_allclose(found, [1 / 40, 5 / 45])


# ------------------------------------------------------------------------------------- average precision

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
IS_TRUE = np.array(
    [True, False, True, True, False]
)  # precision 1, 1/2, 2/3, 3/4, 3/5; recall 1/4, 1/4, 2/4, 3/4


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("11point", (3 * 1 + 5 * 0.75) / 11),
        ("MaxIntegral", 0.25 * 1 + 0.25 * 0.75 + 0.25 * 0.75),
        ("Integral", 0.25 * 1 + 0.25 * 2 / 3 + 0.25 * 0.75),
    ],
)
def test_average_precision_is_the_sum_of_its_version(version, expected, rng):
    assert average_precision(SCORES, IS_TRUE, 4, version) == pytest.approx(expected)
    order = rng.permutation(5)
    assert average_precision(SCORES[order], IS_TRUE[order], 4, version) == pytest.approx(expected)
    assert average_precision(SCORES[[0, 2]], IS_TRUE[[0, 2]], 2, version) == pytest.approx(1)
    assert average_precision(SCORES[:0], IS_TRUE[:0], 4, version) == 0
    assert average_precision(SCORES, np.zeros(5, bool), 0, version) == 0


def test_max_integral_takes_the_precision_before_a_step_too():
    """Of two detections, the first true: the step from a recall of 1/2 to 1 counts with the precision of 1."""
    assert average_precision(SCORES[:3], np.array([True, False, True]), 2, "MaxIntegral") == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )
    assert average_precision(SCORES[:2], np.array([True, True]), 2, "MaxIntegral") == 1


@pytest.mark.parametrize("version", ["Integral", "MaxIntegral"])
def test_a_step_in_recall_below_a_millionth_is_none(version):
    both = np.array([False, True])  # at the second detection, recall has its step and precision is 1/2
    assert average_precision(SCORES[:2], both, 2_000_000, version) == 0
    assert average_precision(SCORES[:2], both, 500_000, version) == pytest.approx(1e-6)


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
def test_of_equal_scores_the_first_counts_as_higher(version, rng):
    scores, is_true = np.repeat([0.25, 0.75, 0.5], 40), rng.random(120) < 0.4
    in_order = np.concatenate([is_true[40:80], is_true[80:], is_true[:40]])
    expected = average_precision(np.arange(120, 0, -1), in_order, 60, version)
    assert average_precision(scores, is_true, 60, version) == expected


def test_a_recall_of_seven_tenths_is_less_than_0_7_as_in_ssds_caffe():
    seven = average_precision(np.ones(7), np.ones(7, bool), 10, "11point")
    assert seven == pytest.approx(7 / 11)  # at 0, 0.1, …, 0.6
    assert average_precision(np.ones(8), np.ones(8, bool), 10, "11point") == pytest.approx(9 / 11)


# ------------------------------------------------------------------------------------------------ errors

EVALUATE = "type: DetectionEvaluate, detection_evaluate_param: {num_classes: 3%s}"


@pytest.mark.parametrize(
    ("layer", "shapes", "problem"),
    [
        ("type: DetectionEvaluate", [(1, 1, 1, 7), (1, 1, 1, 8)], "num_classes: required"),
        (EVALUATE % "", [(1, 1, 1, 6), (1, 1, 1, 8)], r"detections have shape \(1, 1, 1, 6\)"),
        (EVALUATE % "", [(1, 1, 1, 7), (2, 1, 1, 8)], r"boxes have shape \(2, 1, 1, 8\)"),
        (EVALUATE % ", overlap_threshold: 0", [(1, 1, 1, 7), (1, 1, 1, 8)], "overlap_threshold: 0 is out"),
        (EVALUATE % ", overlap_threshold: 3", [(1, 1, 1, 7), (1, 1, 1, 8)], "overlap_threshold: 3 is out"),
        (
            EVALUATE % ", name_size_file: none.txt",
            [(1, 1, 1, 7), (1, 1, 1, 8)],
            "none.txt: no such file of names",
        ),
    ],
)
def test_unfit_bottoms_and_settings_are_one_line(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=problem):
        net_of(layer, *shapes)


@pytest.mark.parametrize("line", ["a 20", "a b c", "a 20 -3", "a 0 3", "my name 20 30"])
def test_a_line_that_is_no_size_is_named(line, tmp_path):
    (tmp_path / "sizes.txt").write_text(f"a 2 3\n{line}\n")
    with pytest.raises(mc.DataError, match=r"sizes.txt:2: expected a name, a height and a width"):
        net_of(EVALUATE % f", name_size_file: {tmp_path / 'sizes.txt'}", (1, 1, 1, 7), (1, 1, 1, 8))


@pytest.mark.parametrize(
    ("place", "problem"), [("x0", "a detection of the background, 0"), ("x1", "a box has label 0, but")]
)
def test_the_background_is_neither_found_nor_there(place, problem):
    net = net_of(EVALUATE % "", (1, 1, 1, 7), (1, 1, 1, 8))
    given = {"x0": np.ones((1, 1, 1, 7)), "x1": np.ones((1, 1, 1, 8))}
    given[place][..., 1] = 0
    with pytest.raises(mc.DataError, match=f"layer 'L': {problem}"):
        net.forward(**given)
