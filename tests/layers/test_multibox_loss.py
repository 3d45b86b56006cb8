"""The loss of SSD and RefineDet, against a reference of loops over priors and boxes; and its gradients."""

import math

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection.matching import match
from minicaffe.ops.detection.mining import hardest, hardest_apart
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

IMAGES, PRIORS, CLASSES = 3, 10, 4
DEFAULTS = {
    "loc_loss_type": "SMOOTH_L1",
    "conf_loss_type": "SOFTMAX",
    "loc_weight": 1,
    "num_classes": CLASSES,
    "share_location": True,
    "match_type": "PER_PREDICTION",
    "overlap_threshold": 0.5,
    "use_prior_for_matching": True,
    "background_label_id": 0,
    "use_difficult_gt": True,
    "neg_pos_ratio": 3,
    "neg_overlap": 0.5,
    "code_type": "CORNER",
    "encode_variance_in_target": False,
    "map_object_to_agnostic": False,
    "ignore_cross_boundary_bbox": False,
    "bp_inside": False,
    "mining_type": "MAX_NEGATIVE",
    "nms_param": None,
    "sample_size": 64,
    "use_prior_for_nms": False,
    "objectness_score": 0.01,
    "normalization": "VALID",
}

# ------------------------------------------------------------------------------------- a slow reference


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - width * height)


def encode(box, prior, code):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CENTER_SIZE":
        return np.array(
            [
                ((box[0] + box[2]) - (prior[0] + prior[2])) / 2 / w,
                ((box[1] + box[3]) - (prior[1] + prior[3])) / 2 / h,
                math.log((box[2] - box[0]) / w),
                math.log((box[3] - box[1]) / h),
            ]
        )
    return (box - prior) / (np.array([w, h, w, h]) if code == "CORNER_SIZE" else 1)


def decode(offset, prior, code):
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CENTER_SIZE":
        x = (prior[0] + prior[2]) / 2 + offset[0] * w
        y = (prior[1] + prior[3]) / 2 + offset[1] * h
        half = math.exp(offset[2]) * w / 2, math.exp(offset[3]) * h / 2
        return np.array([x - half[0], y - half[1], x + half[0], y + half[1]])
    return prior + offset * (np.array([w, h, w, h]) if code == "CORNER_SIZE" else 1)


def match_slowly(priors, boxes, p):
    """The box of each prior, −1 or −2, and its highest overlap, pair after pair."""
    found, highest, pairs = [-1] * len(priors), [0.0] * len(priors), {}
    for i, prior in enumerate(priors):
        if boxes and p["ignore_cross_boundary_bbox"] and (min(prior) < 0 or max(prior) > 1):
            found[i] = -2
            continue
        for j, box in enumerate(boxes):
            if overlap(prior, box) > 1e-6:
                pairs[i, j] = overlap(prior, box)
                highest[i] = max(highest[i], pairs[i, j])
    left = set(range(len(boxes)))
    while True:
        free = {pair: o for pair, o in pairs.items() if found[pair[0]] == -1 and pair[1] in left}
        if not free:
            break
        i, j = min(free, key=lambda pair: (-free[pair], pair))
        found[i] = j
        left -= {j}
    if p["match_type"] == "PER_PREDICTION":
        for i in range(len(priors)):
            near = [(-o, j) for (k, j), o in pairs.items() if k == i and o >= p["overlap_threshold"]]
            if found[i] == -1 and near:
                found[i] = min(near)[1]
    return found, highest


def f(d, p):
    return d * d / 2 if p["loc_loss_type"] == "L2" or abs(d) < 1 else abs(d) - 0.5


def confidence_loss(scores, targets, p):
    """ℓ of one prior; ``targets`` are the classes that it should be."""
    if p["conf_loss_type"] == "SOFTMAX":
        (label,) = targets
        return math.log(sum(math.exp(s) for s in scores)) - scores[label]
    return sum(math.log1p(math.exp(-s if c in targets else s)) for c, s in enumerate(scores))


