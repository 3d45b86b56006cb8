"""Layers of py-faster-rcnn, which nets name as Python layers: ours take their place, and compute what they did."""

import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection import anchors
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net
from tests.golden_files import parts, recorded, recorded_names
from tests.layers.test_proposal import overlap

MODULES = {
    "ProposalLayer": "rpn.proposal_layer",
    "AnchorTargetLayer": "rpn.anchor_target_layer",
    "ProposalTargetLayer": "rpn.proposal_target_layer",
    "RoIDataLayer": "roi_data_layer.layer",
}
ANCHORS = "'feat_stride': 8, 'scales': [1, 2], 'ratios': [0.5, 1]"


def layer(kind, param_str, tops):
    names = ", ".join(f"y{i}" for i in range(tops))
    param = f'module: {MODULES[kind]}, layer: {kind}, param_str: "{param_str}"'
    return f"type: Python, top: [{names}], python_param: {{{param}}}"


def net_of(kind, param_str, tops, *shapes, phase="train", **options):
    text = layer_net(layer(kind, f"{{{param_str}}}", tops), shapes)
    return mc.Net(parse_net(text), phase=phase, dtype="float64", **{"seed": 1, **options})


def run(net, *inputs):
    for i, x in enumerate(inputs):
        net.blobs[f"x{i}"].reshape(*np.shape(x))
    out = net.forward(**{f"x{i}": x for i, x in enumerate(inputs)})
    return [np.asarray(out[name]) for name in sorted(out)]


# ------------------------------------------------------------------------------------------ taking the place


def test_a_warning_says_that_ours_takes_the_place_of_a_module_that_is_not_there(caplog):
    net_of("ProposalLayer", ANCHORS, 1, (1, 8, 3, 4), (1, 16, 3, 4), (1, 3))
    (record,) = caplog.records
    assert record.getMessage() == (
        "<string>:6: layer 'L': python_param.module: 'rpn.proposal_layer' cannot be imported "
        "(ModuleNotFoundError); minicaffe's own ProposalLayer takes its place, with that one's defaults where "
        "param_str says nothing"
    )


def test_ours_needs_no_permission_to_run_code(caplog):
    net = net_of("ProposalLayer", ANCHORS, 1, (1, 8, 3, 4), (1, 16, 3, 4), (1, 3), trusted=False)
    assert net.forward()["y0"].shape[1] == 5
    assert "'rpn.proposal_layer' is not imported here; minicaffe's own" in caplog.text
    other = layer("ProposalLayer", "", 1).replace("layer: ProposalLayer", "layer: ProposalLayer9")
    with pytest.raises(mc.SpecError, match=r"'rpn\.proposal_layer' is code"):
        mc.Net(parse_net(layer_net(other, [(1, 3)])), trusted=False)


