"""The losses of YOLO v2 and v3, against references written box by box from the formulas of darknet's Caffe.

Their gradients are no derivatives of their losses, but mostly of other sums, which the tests differentiate.
"""

import math
import re
from itertools import takewhile

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection import yolo_overlaps
from minicaffe.spec.solver import parse_solver
from tests.layer_cases import net_of


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---------------------------------------------------------------------------------------------- overlaps


def edges(box):
    x, y, w, h = box
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def sides_between(a, b, low, high):
    """Sides of the box whose lower edges ``low`` chooses of both, and whose upper ones ``high`` does."""
    (al, at, ar, ab), (bl, bt, br, bb) = edges(a), edges(b)
    return high(ar, br) - low(al, bl), high(ab, bb) - low(at, bt)


def signed_overlap(a, b):
    """I and U, with the product of sides as I, whatever their signs."""
    w, h = sides_between(a, b, max, min)
    return w * h, a[2] * a[3] + b[2] * b[3] - w * h


def overlap(kind, a, b):
    w, h = sides_between(a, b, max, min)
    common = w * h if min(w, h) > 0 else 0
    union = a[2] * a[3] + b[2] * b[3] - common
    cw, ch = sides_between(a, b, min, max)
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    v = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    less = {
        "IOU": 0,
        "GIOU": (cw * ch - union) / (cw * ch),
        "DIOU": (distance / (cw**2 + ch**2)) ** 0.6,
        "CIOU": distance / (cw**2 + ch**2) + v * v / (1 - common / union + v + 1e-6),
    }
    return common / union - less[kind]


def slopes(function, box, h=1e-6):
    """The derivative by the four numbers of a box."""
    return np.array([(function(box + h * e) - function(box - h * e)) / (2 * h) for e in np.eye(4)])


def some_boxes(rng, count=200):
    return np.concatenate([rng.uniform(0, 1, (2, count)), rng.uniform(0.05, 0.6, (2, count))])


