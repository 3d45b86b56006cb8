"""Proposal against a reference written from its formulas, box after box."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.detection import anchors
from minicaffe.spec.net import parse_net
from tests.layer_cases import net_of

FASTER_RCNN = [  # what generate_anchors of py-faster-rcnn gives, as its comment has them
    [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
    [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
    [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
]  # fmt: skip
SETTINGS = {"feat_stride": 8, "base_size": 8, "min_size": 12, "ratio": [0.5, 2], "scale": [1, 2, 3]}


def layer(tops="[rois, scores]", **settings):
    param = ", ".join(f"{name}: {value}" for name, value in {**SETTINGS, **settings}.items())
    return f"type: Proposal, top: {tops}, proposal_param: {{{param}}}"


def overlap(a, b):
    """Intersection over union of boxes whose corners both belong to them."""

    def area(x1, y1, x2, y2):
        return max(0, x2 - x1 + 1) * max(0, y2 - y1 + 1)

    common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return common / (area(*a) + area(*b) - common)


def proposals(scores, offsets, size, pre_nms_topn=6000, post_nms_topn=300, nms_thresh=0.7):
    """One image's (R, 5), x1, y1, x2, y2 and the score, from scores (2 · A, H, W) and offsets (4 · A, H, W)."""
    candidates = []
    shapes = [(ratio, scale) for ratio in SETTINGS["ratio"] for scale in SETTINGS["scale"]]
    for row, col in np.ndindex(*scores.shape[1:]):
        for a, (ratio, scale) in enumerate(shapes):
            wide = np.floor(np.sqrt(64 / ratio) + 0.5)
            high = np.floor(wide * ratio + 0.5) * scale
            wide *= scale
            dx, dy, dw, dh = offsets[4 * a : 4 * a + 4, row, col]
            left, up = 8 * col + 3.5 - (wide - 1) / 2, 8 * row + 3.5 - (high - 1) / 2
            x, y = dx * wide + left + wide / 2, dy * high + up + high / 2
            w, h = np.exp(dw) * wide, np.exp(dh) * high
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            box = [min(max(v, 0), size[1 - i % 2] - 1) for i, v in enumerate(box)]
            least = 12 * size[2], 12 * size[3 if len(size) > 3 else 2]
            is_large = box[2] - box[0] + 1 >= least[1] and box[3] - box[1] + 1 >= least[0]
            candidates.append([*box, scores[len(shapes) + a, row, col] * is_large])
    candidates.sort(key=lambda c: -c[4])
    kept = []
    for candidate in candidates[:pre_nms_topn]:
        if len(kept) < post_nms_topn and all(overlap(candidate[:4], k[:4]) <= nms_thresh for k in kept):
            kept.append(candidate)
    return np.array(kept)


def random_inputs(rng, images, height, width, sizes):
    scores = rng.permutation(images * 12 * height * width).reshape(images, 12, height, width) / 1000 + 0.001
    offsets = rng.standard_normal((images, 24, height, width)) * 0.4
    return {"x0": scores, "x1": offsets, "x2": np.array(sizes)}