def loss_slowly(given, locations, confidences, priors, rows, arm_confidences=None, arm_locations=None):
    """The loss, image after image and prior after prior."""
    p = DEFAULTS | given
    K, code, in_target, background = (
        p[name] for name in ("num_classes", "code_type", "encode_variance_in_target", "background_label_id")
    )
    L = 1 if p["share_location"] else K
    boxes_of_priors, variances = priors.reshape(2, -1, 4)
    P = len(boxes_of_priors)
    locations, confidences = locations.reshape(-1, P, L, 4), confidences.reshape(-1, P, K)
    mines = p["mining_type"] != "NONE"
    where, what, matches = 0.0, 0.0, 0

    def decoded(x, i, prior):
        return decode(x if in_target else x * variances[i], prior, code)

    def distance(n, c, i, prior, box):
        x, target = locations[n, i, c].copy(), encode(box, prior, code)
        reference = prior if p["use_prior_for_matching"] else decoded(x, i, prior)
        total = 0.0
        for k in range(4):
            if p["bp_inside"] and not 0 <= reference[k] <= 1:
                continue
            total += f((x[k] / (variances[i, k] if in_target else 1)) - target[k] / variances[i, k], p)
        return total

    for n in range(len(locations)):
        truth = [
            (int(r[1]), r[3:7])
            for r in rows.reshape(-1, 8)
            if r[0] == n and (p["use_difficult_gt"] or not r[7])
        ]
        if K == 2:
            truth = [(min(label, 1), box) for label, box in truth]
        moved = list(boxes_of_priors)
        if arm_locations is not None:
            moved = [decoded(x, i, moved[i]) for i, x in enumerate(arm_locations.reshape(-1, P, 4)[n])]
        found, highest = {}, {}  # by the class of locations
        for c in range(L):
            if p["use_prior_for_matching"]:
                own = list(range(len(truth)))
                candidates = moved
            else:
                own = [j for j, (label, _) in enumerate(truth) if L == 1 or label == c]
                candidates = [decoded(locations[n, i, c], i, boxes_of_priors[i]) for i in range(P)]
            one, highest[c] = match_slowly(candidates, [truth[j][1] for j in own], p)
            found[c] = [own[j] if j >= 0 else j for j in one]
            if L > 1:
                found[c] = [j if j >= 0 and truth[j][0] == c else -1 for j in found[c]]
        label_of = {
            j: background + 1 if p["map_object_to_agnostic"] else truth[j][0] for j in range(len(truth))
        }
        targets = [[label_of[found[c][i]] for c in range(L) if found[c][i] >= 0] for i in range(P)]
        if p["conf_loss_type"] == "SOFTMAX":
            targets = [t[-1:] or [background] for t in targets]
        elif mines:
            targets = [t or [background] for t in targets]
        losses = [confidence_loss(confidences[n, i], targets[i], p) for i in range(P)]
        examples = set(range(P))
        if mines and truth:
            hard = list(losses)
            positive = {i for i in range(P) if found[0][i] >= 0}
            if p["mining_type"] == "HARD_EXAMPLE":
                eligible, most = set(range(P)), p["sample_size"]
                for i in positive:
                    hard[i] += distance(n, 0, i, boxes_of_priors[i], truth[found[0][i]][1])
            else:
                eligible = {i for i in range(P) if found[0][i] == -1 and highest[0][i] < p["neg_overlap"]}
                most = int(len(positive) * p["neg_pos_ratio"])
            if arm_confidences is not None:
                score = arm_confidences.reshape(-1, P, 2)[n, :, 1]
                eligible = {i for i in eligible if score[i] >= p["objectness_score"]}
            order = sorted(eligible, key=lambda i: (-hard[i], i))
            if p["nms_param"]:
                threshold, top_k = p["nms_param"]
                candidates = (
                    boxes_of_priors
                    if p["use_prior_for_nms"]
                    else [decoded(locations[n, i, 0], i, boxes_of_priors[i]) for i in range(P)]
                )
                kept = []
                for i in order[:top_k]:
                    sides = np.maximum(candidates[i][2:] - candidates[i][:2], 0)
                    apart = all(overlap(candidates[i], candidates[k]) <= threshold for k in kept)
                    if apart and sides.prod() >= 1e-5:
                        kept.append(i)
                order = kept
            chosen = set(order[:most])
            negative = {i for i in chosen if found[0][i] == -1}
            if p["mining_type"] == "HARD_EXAMPLE":
                found[0] = [j if i in chosen or j < 0 else -1 for i, j in enumerate(found[0])]
                positive &= chosen
            examples = negative | positive
        elif mines:
            examples = set()
        what += sum(losses[i] for i in examples)
        for c, i in np.ndindex(L, P):
            if found[c][i] >= 0:
                where += distance(n, c, i, moved[i], truth[found[c][i]][1])
                matches += 1
    n = {"VALID": matches, "FULL": len(locations) * P, "BATCH_SIZE": len(locations), "NONE": 1}
    return (p["loc_weight"] * where + what) / max(1, n[p["normalization"]])