@pytest.mark.parametrize("kind", ["IOU", "GIOU", "DIOU", "CIOU"])
def test_overlaps_are_those_of_their_papers(kind, rng):
    a, b = some_boxes(rng), some_boxes(rng)
    expected = [overlap(kind, *boxes) for boxes in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(yolo_overlaps.OVERLAPS[kind](a, b), expected, rtol=1e-10, atol=1e-12)


def ascent(kind, box, truth):
    """darknet's, from derivatives of the parts that it is made of."""

    def ratio(a):
        common, union = signed_overlap(a, truth)
        return common / union if union > 0 else 0.0

    def covered(a):
        w, h = sides_between(a, truth, min, max)
        return signed_overlap(a, truth)[1] / (w * h)

    def diagonal(a):
        return sum(side**2 for side in sides_between(a, truth, min, max))

    def shapes(a):
        return 4 / math.pi**2 * (math.atan(truth[2] / truth[3]) - math.atan(a[2] / a[3])) ** 2

    twice = np.array([1, 1, 2, 2])
    found = twice * slopes(ratio, box)
    apart = min(sides_between(box, truth, max, min)) <= 0
    if kind == "IOU":
        return found
    if apart:
        found = np.zeros(4)
    if kind == "GIOU":
        return found + twice * slopes(covered, box)
    d, distance = diagonal(box), (box[0] - truth[0]) ** 2 + (box[1] - truth[1]) ** 2
    towards = np.array([2 * (truth[0] - box[0]), 2 * (truth[1] - box[1]), 0, 0])
    found = found + towards / d + np.array([-1, -1, 1, 1]) * slopes(diagonal, box) * distance / d**2
    if kind == "CIOU":
        common, union = signed_overlap(box, truth)
        weight = shapes(box) / (1 - common / union + shapes(box) + 1e-6)
        found -= weight * slopes(shapes, box) * (box[2] ** 2 + box[3] ** 2)
    return found


@pytest.mark.parametrize("kind", ["IOU", "GIOU", "DIOU", "CIOU"])
def test_ascents_are_made_of_derivatives(kind, rng):
    boxes, truths = some_boxes(rng), some_boxes(rng)
    expected = np.array([ascent(kind, *pair) for pair in zip(boxes.T, truths.T, strict=True)]).T
    np.testing.assert_allclose(yolo_overlaps.ascent(kind, boxes, truths), expected, rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ Yolov3

BIASES = np.array([[8, 12], [20, 14], [30, 40], [60, 30]])
V3 = {
    "object_scale": 1.0,
    "class_scale": 1.0,
    "coord_scale": 5.0,
    "thresh": 0.2,
    "use_logic_gradient": False,
    "use_focal_loss": False,
    "iou_loss": "MSE",
    "iou_normalizer": 0.25,
    "iou_thresh": 0.5,
    "max_delta": 10.0,
    "accumulate": True,
    "label_smooth_eps": 0.1,
}
A, K, H, W, PIXELS = 2, 3, 4, 5, 16


def v3_text(mask, **settings):
    fields = ", ".join(f"{name}: {value}" for name, value in settings.items())
    biases = BIASES.ravel().tolist()
    return (
        f"type: Yolov3, yolov3_param: {{num_class: {K}, num: {A}, anchors_scale: {PIXELS}, mask: {mask}, "
        f"biases: {biases}, {fields}}}"
    )


def labels_of(batch, rows=6):
    labels = np.zeros((len(batch), 1, rows, 5))
    for image, truths in enumerate(batch):
        labels[image, 0, : len(truths)] = np.reshape(truths, (-1, 5))
    return labels


def some_truths(rng, images=3):
    """Boxes of the sizes of the anchors, two of them in one cell: 2, 5 and 0 in three images."""
    batch = []
    for _ in range(images):
        size = BIASES[rng.integers(0, 4, 4)] / [W * PIXELS, H * PIXELS] * rng.uniform(0.7, 1.4, (4, 2))
        truths = np.concatenate([rng.integers(0, K, (4, 1)), rng.uniform(0.1, 0.9, (4, 2)), size], axis=1)
        again = truths[0] + [0, 0.002, 0.001, 0.01, 0]
        again[0] = (again[0] + 1) % K
        batch.append([*truths, again])
    batch[0], batch[-1] = batch[0][1:3], []
    return batch


def v3_assigned(truths, mask, p):
    """(truth, place in the mask) by darknet's rules, as its Caffe has them."""
    kind = "IOU" if p["iou_loss"] == "MSE" else p["iou_loss"]
    for truth in truths:
        shapes = [
            overlap(kind, [0, 0, *(bias / [W * PIXELS, H * PIXELS])], [0, 0, *truth[3:]]) for bias in BIASES
        ]
        best = int(np.argmax(shapes)) if max(shapes) > 0 else -1
        if best in mask:
            best = mask.index(best)
            yield truth, best
        for n in range(len(BIASES)):
            if n in mask and n != best and p["iou_thresh"] < 1 and shapes[n] > p["iou_thresh"]:
                yield truth, mask.index(n)


def v3_reference(x, batch, mask, **settings):
    """The loss, and dx · N, of x (N, A, 5 + K, H, W)."""
    p = V3 | settings
    kind = "IOU" if p["iou_loss"] == "MSE" else p["iou_loss"]
    told = "DIOU" if p["iou_loss"] == "IOU" else kind
    s = sigmoid(x)
    s[:, :, 2:4] = x[:, :, 2:4]
    delta, lost = np.zeros_like(x), []

    def box_at(image, a, i, j):
        cx, cy, w, h = s[image, a, :4, i, j]
        sides = np.exp([w, h]) * BIASES[mask[a]] / [W * PIXELS, H * PIXELS]
        return np.array([(j + cx) / W, (i + cy) / H, *sides])

    for image, truths in enumerate(batch):
        shown = list(takewhile(lambda truth: truth[1] != 0, truths))
        for a, i, j in np.ndindex(A, H, W):
            best = max([0, *(overlap(kind, box_at(image, a, i, j), truth[1:]) for truth in shown)])
            delta[image, a, 4, i, j] = 0 if best > p["thresh"] else s[image, a, 4, i, j]
        for truth, a in v3_assigned(truths, mask, p):
            label, box = int(truth[0]), np.array(truth[1:])
            j, i = int(box[0] * W), int(box[1] * H)
            cell, d, found = s[image, a, :, i, j], delta[image, a, :, i, j], box_at(image, a, i, j)
            if p["iou_loss"] == "MSE":
                sides = np.log(box[2:] * [W * PIXELS, H * PIXELS] / BIASES[mask[a]])
                wanted = [box[0] * W - j, box[1] * H - i, *sides]
                d[:4] = p["coord_scale"] * (2 - box[2] * box[3]) * (cell[:4] - wanted)
            else:
                step = ascent(kind, found, box) * [1, 1, *np.exp(cell[2:4])] * p["iou_normalizer"]
                d[:4] = (d[:4] if p["accumulate"] else 0) - np.clip(step, -p["max_delta"], p["max_delta"])
                lost.append(1 - overlap(told, found, box))
            d[4] = (cell[4] - 1) * (p["object_scale"] if p["use_logic_gradient"] else 1)
            eps, q = p["label_smooth_eps"], cell[5 + label]
            if d[5 + label]:
                d[5 + label] = p["class_scale"] * (q - (1 - eps / 2))
            else:
                for k in range(K):
                    is_it = k == label
                    if p["use_focal_loss"]:
                        focus = -0.5 * (1 - q) * (2 * q * math.log(q) + q - 1)
                        d[5 + k] = p["class_scale"] * (cell[5 + k] - is_it) * focus
                    else:
                        d[5 + k] = p["class_scale"] * (cell[5 + k] - (is_it * (1 - eps) + eps / 2))
    if p["iou_loss"] == "MSE":
        loss = (delta**2).sum()
    else:
        loss = (delta[:, :, 4:] ** 2).sum() + p["iou_normalizer"] * (np.mean(lost) if lost else 0)
    if p["use_logic_gradient"]:
        slope = s * (1 - s)
        slope[:, :, 2:4] = 1
        if p["iou_loss"] != "MSE":
            slope[:, :, :2] = (x * (1 - x))[:, :, :2]
        delta = delta * slope
    return loss / len(x), delta


SETTINGS = [
    {},
    {"object_scale": 3, "class_scale": 0.5, "coord_scale": 1, "thresh": 0.6, "use_logic_gradient": True},
    {"iou_thresh": 1, "label_smooth_eps": 0},
    {"iou_thresh": 0.1, "use_focal_loss": True},
    {"iou_loss": "IOU", "iou_normalizer": 0.7},
    {"iou_loss": "GIOU", "accumulate": False},
    {"iou_loss": "DIOU", "max_delta": 0.02, "thresh": 0.5},
    {"iou_loss": "CIOU", "iou_normalizer": 2, "iou_thresh": 0.3, "use_logic_gradient": True},
]


@pytest.mark.parametrize("mask", [[2, 3], [0, 1]])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_yolov3_is_what_darknet_computes_box_by_box(settings, mask, rng):
    x, batch = rng.standard_normal((3, A, 5 + K, H, W)), some_truths(rng)
    text = v3_text(mask, **settings) + ", loss_weight: 1.5"
    net = net_of(text, (3, A * (5 + K), H, W), (3, 1, 6, 5), dtype="float64", phase="train")
    loss = net.forward(x0=x.reshape(3, -1, H, W), x1=labels_of(batch))["L"]
    expected, delta = v3_reference(x, batch, mask, **settings)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    net.backward()
    gradient = np.array(net.blobs["x0"].diff).reshape(x.shape)
    np.testing.assert_allclose(gradient, 1.5 * delta / 3, rtol=1e-5, atol=1e-7)
    assert sum(len(list(v3_assigned(truths, mask, V3 | settings))) for truths in batch) > 1


def test_boxes_without_an_object_are_compared_with_truths_up_to_one_at_the_left_edge(rng):
    truths = [(2, 0.3, 0.5, 0.2, 0.3), (1, 0.0, 0.4, 0.3, 0.4), (0, 0.75, 0.8, 0.4, 0.5)]
    x = rng.standard_normal((1, A, 5 + K, H, W))
    net = net_of(
        v3_text([0, 1], thresh=0.05), (1, A * (5 + K), H, W), (1, 1, 6, 5), dtype="float64", phase="train"
    )
    loss = float(net.forward(x0=x.reshape(1, -1, H, W), x1=labels_of([truths]))["L"])
    assert loss == pytest.approx(v3_reference(x, [truths], [0, 1], thresh=0.05)[0], rel=1e-10)


@pytest.mark.parametrize("kind", ["IOU", "GIOU", "DIOU", "CIOU"])
def test_a_box_of_no_width_climbs_as_one_of_width_1_and_one_too_wide_for_numbers_does_not(kind):
    truth, place = (1, 0.31, 0.42, 0.12, 0.2), (0, 0, slice(0, 4), 1, 1)
    settings = {"iou_loss": kind, "iou_thresh": 1, "max_delta": 100}
    net = net_of(
        v3_text([0, 1], **settings), (1, A * (5 + K), H, W), (1, 1, 6, 5), dtype="float64", phase="train"
    )
    climbs = []
    for width in (-800, 800):
        x = np.zeros((1, A, 5 + K, H, W))
        x[0, :, 2, 1, 1] = width
        net.forward(x0=x.reshape(1, -1, H, W), x1=labels_of([[truth]]))
        net.backward()
        gradient = np.array(net.blobs["x0"].diff).reshape(x.shape)
        assert np.isfinite(gradient).all() and (gradient[:, :, 5:] != 0).any()
        climbs.append(-gradient[place])
    assert climbs[1].tolist() == [0] * 4
    box = np.array([1.5 / W, 1.5 / H, 1, BIASES[0, 1] / (H * PIXELS)])
    expected = ascent(kind, box, np.array(truth[1:])) * [1, 1, 0, 1] * 0.25
    np.testing.assert_allclose(climbs[0], expected, rtol=1e-5, atol=1e-7)


def cross_entropy(wanted, x):
    return np.log1p(np.exp(x)) - wanted * x


def v3_potential(x, batch, mask, assigned_alone):
    """What, with MSE, dx · N is the derivative of, where no two truths share a cell."""
    total = 0.0
    for image, truths in enumerate(batch):
        free = np.ones((A, H, W), bool)
        for a, i, j in np.ndindex(A, H, W):
            cell = x[image, a, :, i, j]
            sides = np.exp(cell[2:4]) * BIASES[mask[a]] / [W * PIXELS, H * PIXELS]
            box = [(j + sigmoid(cell[0])) / W, (i + sigmoid(cell[1])) / H, *sides]
            free[a, i, j] = all(overlap("IOU", box, truth[1:]) <= V3["thresh"] for truth in truths)
        for truth, a in assigned_alone[image]:
            j, i = int(truth[1] * W), int(truth[2] * H)
            cell, free[a, i, j] = x[image, a, :, i, j], False
            scale = V3["coord_scale"] * (2 - truth[3] * truth[4])
            sides = np.log(truth[3:] * np.array([W, H]) * PIXELS / BIASES[mask[a]])
            total += scale * cross_entropy(np.array([truth[1] * W - j, truth[2] * H - i]), cell[:2]).sum()
            total += scale * ((cell[2:4] - sides) ** 2).sum() / 2
            labels = np.where(np.arange(K) == truth[0], 0.95, 0.05)
            total += cross_entropy(1, cell[4]) + cross_entropy(labels, cell[5:]).sum()
        total += cross_entropy(0, x[image, :, 4])[free].sum()
    return total


def test_yolov3_goes_down_the_cross_entropies_and_half_the_squared_distances(rng):
    mask = [0, 1]
    batch = [[(1, 0.3, 0.4, 0.12, 0.2), (2, 0.75, 0.8, 0.3, 0.21)], [(0, 0.5, 0.1, 0.2, 0.3)]]
    alone = [list(dict.fromkeys(v3_assigned(truths, mask, V3))) for truths in batch]
    x = rng.standard_normal((2, A, 5 + K, H, W))
    net = net_of(v3_text(mask), (2, A * (5 + K), H, W), (2, 6, 5), dtype="float64", phase="train")
    net.forward(x0=x.reshape(2, -1, H, W), x1=labels_of(batch)[:, 0])
    net.backward()
    gradient, h = np.array(net.blobs["x0"].diff).reshape(x.shape), 1e-6
    changed = [np.unravel_index(place, x.shape) for place in np.flatnonzero(gradient)]
    assert 80 < len(changed) < x.size / 4
    for place in rng.permutation(changed)[:40]:
        sums = []
        for sign in (1, -1):
            moved = x.copy()
            moved[tuple(place)] += sign * h
            sums.append(v3_potential(moved, batch, mask, alone))
        assert 2 * gradient[tuple(place)] == pytest.approx((sums[0] - sums[1]) / (2 * h), rel=1e-5, abs=1e-7)


# -------------------------------------------------------------------------------------------- RegionLoss

CELLS = np.array([[1.2, 0.7], [0.5, 1.5]])
V2 = {
    "object_scale": 1.0,
    "class_scale": 1.0,
    "noobject_scale": 0.5,
    "coord_scale": 5.0,
    "thresh": 0.2,
    "rescore": 1,
    "bias_match": 1,
}


def v2_text(**settings):
    fields = ", ".join(f"{name}: {value}" for name, value in settings.items())
    biases = CELLS.ravel().tolist()
    return f"type: RegionLoss, region_loss_param: {{num_class: {K}, num: {A}, biases: {biases}, {fields}}}"


def v2_reference(x, batch, **settings):
    p = V2 | settings
    delta = np.zeros_like(x)

    def box_at(image, a, i, j):
        cell = x[image, a, :, i, j]
        sides = np.exp(cell[2:4]) * CELLS[a] / [W, H]
        return np.array([(j + sigmoid(cell[0])) / W, (i + sigmoid(cell[1])) / H, *sides])

    for image, truths in enumerate(batch):
        for a, i, j in np.ndindex(A, H, W):
            best = max([0, *(overlap("IOU", box_at(image, a, i, j), truth[1:]) for truth in truths)])
            o = sigmoid(x[image, a, 4, i, j])
            delta[image, a, 4, i, j] = 0 if best > p["thresh"] else p["noobject_scale"] * o * o * (1 - o)
        for truth in truths:
            box, label = np.array(truth[1:]), int(truth[0])
            j, i = int(box[0] * W), int(box[1] * H)
            shapes = [CELLS[a] / [W, H] if p["bias_match"] else box_at(image, a, i, j)[2:] for a in range(A)]
            a = int(np.argmax([overlap("IOU", [0, 0, *shape], [0, 0, *box[2:]]) for shape in shapes]))
            cell, d, found = x[image, a, :, i, j], delta[image, a, :, i, j], box_at(image, a, i, j)
            scale = p["coord_scale"] * (1 if p["rescore"] else 2 - box[2] * box[3])
            s, o = sigmoid(cell[:2]), sigmoid(cell[4])
            d[:2] = scale * (s - [box[0] * W - j, box[1] * H - i]) * s * (1 - s)
            d[2:4] = scale * (cell[2:4] - np.log(box[2:] * [W, H] / CELLS[a]))
            wanted = overlap("IOU", found, box) if p["rescore"] else 1
            d[4] = p["object_scale"] * (o - wanted) * o * (1 - o)
            labels = np.exp(cell[5:]) / np.exp(cell[5:]).sum()
            d[5:] = p["class_scale"] * (labels - (np.arange(K) == label))
    return (delta**2).sum() / len(x), delta


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rescore": 0, "object_scale": 5, "class_scale": 2, "noobject_scale": 1, "coord_scale": 0.3},
        {"bias_match": 0, "thresh": 0.6},
    ],
    ids=str,
)
def test_region_loss_is_what_darknet_computes_box_by_box(settings, rng):
    x, batch = rng.standard_normal((3, A, 5 + K, H, W)), some_truths(rng)
    text = v2_text(**settings) + ", loss_weight: 1.5"
    net = net_of(text, (3, A * (5 + K), H, W), (3, 1, 6, 5), dtype="float64", phase="train")
    loss = net.forward(x0=x.reshape(3, -1, H, W), x1=labels_of(batch))["L"]
    expected, delta = v2_reference(x, batch, **settings)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    net.backward()
    np.testing.assert_allclose(np.array(net.blobs["x0"].diff).reshape(x.shape), 1.5 * delta / 3, rtol=1e-9)