def net_for(inputs, *args, **settings):
    return net_of(layer(*args, **settings), *[x.shape for x in inputs.values()], dtype="float64")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pre_nms_topn": 50},
        {"post_nms_topn": 7},
        {"pre_nms_topn": 90, "post_nms_topn": 20, "nms_thresh": 0.3},
        {"pre_nms_topn": 1},
    ],
)
@pytest.mark.parametrize("size", [[40, 52, 1], [37, 50, 1.6], [40, 52, 0.5, 2, 80, 26]])
def test_the_best_boxes_that_do_not_overlap_are_proposed(settings, size, rng):
    inputs = random_inputs(rng, 1, 5, 7, [size])
    out = net_for(inputs, **settings).forward(**inputs)
    expected = proposals(inputs["x0"][0], inputs["x1"][0], size, **settings)
    assert out["rois"].shape == (len(expected), 5) and out["scores"].shape == (len(expected),)
    np.testing.assert_allclose(out["rois"][:, 1:], expected[:, :4], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(out["scores"], expected[:, 4], rtol=1e-9)
    assert not out["rois"][:, 0].any()


def test_each_image_of_a_batch_has_regions_of_its_own(rng):
    sizes = [[40, 52, 1], [30, 44, 1.3]]
    inputs = random_inputs(rng, 2, 5, 7, sizes)
    out = net_for(inputs, "rois", post_nms_topn=9).forward(**inputs)["rois"]
    expected = [
        proposals(*parts, post_nms_topn=9) for parts in zip(inputs["x0"], inputs["x1"], sizes, strict=True)
    ]
    np.testing.assert_array_equal(out[:, 0], np.repeat([0, 1], [len(e) for e in expected]))
    np.testing.assert_allclose(out[:, 1:], np.concatenate(expected)[:, :4], rtol=1e-9, atol=1e-9)


def test_boxes_that_are_too_small_come_last_with_score_0(rng):
    inputs = random_inputs(rng, 1, 2, 2, [[16, 16, 2]])  # least 24 pixels: none is so large
    scores = net_for(inputs).forward(**inputs)["scores"]
    assert len(scores) and not scores.any()


def test_regions_go_to_the_layers_after_it_whatever_their_number(rng):
    text = f"""layer:
- {{name: in, type: Input, top: [x0, x1, x2, x], input_param: {{shape: [
   {{dim: [1, 12, 5, 7]}}, {{dim: [1, 24, 5, 7]}}, {{dim: [1, 3]}}, {{dim: [1, 4, 5, 7]}}]}}}}
- {{name: p, bottom: [x0, x1, x2], {layer("rois")}}}
- {{name: pool, type: PSROIPooling, bottom: [x, rois],
   psroi_pooling_param: {{spatial_scale: 0.125, output_dim: 1, group_size: 2}}}}
"""
    net = mc.Net(parse_net(text), phase="test")
    assert net.blobs["pool"].shape == (300, 1, 2, 2)
    out = net.forward(**random_inputs(rng, 1, 5, 7, [[40, 52, 1]]), x=rng.standard_normal((1, 4, 5, 7)))
    assert out["pool"].shape == (len(net.blobs["rois"].data), 1, 2, 2) and len(out["pool"]) < 300


def test_anchors_are_those_of_faster_rcnn():
    found = anchors.anchors_of(16, [0.5, 1, 2], [8, 16, 32])
    np.testing.assert_array_equal(found, FASTER_RCNN)


def test_halves_are_rounded_up_unless_asked_otherwise():
    high = [np.diff(anchors.anchors_of(16, [1.1], [1], *how)[0, 1::2])[0] + 1 for how in ((), (np.round,))]
    assert high == [17, 16]  # 15 · 1.1 is 16.5


def test_offsets_of_a_box_lead_back_to_it(rng):
    corners, sides = rng.uniform(0, 50, (2, 9, 2)), rng.uniform(1, 60, (2, 9, 2))
    first, second = (np.concatenate([c, c + s], axis=1) for c, s in zip(corners, sides, strict=True))
    back = anchors.decode(anchors.encode(first, second), second)
    np.testing.assert_allclose(back, anchors.with_both_corners(first), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "shapes", "problem"),
    [
        (
            layer(),
            [(1, 10, 5, 7), (1, 24, 5, 7), (1, 3)],
            r"scores have shape \(1, 10, 5, 7\); expected \(N, 12,",
        ),
        (layer(), [(1, 12, 5, 7), (1, 24, 5, 6), (1, 3)], r"offsets have shape \(1, 24, 5, 6\)"),
        (layer(), [(1, 12, 5, 7), (2, 24, 5, 7), (1, 3)], r"offsets have shape \(2, 24, 5, 7\)"),
        (layer(), [(1, 12, 5, 7), (1, 24, 5, 7), (1, 2)], r"image sizes have shape \(1, 2\)"),
        (layer(), [(2, 12, 5, 7), (2, 24, 5, 7), (1, 3)], r"image sizes have shape \(1, 3\)"),
        (layer(ratio="[]"), [(1, 12, 5, 7), (1, 24, 5, 7), (1, 3)], "ratio: required"),
        (layer(scale="[0]"), [(1, 12, 5, 7), (1, 24, 5, 7), (1, 3)], "scale: 0 is out of range"),
    ],
)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(text, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(text, *shapes)