# -------------------------------------------------------------------------------------------- the cases


def layer_of(given, more=""):
    """The layer's text with the given fields."""
    given = dict(given)
    normalization = given.pop("normalization", None)
    if given.get("nms_param"):
        given["nms_param"] = "{{nms_threshold: {}, top_k: {}}}".format(*given["nms_param"])
    fields = ", ".join(f"{name}: {value}" for name, value in ({"num_classes": CLASSES} | given).items())
    loss = f", loss_param: {{normalization: {normalization}}}" if normalization else ""
    return f"type: MultiBoxLoss, multibox_loss_param: {{{fields}}}{loss}{more}"


def bottoms_of(given, rng, first_detector=0):
    """Locations, confidences, priors and boxes, some of which reach out of the image; the last image has none."""
    K = given.get("num_classes", CLASSES)
    L = 1 if given.get("share_location", True) else K
    boxes = np.array(
        [
            [0, 1, 0, 0.1, 0.1, 0.5, 0.6, 0],
            [0, 2, 0, 0.4, 0.3, 0.9, 0.8, 0],
            [1, 3, 0, 0.1, 0.55, 0.45, 0.95, 1],
            [1, 1, 0, 0.5, 0.1, 1.0, 0.5, 0],
            [1, 1, 1, 0.55, 0.05, 0.95, 0.6, 0],
            [-1, -1, -1, -1, -1, -1, -1, -1],
        ]
    )
    near = boxes[[0, 0, 1, 1, 2, 3, 3], 3:7] + rng.uniform(-0.12, 0.12, (7, 4))
    corner = rng.uniform(-0.2, 0.6, (PRIORS - 7, 2))
    priors = np.concatenate([near, np.concatenate([corner, corner + rng.uniform(0.2, 0.6, corner.shape)], 1)])
    variances = rng.uniform(0.1, 0.3, priors.shape)
    small = 0.1 if given.get("encode_variance_in_target") else 1
    bottoms = [
        rng.standard_normal((IMAGES, PRIORS * L * 4)) * small,
        rng.standard_normal((IMAGES, PRIORS * K)),
        np.stack([priors.ravel(), variances.ravel()])[None],
        boxes[None, None],
    ]
    if first_detector:
        bottoms.append(rng.uniform(0, 1, (IMAGES, PRIORS * 2)))
    if first_detector > 1:
        bottoms.append(rng.standard_normal((IMAGES, PRIORS * 4)) * 0.3 * small)
    return bottoms


def case(first_detector=0, **given):
    return pytest.param(
        given, first_detector, id=", ".join(f"{k} {v}" for k, v in given.items()) or "defaults"
    )