# ------------------------------------------------------------------------------------- what both have

BOTH = [(v3_text([0, 1]), "yolov3_param"), (v2_text(), "region_loss_param")]
SHAPES = [(2, A * (5 + K), H, W), (2, 3, 5)]


@pytest.mark.parametrize("text", [text for text, _ in BOTH])
def test_without_truths_only_objects_count(text, rng):
    x = rng.standard_normal(SHAPES[0])
    net = net_of(text, *SHAPES, dtype="float64", phase="train")
    net.forward(x0=x, x1=np.zeros(SHAPES[1]))
    net.backward()
    gradient = np.array(net.blobs["x0"].diff).reshape(2, A, 5 + K, H, W)
    assert (gradient[:, :, 4] > 0).all() and not np.delete(gradient, 4, axis=2).any()


@pytest.mark.parametrize("text", [text for text, _ in BOTH])
def test_what_follows_a_box_without_width_is_not_read(text, rng):
    x, labels = rng.standard_normal(SHAPES[0]), np.zeros(SHAPES[1])
    labels[:, 0] = [1, 0.5, 0.5, 0.2, 0.2]
    net = net_of(text, *SHAPES, dtype="float64", phase="train")
    expected = float(net.forward(x0=x, x1=labels)["L"])
    labels[:, 2] = [99, 7, 7, 7, 7]
    assert float(net.forward(x0=x, x1=labels)["L"]) == expected