def test_a_module_that_can_be_imported_is_used(tmp_path, monkeypatch, caplog):
    (tmp_path / "rpn").mkdir()
    (tmp_path / "rpn" / "proposal_layer.py").write_text(
        "import minicaffe\n\n\nclass ProposalLayer(minicaffe.Layer):\n    def reshape(self, bottom, top):\n"
        "        top[0].reshape(7)\n\n    def forward(self, bottom, top):\n        top[0].data[...] = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    net = net_of("ProposalLayer", ANCHORS, 1, (1, 2))
    assert net.forward()["y0"].tolist() == [3] * 7 and "takes its place" not in caplog.text
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("kind", "param_str", "tops", "shapes", "problem"),
    [
        ("ProposalLayer", "", 1, [(1, 8, 3, 4), (1, 16, 3, 4), (1, 3)], "param_str: feat_stride: required"),
        (
            "ProposalLayer",
            "'feat_stride': a",
            1,
            [(1, 8, 3, 4), (1, 16, 3, 4), (1, 3)],
            "feat_stride: expected a whole number, got 'a'",
        ),
        (
            "ProposalLayer",
            "'feat_stride",
            1,
            [(1, 8, 3, 4), (1, 16, 3, 4), (1, 3)],
            "param_str:.* not valid YAML",
        ),
        ("ProposalLayer", ANCHORS, 1, [(1, 8, 3, 4), (1, 16, 3, 4)], "2 given; ProposalLayer takes 3"),
        (
            "ProposalLayer",
            ANCHORS,
            3,
            [(1, 8, 3, 4), (1, 16, 3, 4), (1, 3)],
            "3 given; ProposalLayer takes 1 to 2",
        ),
        (
            "ProposalLayer",
            ANCHORS,
            1,
            [(1, 9, 3, 4), (1, 16, 3, 4), (1, 3)],
            r"scores have shape \(1, 9, 3, 4\)",
        ),
        (
            "AnchorTargetLayer",
            ANCHORS,
            4,
            [(2, 8, 3, 4), (2, 5), (1, 3)],
            r"scores have shape \(2, 8, 3, 4\)",
        ),
        ("AnchorTargetLayer", ANCHORS, 4, [(1, 8, 3, 4), (2, 4), (1, 3)], r"true boxes have shape \(2, 4\)"),
        ("AnchorTargetLayer", ANCHORS, 4, [(1, 8, 3, 4), (2, 5), (1, 1)], r"image's size has shape \(1, 1\)"),
        ("ProposalTargetLayer", "'num_classes': 3", 5, [(4, 4), (2, 5)], r"regions have shape \(4, 4\)"),
        (
            "ProposalTargetLayer",
            "'num_classes': 3, 'BBOX_NORMALIZE_STDS': [1, 2]",
            5,
            [(4, 5), (2, 5)],
            "BBOX_NORMALIZE_STDS: 2 numbers; give 4",
        ),
        ("ProposalTargetLayer", "'num_classes': 1", 5, [(4, 5), (2, 5)], "num_classes: 1 is out of range"),
    ],
)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(kind, param_str, tops, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(kind, param_str, tops, *shapes)


# --------------------------------------------------------------------------------------------- ProposalLayer


def random_scores(rng, rows=4, columns=5):
    scores = rng.permutation(8 * rows * columns).reshape(1, 8, rows, columns) / 1000
    return scores, rng.standard_normal((1, 16, rows, columns)) * 0.4


@pytest.mark.parametrize("more", [[], [0.1, 20, 300]])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_proposal_layer_leaves_out_what_is_too_small(phase, more, rng):
    """PVANet's images have a scale of their width after that of their height, which is not read."""
    scores, offsets = random_scores(rng)
    least, size = 9.5, [[30, 37, 1.5, *more]]
    settings = f"{ANCHORS}, 'RPN_MIN_SIZE': {least}, 'RPN_POST_NMS_TOP_N': 12"
    net = net_of("ProposalLayer", settings, 2, scores.shape, offsets.shape, np.shape(size), phase=phase)
    rois, found = run(net, scores, offsets, size)
    param = "feat_stride: 8, scale: [1, 2], ratio: [0.5, 1], post_nms_topn: 100, nms_thresh: 1, min_size: 0"
    text = f"type: Proposal, top: [y0, y1], proposal_param: {{{param}}}"
    everything = mc.Net(
        parse_net(layer_net(text, [scores.shape, offsets.shape, np.shape(size)])), dtype="float64"
    )
    rows = np.concatenate(
        [part.reshape(len(part), -1) for part in run(everything, scores, offsets, size)], axis=1
    )
    kept = []
    for row in rows:
        is_large = min(row[3] - row[1], row[4] - row[2]) + 1 >= least * 1.5
        if is_large and len(kept) < 12 and all(overlap(row[1:5], k[1:5]) <= 0.7 for k in kept):
            kept.append(row)
    assert len(kept) > 0 and rois.shape == (len(kept), 5) and found.shape == (len(kept), 1)
    np.testing.assert_allclose(np.concatenate([rois, found], axis=1), kept, rtol=1e-9)


@pytest.mark.parametrize(("least", "amount"), [(17, 6), (17.1, 0)])
def test_regions_as_large_as_the_least_are_large_enough(least, amount):
    """An anchor of 16 pixels that is not moved reaches 8 pixels to either side of its centre, both included."""
    settings = f"'feat_stride': 16, 'scales': [1], 'ratios': [1], 'RPN_MIN_SIZE': {least}"
    shapes = (1, 2, 2, 3), (1, 4, 2, 3), (1, 3)
    net = net_of("ProposalLayer", settings, 1, *shapes)
    scores = np.arange(12).reshape(shapes[0])
    assert len(run(net, scores, np.zeros(shapes[1]), [[90, 90, 1]])[0]) == amount


def test_proposal_layer_undoes_the_normalization_of_offsets_in_training(rng):
    scores, offsets = random_scores(rng)
    normal = f"{ANCHORS}, 'RPN_NORMALIZE_TARGETS': True, 'RPN_MIN_SIZE': 0"
    shapes = scores.shape, offsets.shape, (1, 3)
    std = np.array([0.1, 0.1, 0.2, 0.2]).reshape(1, 1, 4, 1, 1)
    real = (offsets.reshape(1, 4, 4, 4, 5) * std).reshape(offsets.shape)
    plain = net_of("ProposalLayer", f"{ANCHORS}, 'RPN_MIN_SIZE': 0", 1, *shapes)
    expected = run(plain, scores, real, [[30, 37, 1]])[0]
    found = run(net_of("ProposalLayer", normal, 1, *shapes), scores, offsets, [[30, 37, 1]])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    tested = net_of("ProposalLayer", normal, 1, *shapes, phase="test")
    np.testing.assert_allclose(run(tested, scores, real, [[30, 37, 1]])[0], expected, rtol=1e-12)


def test_numbers_of_regions_are_those_of_the_configuration():
    shapes = (1, 18, 3, 4), (1, 36, 3, 4), (1, 3)
    for phase, after in (("train", 2000), ("test", 300)):
        net = net_of("ProposalLayer", "'feat_stride': 16", 1, *shapes, phase=phase)
        assert net.blobs["y0"].shape == (after, 5)


def test_a_tuple_of_python_is_a_list(rng):
    text = layer("ProposalLayer", r"'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]", 1)
    net = mc.Net(parse_net(layer_net(text, [(1, 24, 2, 2), (1, 48, 2, 2), (1, 3)])))
    assert net.layers[-1].rules.anchors.shape == (12, 4)


# ------------------------------------------------------------------------------------------ AnchorTargetLayer

BOXES = np.array([[3, 2, 17, 15, 4], [20, 8, 37, 22, 1], [1, 20, 9, 29, 2]], float)
SIZE = [[30, 40, 1.5]]


def anchor_targets(settings="", boxes=BOXES, **options):
    net = net_of("AnchorTargetLayer", ANCHORS + settings, 4, (1, 8, 4, 5), (3, 5), (1, 3), **options)
    labels, *others = run(net, np.zeros((1, 8, 4, 5)), boxes, SIZE)
    assert labels.shape == (1, 1, 16, 5) and all(x.shape == (1, 16, 4, 5) for x in others)
    return labels.reshape(4, 4, 5), *(x.reshape(4, 4, 4, 5) for x in others)


def each_anchor(border=0):
    """(anchor, row, column) and the box, of each anchor that lies in the image or not far beyond."""
    shapes = anchors.anchors_of(16, [0.5, 1], [1, 2])
    for a, row, col in np.ndindex(4, 4, 5):
        box = shapes[a] + 8 * np.array([col, row, col, row])
        if (box >= -border).all() and box[2] < 40 + border and box[3] < 30 + border:
            yield (a, row, col), box


def test_anchors_get_the_labels_and_offsets_of_faster_rcnn():
    labels, offsets, inside, outside = anchor_targets(
        ", 'RPN_POSITIVE_OVERLAP': 0.45, 'RPN_NEGATIVE_OVERLAP': 0.2"
    )
    places, boxes = zip(*each_anchor(), strict=True)
    table = np.array([[overlap(box, true[:4]) for true in BOXES] for box in boxes])
    expected = np.full((4, 4, 5), -1)
    for place, row in zip(places, table, strict=True):
        is_best = any(row[g] == table[:, g].max() for g in range(3))
        expected[place] = 1 if is_best or row.max() >= 0.45 else 0 if row.max() < 0.2 else -1
    np.testing.assert_array_equal(labels, expected)
    assert (labels == 1).sum() >= 3 and (labels == 0).any() and (labels == -1).any()
    np.testing.assert_array_equal(inside, np.broadcast_to((labels == 1)[:, None], inside.shape))
    counted = (labels >= 0)[:, None]
    np.testing.assert_allclose(outside, np.broadcast_to(counted / counted.sum(), outside.shape))
    for (a, row, col), box, overlaps in zip(places, boxes, table, strict=True):
        true = BOXES[overlaps.argmax()]
        (w, h), (tw, th) = box[2:] - box[:2] + 1, true[2:4] - true[:2] + 1
        x, y = (true[:2] + true[2:4] - box[:2] - box[2:]) / 2
        np.testing.assert_allclose(
            offsets[a, :, row, col], [x / w, y / h, np.log(tw / w), np.log(th / h)], atol=1e-12
        )
    outside_image = np.ones((4, 4, 5), bool)
    outside_image[tuple(np.transpose(places))] = False
    assert not np.moveaxis(offsets, 1, -1)[outside_image].any()


def test_too_many_anchors_are_drawn_from_anew_each_time_and_alike_in_each_run():
    every = anchor_targets(", 'RPN_POSITIVE_OVERLAP': 0.3")[0]
    settings = ", 'RPN_POSITIVE_OVERLAP': 0.3, 'RPN_BATCHSIZE': 10, 'RPN_FG_FRACTION': 0.35"
    drawn = [anchor_targets(settings, seed=seed)[0] for seed in (1, 1, 2)]
    for labels in drawn:
        assert ((labels == 1).sum(), (labels == 0).sum()) == (3, 7)
        assert (every[labels >= 0] == labels[labels >= 0]).all()
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_positives_may_have_a_weight_and_offsets_be_normalized():
    settings = (
        ", 'RPN_POSITIVE_WEIGHT': 0.25, 'RPN_NORMALIZE_TARGETS': True, 'RPN_NORMALIZE_STDS': [1, 2, 4, 8]"
    )
    labels, offsets, _, outside = anchor_targets(settings)
    assert outside[:, 0][labels == 1].sum() == pytest.approx(0.25)
    assert outside[:, 0][labels == 0].sum() == pytest.approx(0.75)
    plain = anchor_targets()[1]
    np.testing.assert_allclose(offsets * np.array([1, 2, 4, 8]).reshape(1, 4, 1, 1), plain)


def test_without_true_boxes_all_anchors_in_the_image_are_background():
    labels, offsets, inside, _ = anchor_targets(boxes=np.zeros((0, 5)))
    assert (labels == 0).sum() == len(list(each_anchor())) and not offsets.any() and not inside.any()


@pytest.mark.parametrize("border", [0, 4, 7.5])
def test_anchors_may_leave_the_image_by_a_border(border):
    labels, *_ = anchor_targets(f", 'allowed_border': {border}", boxes=np.zeros((0, 5)))
    expected = np.full((4, 4, 5), -1)
    for place, _ in each_anchor(border):
        expected[place] = 0
    np.testing.assert_array_equal(labels, expected)
    assert len(list(each_anchor(border))) > len(list(each_anchor())) or not border


def test_inside_weights_of_anchors_may_differ_by_side():
    labels, _, inside, outside = anchor_targets(", 'RPN_BBOX_INSIDE_WEIGHTS': [1, 0, 3, 0.5]")
    weights = np.array([1, 0, 3, 0.5])[:, None, None]
    np.testing.assert_array_equal(inside, (labels == 1)[:, None] * weights)
    np.testing.assert_array_equal(outside, anchor_targets()[3])


def test_a_true_box_that_no_anchor_overlaps_makes_objects_of_all_that_do_not():
    """py-faster-rcnn's own: the largest overlap with such a box is 0, and all anchors have it."""
    labels, *_ = anchor_targets(boxes=np.array([BOXES[0], [300, 300, 320, 310, 1]]))
    assert all(labels[place] == 1 for place, _ in each_anchor())


def test_thresholds_of_anchors_are_reached_by_what_equals_them():
    """Anchors 8 pixels beside the true box share 128 pixels with it, of 384 that either has."""
    box = anchors.anchors_of(16, [1], [1])[0] + 8
    for settings, beside in (("'RPN_POSITIVE_OVERLAP'", 1), ("'RPN_NEGATIVE_OVERLAP'", -1)):
        labels, *_ = anchor_targets(f", {settings}: {1 / 3!r}", boxes=np.array([[*box, 1]]))
        assert labels[2, 1, 1] == 1 and labels[2, 1, 2] == labels[2, 0, 1] == beside


def test_draws_go_on_where_a_snapshot_was_taken():
    net = net_of("AnchorTargetLayer", f"{ANCHORS}, 'RPN_BATCHSIZE': 6", 4, (1, 8, 4, 5), (3, 5), (1, 3))
    inputs = np.zeros((1, 8, 4, 5)), BOXES, SIZE
    run(net, *inputs)
    state = net.layers[-1].state()
    second = run(net, *inputs)[0]
    assert (run(net, *inputs)[0] != second).any()
    net.layers[-1].restore(state)
    assert (run(net, *inputs)[0] == second).all()


# ---------------------------------------------------------------------------------------- ProposalTargetLayer

TRUE = np.array([[10, 10, 29, 39, 2], [50, 20, 79, 49, 4]], float)


def region_targets(rng, settings="", classes=5, **options):
    near = TRUE[rng.integers(0, 2, 60), :4] + rng.uniform(-9, 9, (60, 4))
    far = rng.uniform(0, 30, (60, 2))
    regions = np.concatenate([near, np.concatenate([far, far + rng.uniform(5, 60, (60, 2))], axis=1)])
    regions = np.concatenate([np.zeros((120, 1)), regions], axis=1)
    settings = f"'num_classes': {classes}{settings}"
    net = net_of("ProposalTargetLayer", settings, 5, regions.shape, TRUE.shape, **options)
    found = run(net, regions, TRUE)
    assert all(part.shape[2:] == (1, 1) for part in found)
    return regions, *(part[..., 0, 0] for part in found)


@pytest.mark.parametrize(
    ("settings", "most_objects", "amount"),
    [("", 32, 122), (", 'BATCH_SIZE': 20", 5, 20), (", 'BATCH_SIZE': 20, 'FG_FRACTION': 0.5", 10, 20)],
)
def test_regions_are_drawn_with_labels_and_offsets(settings, most_objects, amount, rng):
    given, regions, labels, offsets, inside, outside = region_targets(rng, settings)
    candidates = np.concatenate([given, np.pad(TRUE[:, :4], [(0, 0), (1, 0)])])
    all_overlaps = np.array([[overlap(region[1:], true[:4]) for true in TRUE] for region in candidates])
    objects = int((labels > 0).sum())
    assert objects == min(most_objects, (all_overlaps.max(axis=1) >= 0.5).sum())
    assert len(regions) == min(amount, objects + (all_overlaps.max(axis=1) < 0.5).sum())
    assert (labels[:objects] > 0).all() and labels.shape == (len(regions), 1)
    assert len(np.unique(regions, axis=0)) == len(regions)
    for region, label, row, weights in zip(regions, labels[:, 0], offsets, inside, strict=True):
        index = int(np.flatnonzero((candidates == region).all(axis=1))[0])
        true = TRUE[all_overlaps[index].argmax()]
        expected, expected_weights = np.zeros((2, 5, 4))
        if all_overlaps[index].max() >= 0.5:
            assert label == true[4]
            own = anchors.encode(true[None, :4], region[None, 1:]) / [0.1, 0.1, 0.2, 0.2]
            expected[int(label)], expected_weights[int(label)] = own[0], 1
        else:
            assert label == 0
        np.testing.assert_allclose(row.reshape(5, 4), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(weights.reshape(5, 4), expected_weights)
    np.testing.assert_array_equal(outside, inside > 0)


def test_all_regions_are_taken_for_hard_example_mining(rng):
    given, regions, labels, *_ = region_targets(rng, ", 'BATCH_SIZE': -1")
    assert len(regions) == len(given) + 2 and (labels > 0).sum() > 32


def test_background_has_a_least_overlap_if_asked_for(rng):
    _, regions, labels, *_ = region_targets(rng, ", 'BATCH_SIZE': -1, 'BG_THRESH_LO': 0.1")
    found = [max(overlap(region[1:], true[:4]) for true in TRUE) for region in regions[labels[:, 0] == 0]]
    assert min(found) >= 0.1 and max(found) < 0.5


def test_with_two_classes_of_boxes_offsets_are_those_of_any_object(rng):
    _, _, labels, offsets, inside, _ = region_targets(rng, classes=2)
    assert set(labels.ravel()) == {0, 2, 4} and offsets.shape[1] == 8
    np.testing.assert_array_equal(inside, np.repeat(labels > 0, 8, axis=1) * ([0] * 4 + [1] * 4))


def targets_of(regions, settings):
    """Labels (S,), offsets (S, K, 4), inside and outside weights of regions with TRUE, which is their last two."""
    rows = np.pad(np.array(regions, float), [(0, 0), (1, 0)])
    net = net_of("ProposalTargetLayer", f"'num_classes': 5{settings}", 5, rows.shape, TRUE.shape)
    chosen, labels, *others = run(net, rows, TRUE)
    order = np.lexsort(chosen[..., 0, 0].T)
    return labels.reshape(-1)[order], *(part.reshape(-1, 5, 4)[order] for part in others)


HALF, QUARTER = [10, 10, 29, 24], [10, 10, 29, 39 - 22.5]  # of TRUE[0]


def test_thresholds_of_regions_are_reached_by_what_equals_them():
    for settings, regions, expected in (
        ("'FG_THRESH': 0.5", [HALF], [2, 2, 4]),  # sorted by their last edges
        ("'FG_THRESH': 0.6", [HALF], [2, 4]),  # neither object nor background
        ("'FG_THRESH': 0.6, 'BG_THRESH_LO': 0.25", [QUARTER], [0, 2, 4]),
        ("'FG_THRESH': 0.6, 'BG_THRESH_LO': 0.26", [QUARTER], [2, 4]),
    ):
        assert targets_of(regions, f", {settings}")[0].tolist() == expected, settings


def test_offsets_of_regions_are_plain_unless_they_are_to_be_normalized():
    normal = targets_of([HALF], ", 'BBOX_NORMALIZE_MEANS': [0, 0.1, 0, 0]")[1]
    labels, plain, *_ = targets_of([HALF], ", 'BBOX_NORMALIZE_TARGETS_PRECOMPUTED': False")
    assert labels[0] == 2
    np.testing.assert_allclose(plain[0, 2], [0, 0.5, 0, np.log(2)], atol=1e-12)
    np.testing.assert_allclose(normal[0, 2], [0, 4, 0, 5 * np.log(2)], atol=1e-12)


def test_outside_weights_of_regions_are_1_wherever_inside_weights_are_not_0():
    labels, _, inside, outside = targets_of([HALF], ", 'BBOX_INSIDE_WEIGHTS': [0, 2, 1, 0.5]")
    assert labels[0] == 2 and inside[0, 2].tolist() == [0, 2, 1, 0.5]
    assert outside[0, 2].tolist() == [0, 1, 1, 1] and outside[0].sum() == 3


@pytest.mark.parametrize(("wanted", "objects"), [(10, 2), (14, 4)])
def test_the_share_of_objects_is_rounded_halves_to_the_even_number(wanted, objects, rng):
    _, regions, labels, *_ = region_targets(rng, f", 'BATCH_SIZE': {wanted}")
    assert len(regions) == wanted and (labels > 0).sum() == objects


def test_of_boxes_that_are_alike_for_all_classes_the_offsets_are_those_of_class_1(rng):
    labels, offsets, inside, _ = targets_of([HALF], ", 'AGNOSTIC': True")
    assert labels.tolist() == [2, 2, 4] and offsets[0, 1].any() and not offsets[:, 2:].any()
    assert (inside == (np.arange(5) == 1)[:, None]).all()


# ------------------------------------------------------------------------------------------------- a whole net

NET = """force_backward: false
layer:
- {name: in, top: [data, im_info, gt_boxes], type: Python,
   python_param: {module: roi_data_layer.layer, layer: RoIDataLayer, param_str: "'num_classes': 3"}}
- {name: conv, type: Convolution, bottom: data,
   convolution_param: {num_output: 12, kernel_size: 16, stride: 16, weight_filler: {type: xavier}}}
- {name: relu, type: ReLU, top: conv}
- {name: score, type: Convolution, bottom: conv,
   convolution_param: {num_output: 6, kernel_size: 1, weight_filler: {type: gaussian, std: 0.01}}}
- {name: offsets, type: Convolution, bottom: conv,
   convolution_param: {num_output: 12, kernel_size: 1, weight_filler: {type: gaussian, std: 0.01}}}
- {name: pairs, type: Reshape, bottom: score, reshape_param: {shape: {dim: [0, 2, -1, 0]}}}
- name: anchors
  type: Python
  bottom: [score, gt_boxes, im_info, data]
  top: [labels, targets, inside, outside]
  python_param: {module: rpn.anchor_target_layer, layer: AnchorTargetLayer,
    param_str: "{'feat_stride': 16, 'scales': [2], 'RPN_BATCHSIZE': 16}"}
- {name: rpn_loss, type: SoftmaxWithLoss, bottom: [pairs, labels], propagate_down: [true, false],
   loss_param: {ignore_label: -1}}
- {name: rpn_box, type: SmoothL1Loss, bottom: [offsets, targets, inside, outside], smooth_l1_loss_param: {sigma: 3}}
- {name: prob, type: Softmax, bottom: pairs}
- {name: probs, type: Reshape, reshape_param: {shape: {dim: [0, 6, -1, 0]}}}
- name: proposal
  type: Python
  bottom: [probs, offsets, im_info]
  python_param: {module: rpn.proposal_layer, layer: ProposalLayer, param_str: "{'feat_stride': 16, 'scales': [2]}"}
- name: chosen
  type: Python
  bottom: [proposal, gt_boxes]
  top: [rois, label, box, box_inside, box_outside]
  python_param: {module: rpn.proposal_target_layer, layer: ProposalTargetLayer,
    param_str: "{'num_classes': 3, 'BATCH_SIZE': 16}"}
- {name: pool, type: ROIPooling, bottom: [conv, rois],
   roi_pooling_param: {pooled_h: 2, pooled_w: 2, spatial_scale: 0.0625}}
- {name: class, type: InnerProduct, bottom: pool,
   inner_product_param: {num_output: 3, weight_filler: {type: gaussian, std: 0.01}}}
- {name: side, type: InnerProduct, bottom: pool,
   inner_product_param: {num_output: 12, weight_filler: {type: gaussian, std: 0.01}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [class, label], propagate_down: [true, false]}
- {name: box_loss, type: SmoothL1Loss, bottom: [side, box, box_inside, box_outside]}
"""


def test_a_net_of_faster_rcnn_learns(rng):
    """Its data are an image and boxes that the program writes into the net."""
    net = mc.Net(parse_net(NET), phase="train", seed=2)
    boxes = np.array([[4, 8, 39, 45, 1], [60, 20, 95, 59, 2]])
    image = np.zeros((1, 3, 80, 96))
    for box in boxes:
        x1, y1, x2, y2, label = box
        image[0, label, y1 : y2 + 1, x1 : x2 + 1] = 1
    net.blobs["data"].reshape(*image.shape)
    net.blobs["gt_boxes"].reshape(2, 5)
    losses = []
    for _ in range(60):
        net.clear_param_diffs()
        net.forward(data=image, im_info=[[80, 96, 1]], gt_boxes=boxes)
        losses.append(float(net.loss()))
        net.backward()
        for blobs in net.params.values():
            for blob in blobs:
                blob.data[...] -= 0.1 * blob.diff
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_the_data_layer_has_the_tops_of_its_net():
    text = "layer:\n- {name: L, " + layer("RoIDataLayer", "'num_classes': 4", 6) + "}\n"
    net = mc.Net(parse_net(text))
    shapes = [net.blobs[f"y{i}"].shape for i in range(6)]
    assert shapes == [(1, 3, 608, 1024), (1, 5, 1, 1), (1, 1, 1, 1), *[(1, 16, 1, 1)] * 3]
    text += "- {name: x, type: Input, input_param: {shape: {dim: [1, 8, 3, 3]}}}\n"
    pool = "psroi_pooling_param: {spatial_scale: 1, output_dim: 8, group_size: 1}"
    net = mc.Net(parse_net(text + f"- {{name: p, type: PSROIPooling, bottom: [x, y1], {pool}}}\n"))
    assert net.blobs["y3"].shape == (1, 8, 1, 1)
    text = "layer:\n- {name: L, " + layer("RoIDataLayer", "{'num_classes': 4, 'AGNOSTIC': True}", 6) + "}\n"
    assert mc.Net(parse_net(text)).blobs["y5"].shape == (1, 8, 1, 1)


# --------------------------------------------------------------------------------- what their own code computes


@pytest.mark.parametrize("case", recorded_names("rpn"))
def test_ours_computes_what_theirs_does(case):
    """Recorded from py-R-FCN's layers, with regions sorted where they are drawn in a random order."""
    golden = recorded("rpn")[case]
    inputs = [golden[f"x{i}"] for i in range(len(parts(golden, "x")))]
    tops = len(parts(golden, "y"))
    param_str = str(golden["param_str"]).replace("\n", r"\n")
    text = layer_net(layer(str(golden["kind"]), param_str, tops), [x.shape for x in inputs])
    found = run(mc.Net(parse_net(text), phase=str(golden["phase"])), *inputs)
    if "target_" in case:
        order = np.lexsort(found[0].reshape(len(found[0]), -1).T)
        found = [values[order] for values in found]
    for i, values in enumerate(found):
        assert values.shape == golden[f"y{i}"].shape
        np.testing.assert_allclose(values, golden[f"y{i}"], rtol=1e-5, atol=1e-5)