CASES = [
    case(),
    case(code_type="CENTER_SIZE", loc_weight=0.7),
    case(code_type="CORNER_SIZE", loc_loss_type="L2"),
    case(code_type="CENTER_SIZE", encode_variance_in_target=True),
    case(encode_variance_in_target=True, bp_inside=True),
    case(code_type="CENTER_SIZE", conf_loss_type="LOGISTIC"),
    case(match_type="BIPARTITE", neg_pos_ratio=1.5),
    case(mining_type="NONE", normalization="FULL"),
    case(mining_type="NONE", conf_loss_type="LOGISTIC", normalization="BATCH_SIZE"),
    case(mining_type="NONE", share_location=False, normalization="NONE"),
    case(mining_type="NONE", share_location=False, use_prior_for_matching=False, overlap_threshold=0.3),
    case(
        mining_type="NONE",
        share_location=False,
        use_prior_for_matching=False,
        conf_loss_type="LOGISTIC",
        background_label_id=-1,
        overlap_threshold=0.2,
    ),
    case(use_prior_for_matching=False, code_type="CENTER_SIZE", bp_inside=True, overlap_threshold=0.3),
    case(mining_type="HARD_EXAMPLE", sample_size=5, code_type="CENTER_SIZE"),
    case(
        mining_type="HARD_EXAMPLE",
        sample_size=5,
        conf_loss_type="LOGISTIC",
        loc_loss_type="L2",
        bp_inside=True,
    ),
    case(mining_type="HARD_EXAMPLE", sample_size=6, nms_param=(0.3, 9)),
    case(nms_param=(0.2, 100), use_prior_for_nms=True),
    case(nms_param=(0.2, 4), neg_overlap=0.2),
    case(ignore_cross_boundary_bbox=True, bp_inside=True, mining_type="HARD_EXAMPLE", sample_size=8),
    case(ignore_cross_boundary_bbox=True, mining_type="NONE"),
    case(use_difficult_gt=False, overlap_threshold=0.1),
    case(num_classes=2),
    case(num_classes=2, map_object_to_agnostic=True, conf_loss_type="LOGISTIC"),
    case(num_classes=1, map_object_to_agnostic=True, conf_loss_type="LOGISTIC", background_label_id=-1),
    case(1, objectness_score=0.5),
    case(2, objectness_score=0.3, code_type="CENTER_SIZE"),
    case(2, use_prior_for_matching=False, bp_inside=True),
    case(2, mining_type="HARD_EXAMPLE", sample_size=6, objectness_score=0.4),
]


@pytest.mark.parametrize(("given", "first_detector"), CASES)
def test_the_loss_is_that_of_the_reference(given, first_detector, rng):
    bottoms = bottoms_of(given, rng, first_detector)
    net = net_of(layer_of(given), *(x.shape for x in bottoms), dtype="float64")
    loss = net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"]
    assert float(loss) == pytest.approx(loss_slowly(given, *bottoms), rel=1e-12)


@pytest.mark.parametrize(("given", "first_detector"), CASES)
def test_backward_is_the_derivative_of_forward(given, first_detector, rng):
    bottoms = bottoms_of(given, rng, first_detector)
    net = check_gradients(layer_of(given, ", loss_weight: 0.6"), bottoms, by=["x0", "x1"], most=30)
    assert not any(net.blobs[f"x{i}"].has_diff for i in range(2, len(bottoms)))


def test_float32_gives_the_loss_to_six_digits(rng):
    bottoms = bottoms_of({}, rng)
    net = net_of(layer_of({}), *(x.shape for x in bottoms))
    loss = net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"]
    assert loss.dtype == np.float32 and float(loss) == pytest.approx(loss_slowly({}, *bottoms), rel=1e-6)


# ----------------------------------------------------------------------------------------- conventions


def test_images_without_boxes_are_no_examples_when_mining_and_background_without(rng):
    bottoms = bottoms_of({}, rng)
    bottoms[3][...] = -1
    for mining, divisor in (("MAX_NEGATIVE", 1), ("NONE", IMAGES * PRIORS)):
        given = {"mining_type": mining, "normalization": "FULL"}
        net = net_of(layer_of(given), *(x.shape for x in bottoms), dtype="float64")
        loss = float(net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"])
        x = bottoms[1].reshape(-1, CLASSES)
        background = (np.log(np.exp(x).sum(1)) - x[:, 0]).sum() / divisor
        assert loss == pytest.approx(background if mining == "NONE" else 0)


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_loss_without_a_gradient_is_left_out(left_out, rng):
    bottoms = bottoms_of({}, rng)
    down = ["true", "true", "false", "false"]
    down[left_out] = "false"
    more = f", propagate_down: [{', '.join(down)}]"
    net = net_of(layer_of({}, more), *(x.shape for x in bottoms), dtype="float64")
    loss = float(net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"])
    without_locations = loss_slowly({"loc_weight": 0}, *bottoms)
    whole = loss_slowly({}, *bottoms)
    assert loss == pytest.approx(without_locations if left_out == 0 else whole - without_locations)
    net.backward()
    assert [net.blobs[name].has_diff for name in ("x0", "x1")] == [left_out == 1, left_out == 0]


def test_the_number_of_boxes_changes_from_batch_to_batch(rng):
    bottoms = bottoms_of({}, rng)
    net = net_of(layer_of({}), *(x.shape for x in bottoms), dtype="float64")
    for rows in (6, 2, 4, 0):
        net.blobs["x3"].reshape(1, 1, rows, 8)
        now = [*bottoms[:3], bottoms[3][:, :, :rows]]
        loss = float(net.forward(**{f"x{i}": x for i, x in enumerate(now)})["L"])
        assert loss == pytest.approx(loss_slowly({}, *now))


def test_each_box_gets_a_prior_of_its_own_even_if_others_overlap_it_more():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.9, 1]])
    priors = np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.9, 0.9, 1.2, 1.2]])
    matches, highest = match(priors, boxes, 0.5, False)
    assert matches.tolist() == [0, 1, -1] and highest[:2].tolist() == pytest.approx([1, 0.5 / 0.9])
    assert match(priors, boxes, None, False)[0].tolist() == [0, 1, -1]
    assert match(priors, boxes, 0.5, True)[0].tolist() == [0, 1, -2]