@pytest.mark.parametrize("text", [text for text, _ in BOTH])
def test_a_centre_on_the_far_edge_is_in_the_last_cell(text, rng):
    labels = np.zeros(SHAPES[1])
    labels[0, 0] = [2, 1, 1, 0.1, 0.2]
    net = net_of(text, *SHAPES, phase="train")
    net.forward(x0=np.zeros(SHAPES[0]), x1=labels)
    net.backward()
    gradient = np.array(net.blobs["x0"].diff).reshape(2, A, 5 + K, H, W)
    assert (gradient[:, :, 5:] != 0).any(axis=(1, 2)).nonzero()[1:] == ([H - 1], [W - 1])


@pytest.mark.parametrize("text", [text for text, _ in BOTH])
def test_every_few_batches_a_line_tells_how_well_boxes_are_found(text, caplog):
    """A net that finds all: cells of 1 / W × 1 / H, a box in one of them, of the size of the first anchor."""
    caplog.set_level("INFO", "minicaffe")
    width, height = (8 / 80, 12 / 64) if "Yolov3" in text else (1.2 / W, 0.7 / H)
    x, labels = np.zeros((1, A, 5 + K, H, W)), np.zeros((1, 1, 3, 5))
    labels[0, 0, 0] = [1, 2.5 / W, 1.5 / H, width, height]
    x[:, :, 4:] = -20
    x[0, 0, [4, 6], 1, 2] = 20
    net = net_of(text, (1, A * (5 + K), H, W), labels.shape, phase="train")
    for _ in range(16):
        net.forward(x0=x.reshape(1, -1, H, W), x1=labels)
    told = [record.getMessage() for record in caplog.records if "noobj" in record.getMessage()]
    assert len(told) == 1
    numbers = dict(re.findall(r"(\w+): ([\d.e-]+)", told[0].partition(": ")[2]))
    assert {name: round(float(number), 3) for name, number in numbers.items()} == {
        "noobj": round(1 / (A * H * W), 3),
        "obj": 1,
        "iou": 1,
        "cat": 1,
        "recall": 1,
        "recall75": 1,
        "count": 1,
    }


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            [3, 0.5, 0.5, 0.1, 0.1],
            r"box 1 of image 1 is .* = \(3, 0.5, 0.5, 0.1, 0.1\); expected a label below 3",
        ),
        ([-1, 0.5, 0.5, 0.1, 0.1], "a label below 3"),
        ([0, 1.5, 0.5, 0.1, 0.1], r"a centre in \[0, 1\]"),
        ([0, 0.5, 0.5, 0.1, 0], "sides above 0"),
        ([0, 0.5, 0.5, math.nan, 0.1], "sides above 0"),
    ],
)
@pytest.mark.parametrize("text", [text for text, _ in BOTH])
def test_what_is_no_box_is_named(text, row, problem):
    labels = np.zeros(SHAPES[1])
    labels[:, 0] = [1, 0.5, 0.5, 0.2, 0.2]
    labels[1, 1] = row
    net = net_of(text, *SHAPES, phase="train")
    with pytest.raises(mc.DataError, match=problem) as error:
        net.forward(x0=np.zeros(SHAPES[0]), x1=labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [text for text, _ in BOTH])
@pytest.mark.parametrize(("images", "rows"), [(0, 3), (2, 0)])
def test_no_images_are_no_loss_and_no_truths_no_error(text, images, rows):
    net = net_of(text, (images, 16, 3, 3), (images, rows, 5), phase="train")
    loss = float(net.forward()["L"])
    net.backward()
    assert math.isfinite(loss) and bool(loss) == bool(images)


ERRORS = [
    (BOTH[0][0], [(2, 17, 3, 3), (2, 10)], r"expected \(N, 2 · 8, H, W\)"),
    (BOTH[1][0], [(2, 16, 3), (2, 10)], r"expected \(N, 2 · 8, H, W\)"),
    (BOTH[1][0], [(2, 16, 0, 3), (2, 10)], "expected at least one cell"),
    (BOTH[0][0], [(2, 16, 3, 3), (2, 7)], r"labels have shape \(2, 7\); expected 5 numbers"),
    (BOTH[0][0], [(2, 16, 3, 3), (3, 10)], "batch sizes"),
    (v3_text([4, 1]), SHAPES, "mask: 4 is no anchor: 8 biases are 4"),
    (v3_text([1]), SHAPES, "mask: 1 given for 2 anchors"),
    (
        v2_text(num=3).replace("num: 2, ", ""),
        SHAPES,
        "biases: 4 given; expected a width and a height for each of 3",
    ),
]