def test_of_equal_overlaps_the_first_prior_and_then_the_first_box_match():
    same = np.array([[0.2, 0.2, 0.6, 0.6]] * 3)
    assert match(same, same[:2], None, False)[0].tolist() == [0, 1, -1]
    assert match(same, same[:2], 0.5, False)[0].tolist() == [0, 1, 0]


def test_an_overlap_as_high_as_the_threshold_matches():
    box, priors = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 1], [0, 0, 0.5, 1]])
    assert match(priors, box, 0.5, False)[0].tolist() == [0, 0]
    assert match(priors, box, np.nextafter(0.5, 1), False)[0].tolist() == [0, -1]


def test_an_overlap_of_a_millionth_is_none():
    prior = np.array([[0.0, 0, 1, 1]])
    for side, found in ((9e-4, -1), (1.1e-3, 0)):
        matches, highest = match(prior, np.array([[0, 0, side, side]]), 1e-9, False)
        assert matches.tolist() == [found] and (highest > 0).tolist() == [found == 0]


@pytest.mark.parametrize(("overlap", "examples"), [(0.25, 1), (0.250001, 2)])
def test_a_prior_with_an_overlap_of_neg_overlap_is_no_negative(overlap, examples):
    priors = np.stack([[0, 0, 1, 1, 0, 0, 0.25, 1], [0.1] * 8])[None]
    net = net_of(layer_of({"neg_overlap": overlap}), (1, 8), (1, 8), (1, 2, 8), (1, 1, 1, 8), dtype="float64")
    loss = net.forward(x0=np.zeros((1, 8)), x1=np.zeros((1, 8)), x2=priors, x3=[[[[0, 1, 0, 0, 0, 1, 1, 0]]]])
    assert float(loss["L"]) == pytest.approx(examples * math.log(4))


def test_boxes_of_images_beyond_the_batch_are_left_out(rng):
    bottoms = bottoms_of({}, rng)
    expected = loss_slowly({}, *bottoms)
    bottoms[3][0, 0, -1] = [IMAGES, 1, 0, 0.1, 0.1, 0.5, 0.6, 0]
    net = net_of(layer_of({}), *(x.shape for x in bottoms), dtype="float64")
    loss = net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"]
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_a_box_of_the_background_is_an_error_where_all_others_are_one_class_too(rng):
    given = {"num_classes": 2, "map_object_to_agnostic": True}
    bottoms = bottoms_of(given, rng)
    bottoms[3][0, 0, 1, 1] = 0
    net = net_of(layer_of(given), *(x.shape for x in bottoms))
    with pytest.raises(mc.DataError, match="label 0, but there are 2 classes"):
        net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})


def test_matches_of_many_boxes_are_those_found_pair_after_pair(rng):
    corner = rng.uniform(0, 0.8, (60, 2)).round(1)
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, corner.shape).round(1)], axis=1)
    for given in ({}, {"match_type": "BIPARTITE"}, {"ignore_cross_boundary_bbox": True}):
        p = DEFAULTS | given | {"overlap_threshold": 0.3}
        threshold = 0.3 if p["match_type"] == "PER_PREDICTION" else None
        found = match(boxes[:45], boxes[45:], threshold, p["ignore_cross_boundary_bbox"])
        expected = match_slowly(boxes[:45], list(boxes[45:]), p)
        assert found[0].tolist() == expected[0]
        np.testing.assert_allclose(found[1], expected[1])