@pytest.mark.parametrize(("text", "shapes", "problem"), ERRORS)
def test_what_does_not_fit_is_told_in_one_line(text, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=problem) as error:
        net_of(text, *shapes)
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------------------------- YoloSeg


@pytest.mark.parametrize("weighted", [False, True])
def test_yolo_seg_goes_down_the_cross_entropies_of_its_masks(weighted, rng):
    shape = (2, 3, 4, 5)
    x, masks = rng.standard_normal(shape), (rng.random(shape) > 0.7) * rng.choice([0.3, 1], shape)
    areas = masks.sum(axis=(2, 3))
    shapes, inputs = [shape, shape, (2, 3)][: 2 + weighted], {"x0": x, "x1": masks}
    if weighted:
        inputs["x2"] = areas
    text = "type: YoloSeg, loss_weight: 1.5, yolo_seg_param: {object_scale: 0.4}"
    net = net_of(text, *shapes, dtype="float64", phase="train")
    loss = net.forward(**inputs)["L"]
    net.backward()
    gradient = np.array(net.blobs["x0"].diff)
    expected = 0.0
    for place in np.ndindex(shape):
        scale = 0.4
        if weighted and masks[place] > 0.5:
            share = areas[:, place[1]].sum() / (2 * 4 * 5 - areas[:, place[1]].sum())
            scale *= 2 - share
        sums = [cross_entropy(masks[place], x[place] + h) for h in (1e-6, -1e-6)]
        assert gradient[place] == pytest.approx(
            1.5 * scale * (sums[0] - sums[1]) / 2e-6 / 2, rel=1e-5, abs=1e-9
        )
        expected += (scale * (sigmoid(x[place]) - masks[place])) ** 2
    assert loss == pytest.approx(expected / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ([(2, 3, 4), (2, 4, 3)], r"scores have shape \(2, 3, 4\), masks \(2, 4, 3\)"),
        (
            [(2, 3, 4), (2, 3, 4), (2, 4)],
            r"areas have shape \(2, 4\); expected a number for each of 3 classes",
        ),
    ],
)
def test_masks_and_areas_are_of_the_scores(shapes, problem):
    with pytest.raises(mc.ShapeError, match=problem):
        net_of("type: YoloSeg", *shapes)


# ------------------------------------------------------------------------------------ AssistedExcitation


def test_assisted_excitation_raises_the_pixels_that_boxes_touch(rng):
    x, e = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 4, 5))
    labels = np.zeros((2, 1, 3, 5))
    labels[0, 0, 0] = [0, 0.5, 0.5, 0.3, 0.5]  # columns 1.75 to 3.25, rows 1 to 3
    labels[1, 0, :2] = [
        [1, 0.98, 0.99, 0.3, 0.3],
        [1, 0.1, 0.1, 0.1, 0.1],
    ]  # over the edge, and inside a pixel
    mask = np.zeros((2, 4, 5))
    mask[0, 1:3, 1:4] = 1
    mask[1, 3:, 4:] = 1
    mask[1, :1, :1] = 1
    net = net_of("type: AssistedExcitation", x.shape, labels.shape, e.shape, dtype="float64", phase="train")
    out = np.array(net.forward(x0=x, x1=labels, x2=e)["L"])
    np.testing.assert_allclose(out, x + (mask * e)[:, None], rtol=1e-12)


def test_assisted_excitation_ends_at_three_quarters_of_the_training_in_test_nets_too():
    text = """net_param:
  force_backward: true
  layer:
  - {name: data, type: Input, top: [x, label, e], input_param: {shape: [
     {dim: [1, 1, 1, 1]}, {dim: [1, 1, 1, 5]}, {dim: [1, 1, 1]}]}}
  - {name: y, type: AssistedExcitation, bottom: [x, label, e]}
  - {name: loss, type: Reduction, bottom: y, loss_weight: 1}
base_lr: 0
lr_policy: fixed
max_iter: 8
test_iter: 1
test_interval: 100
"""
    solver = mc.Solver(parse_solver(text))
    for net in (solver.net, solver.test_nets[0]):
        net.blobs["label"].data[...] = 0.5
        net.blobs["e"].data[...] = 1
    raised, tested = [], []
    for _ in range(8):
        solver.step(1)
        raised.append(float(solver.net.blobs["y"].data[0, 0, 0, 0]))
        solver.test_all()
        tested.append(float(solver.test_nets[0].blobs["y"].data[0, 0, 0, 0]))
    expected = [math.cos(math.pi / 2 * k / 6) for k in range(6)] + [0, 0]
    np.testing.assert_allclose(raised, expected, atol=1e-6)
    np.testing.assert_allclose(tested, [*expected[1:], 0], atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ([(2, 3, 4), (2, 5), (2, 4)], "expected 4 axes"),
        ([(2, 3, 4, 5), (2, 6), (2, 4, 5)], r"labels have shape \(2, 6\)"),
        ([(2, 3, 4, 5), (2, 5), (2, 5)], r"means have shape \(2, 5\); expected \(2, 4, 5\)"),
    ],
)
def test_what_assists_is_of_the_images(shapes, problem):
    with pytest.raises(mc.ShapeError, match=problem):
        net_of("type: AssistedExcitation", *shapes)