def test_the_hardest_are_the_first_of_equal_ones_and_lie_apart():
    losses, all_of_them = np.array([1, 3, 2, 3, 0.5]), np.ones(5, bool)
    assert hardest(losses, all_of_them, 3).tolist() == [1, 3, 2]
    assert hardest(losses, losses < 3, 9).tolist() == [2, 0, 4]
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [0, 0, 1, 0.9], [5, 5, 5, 5]])
    assert hardest_apart(losses, all_of_them, 9, boxes, 0.5, -1).tolist() == [1, 2]
    assert hardest_apart(losses, all_of_them, 1, boxes, 0.5, -1).tolist() == [1]
    assert hardest_apart(losses, all_of_them, 9, boxes, 0.5, 2).tolist() == [1]


def test_nms_without_top_k_mines_nothing_and_says_so(rng, caplog):
    bottoms = bottoms_of({}, rng)
    layer = layer_of({}).replace("num_classes", "nms_param: {nms_threshold: 0.5}, num_classes")
    net = net_of(layer, *(x.shape for x in bottoms), dtype="float64")
    assert "nms_param.top_k: without a top_k nothing is mined" in caplog.text
    loss = float(net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})["L"])
    assert loss == pytest.approx(loss_slowly({"neg_pos_ratio": 0}, *bottoms))


# ---------------------------------------------------------------------------------------------- errors

SHAPES = [(2, 8), (2, 6), (1, 2, 8), (1, 1, 3, 8)]
WRONG = [
    ("type: MultiBoxLoss", SHAPES, "num_classes: required"),
    ("num_classes: 3", [*SHAPES[:2], (1, 2, 6), SHAPES[3]], r"priors have shape \(1, 2, 6\)"),
    ("num_classes: 3", [*SHAPES[:2], (1, 1, 8), SHAPES[3]], r"priors have shape \(1, 1, 8\)"),
    ("num_classes: 3", [*SHAPES[:3], (1, 1, 3, 7)], r"boxes have shape \(1, 1, 3, 7\)"),
    ("num_classes: 3", [(2, 12), *SHAPES[1:]], r"bottom 'x0' has shape \(2, 12\); expected 8 for each of 2"),
    ("num_classes: 4", SHAPES, r"bottom 'x1' has shape \(2, 6\); expected 8"),
    ("num_classes: 3", [*SHAPES, (2, 3)], r"bottom 'x4' has shape \(2, 3\); expected 4"),
    ("num_classes: 3", [*SHAPES, (2, 4), (1, 8)], r"bottom 'x5' has shape \(1, 8\); expected 8"),
    ("num_classes: 3, share_location: false", SHAPES, "share_location: false needs mining_type: NONE"),
    ("num_classes: 3, do_neg_mining: false", SHAPES, "do_neg_mining: contradicts mining_type MAX_NEGATIVE"),
    ("num_classes: 3, background_label_id: 3", SHAPES, "background_label_id: 3, but SOFTMAX needs a class"),
    ("num_classes: 3, map_object_to_agnostic: true", SHAPES, "num_classes: must be 2 with map_object"),
]


@pytest.mark.parametrize(("fields", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(fields, shapes, problem):
    layer = (
        fields if "type" in fields.split(":")[0] else f"type: MultiBoxLoss, multibox_loss_param: {{{fields}}}"
    )
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ((3, 1), 0, "label 0, but there are 4 classes, 0 to 3, and 0 is the background"),
        ((3, 1), 4, "label 4, but there are 4 classes"),
        ((3, 4), np.nan, "a number that is nan or infinite"),
        ((2, 5), 0, "variances of priors must be above 0"),
    ],
)
def test_wrong_data_are_an_error_at_the_layer(place, value, problem, rng):
    bottoms = bottoms_of({}, rng)
    bottom, number = place
    (bottoms[3][0, 0, 0] if bottom == 3 else bottoms[2][0, 1])[number] = value
    net = net_of(layer_of({}), *(x.shape for x in bottoms))
    with pytest.raises(mc.DataError, match=f"layer 'L'.*{problem}"):
        net.forward(**{f"x{i}": x for i, x in enumerate(bottoms)})