# -------------------------------------------------------------------------------------------- a tiny YOLO

TINY = """net_param:
  layer:
  - {name: data, type: Input, input_param: {shape: {dim: [8, 2, 32, 32]}}}
  - {name: label, type: Input, input_param: {shape: {dim: [8, 1, 3, 5]}}}
  - {name: c1, type: Convolution, bottom: data,
     convolution_param: {num_output: 12, kernel_size: 4, stride: 4, FILLED}}
  - {name: r1, type: ReLU, bottom: c1, top: c1}
  - {name: c2, type: Convolution, convolution_param: {num_output: 24, kernel_size: 4, stride: 2, pad: 1, FILLED}}
  - {name: r2, type: ReLU, bottom: c2, top: c2}
  - {name: c3, type: Convolution, convolution_param: {num_output: 14, kernel_size: 3, pad: 1, FILLED}}
  - name: loss
    type: Yolov3
    bottom: [c3, label]
    yolov3_param: {num_class: 2, num: 2, anchors_scale: 8, mask: [0, 1], biases: [8, 16, 16, 8],
                   coord_scale: 1, thresh: 0.5, SETTINGS}
  - name: found
    type: Yolov3DetectionOutput
    bottom: c3
    yolov3_detection_output_param: {num_classes: 2, num_box: 2, mask_group_num: 1, anchors_scale: 8, mask: [0, 1],
                                    biases: [8, 16, 16, 8], confidence_threshold: 0.3}
type: Adam
base_lr: 0.004
lr_policy: fixed
momentum: 0.9
random_seed: 3
"""


def bright_boxes(rng):
    """Images (8, 2, 32, 32), with an upright box in one channel or a wide one in the other, and their labels."""
    images, labels = rng.normal(0, 0.1, (8, 2, 32, 32)), np.zeros((8, 1, 3, 5))
    for image, (row, *_) in zip(images, labels[:, 0], strict=True):
        label = rng.integers(2)
        w, h = [(8, 16), (16, 8)][label]
        x, y = rng.integers(0, 33 - w), rng.integers(0, 33 - h)
        image[label, y : y + h, x : x + w] += 1
        row[:] = [label, (x + w / 2) / 32, (y + h / 2) / 32, w / 32, h / 32]
    return images, labels


@pytest.mark.parametrize("settings", ["iou_loss: MSE", "iou_loss: GIOU, iou_normalizer: 1"])
def test_a_tiny_yolo_learns_where_boxes_are(settings, rng):
    filled = "weight_filler: {type: msra}"
    solver = mc.Solver(parse_solver(TINY.replace("SETTINGS", settings).replace("FILLED", filled)))
    images, labels = bright_boxes(rng)
    net = solver.net
    net.blobs["data"].data[...] = mc.to_device(images)
    net.blobs["label"].data[...] = mc.to_device(labels)
    solver.step(1)
    first = float(net.blobs["loss"].data)
    solver.step(79)
    assert float(net.blobs["loss"].data) < first / 10
    found = mc.to_host(net.blobs["found"].data)[0, 0]
    assert found[:, 0].tolist() == list(range(8))
    np.testing.assert_array_equal(found[:, 1] - 1, labels[:, 0, 0, 0])
    overlaps = [
        overlap("IOU", [*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])], truth)
        for box, truth in zip(found[:, 3:], labels[:, 0, 0, 1:], strict=True)
    ]
    assert min(overlaps) > 0.5
