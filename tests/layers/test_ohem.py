"""Online hard example mining: what each region loses, and which of them are trained on."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

SMOOTH = ["SmoothL1Loss, top: [loss, each]", "SmoothL1LossOHEM, top: [loss, each]"]
SOFTMAX = ["SoftmaxWithLoss, top: [loss, p, each]", "SoftmaxWithLossOHEM, top: [loss, p, each]"]


def smooth_l1(d):
    return np.where(abs(d) < 1, d * d / 2, abs(d) - 0.5)


# ------------------------------------------------------------------------------------------- SmoothL1Loss


@pytest.mark.parametrize("layer", SMOOTH)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(
    ("setting", "divisor"),
    [
        ("", 3 * 2 * 5),
        ("loss_param: {normalization: FULL}", 3 * 2 * 5),
        ("loss_param: {normalization: BATCH_SIZE}", 3),
        ("loss_param: {normalize: false}", 3),
        ("loss_param: {normalization: NONE}", 1),
        ("loss_param: {normalization: PRE_FIXED, pre_fixed_normalizer: 256}", 256),
        ("loss_param: {normalization: PRE_FIXED, pre_fixed_normalizer: 0.1}", 1),
    ],
)
def test_smooth_l1_of_rfcn_is_divided_by_places_and_says_what_each_loses(
    layer, weighted, setting, divisor, rng
):
    a, b, w = 2 * rng.standard_normal((3, 3, 4, 2, 5))
    inputs = [a, b, w] if weighted else [a, b]
    net = net_of(f"type: {layer}, {setting}", *[a.shape] * len(inputs))
    out = net.forward(**{f"x{i}": x for i, x in enumerate(inputs)})
    losses = smooth_l1((a - b) * (w if weighted else 1))
    np.testing.assert_allclose(out["each"], losses.sum(axis=1, keepdims=True), rtol=1e-5)
    assert float(out["loss"]) == pytest.approx(losses.sum() / divisor, rel=1e-5)


@pytest.mark.parametrize("layer", ["SmoothL1Loss", *SMOOTH])
@pytest.mark.parametrize("shape", [(4, 8), (3, 2, 2, 3), (5,)])
def test_smooth_l1_with_weights_has_the_derivative_of_forward(layer, shape, rng):
    a, b, w = rng.standard_normal((3, *shape))
    w = np.where(abs(abs(w * (a - b)) - 1) < 1e-3, 0, w)
    assert_gradients_start_at_the_loss(layer, [a, b, w])


def assert_gradients_start_at_the_loss(layer, inputs):
    """The other tops say what each loses; no gradient comes from them."""
    tops = 2 if "each" in layer else 1
    layer = f"type: {layer}, loss_weight: {[0.7, 0][:tops]}"
    net = net_of(layer, *[x.shape for x in inputs], dtype="float64")
    net.forward(**{f"x{i}": x for i, x in enumerate(inputs)})
    net.backward()
    for i in (0, 1):
        step = np.zeros_like(inputs[i])
        for place in np.ndindex(*step.shape):
            step[place] = 1e-5
            above, below = (
                float(net.forward(**{f"x{i}": inputs[i] + s * step})["loss" if tops > 1 else "L"])
                for s in (1, -1)
            )
            found = net.blobs[f"x{i}"].diff[place]
            assert found == pytest.approx(0.7 * (above - below) / 2e-5, rel=1e-6, abs=1e-8)
            step[place] = 0
        net.forward(**{f"x{i}": inputs[i]})


def test_boxes_without_channels_lose_nothing():
    out = net_of("type: SmoothL1LossOHEM, top: [loss, each]", (3, 0), (3, 0)).forward()
    assert out["loss"] == 0 and out["each"].shape == (3, 1, 1, 1) and not out["each"].any()


def test_weights_alone_leave_the_divisor_of_fast_rcnn_and_ssd_as_it_is():
    x = np.full((2, 1, 3, 2), 2.0)
    net = net_of("type: SmoothL1Loss", x.shape, x.shape, x.shape)
    assert net.forward(x0=x, x1=0 * x, x2=0.5 + 0 * x)["L"] == pytest.approx(12 * 0.5 / 2)


# ---------------------------------------------------------------------------------------- SoftmaxWithLoss


@pytest.mark.parametrize("layer", SOFTMAX)
@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [((4, 3), (4,), 1), ((4, 3), (4, 1, 1, 1), 1), ((2, 3, 4, 5), (2, 4, 5), 1), ((2, 4, 3), (2, 4), -1)],
)
@pytest.mark.parametrize("ignore", [None, 1])
def test_softmax_says_what_each_label_loses(layer, shape, labels, axis, ignore, rng):
    x, label = rng.standard_normal(shape), (np.arange(np.prod(labels)) % 3).reshape(labels)
    setting = f"softmax_param: {{axis: {axis}}}" + (
        f", loss_param: {{ignore_label: {ignore}}}" if ignore else ""
    )
    out = net_of(f"type: {layer}, {setting}", shape, labels).forward(x0=x, x1=label)
    scores = np.moveaxis(x, axis, -1)
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    picked = np.take_along_axis(p, label.reshape(*scores.shape[:-1], 1), axis=-1).reshape(labels)
    counts = label != ignore
    np.testing.assert_allclose(out["each"], -np.log(picked) * counts, rtol=1e-5)
    np.testing.assert_allclose(out["p"], np.moveaxis(p, -1, axis), rtol=1e-5)
    assert float(out["loss"]) == pytest.approx(-np.log(picked)[counts].sum() / counts.sum(), rel=1e-5)


def test_softmax_ohem_has_the_gradient_of_its_loss():
    check_gradients("type: SoftmaxWithLossOHEM", [(4, 3), np.array([0, 2, 1, 1])], by=["x0"])


# --------------------------------------------------------------------------------------- BoxAnnotatorOHEM


def annotator(most, ignore=-1):
    param = f"roi_per_img: {most}, ignore_label: {ignore}"
    return f"type: BoxAnnotatorOHEM, top: [y, u], box_annotator_ohem_param: {{{param}}}"


@pytest.mark.parametrize("place", [(), (1, 1), (3, 2)])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_regions_that_lose_most_of_their_image_keep_label_and_weights(place, most, rng):
    regions, losses = rng.standard_normal((20, 5, *place)), rng.standard_normal((20, 1, *place))
    regions[:, 0] = rng.integers(0, 3, (20, *place))
    labels, weights = rng.integers(0, 9, (20, 1, *place)), rng.standard_normal((20, 8, *place)).astype("f")
    inputs = [regions, losses, labels, weights]
    net = net_of(annotator(most, -7), *[x.shape for x in inputs])
    out = net.forward(**{f"x{i}": x for i, x in enumerate(inputs)})
    hard = np.zeros((20, *place), bool)
    for image in range(3):
        own = np.flatnonzero(regions[:, 0] == image)
        hard.reshape(-1)[own[np.argsort(-losses.reshape(-1)[own])][:most]] = True
    y, u = np.where(hard[:, None], labels, -7), np.where(hard[:, None], weights, 0)
    assert out["y"].shape == (20, 1, *(place or (1, 1))) and out["u"].shape == (20, 8, *(place or (1, 1)))
    np.testing.assert_array_equal(out["y"].reshape(y.shape), y)
    np.testing.assert_array_equal(out["u"].reshape(u.shape), u)


def test_of_equal_losses_the_first_count_as_larger():
    net = net_of(annotator(2), (5, 5), (5,), (5,), (5, 1))
    out = net.forward(x0=np.zeros((5, 5)), x1=[1, 3, 3, 3, 0], x2=[4, 5, 6, 7, 8], x3=np.ones((5, 1)))
    np.testing.assert_array_equal(out["y"].ravel(), [-1, 5, 6, -1, -1])


HEAD = """
layer:
- {name: x, type: Input, top: [score, box, rois, labels, targets, w], input_param: {shape: [
   {dim: [6, 3]}, {dim: [6, 8]}, {dim: [6, 5]}, {dim: [6]}, {dim: [6, 8]}, {dim: [6, 8]}]}}
- {name: each_class, type: SoftmaxWithLossOHEM, bottom: [score, labels], top: [t1, t2, each_class],
   loss_weight: [0, 0, 0], propagate_down: [false, false]}
- {name: each_box, type: SmoothL1LossOHEM, bottom: [box, targets, w], top: [t3, each_box],
   loss_weight: [0, 0], propagate_down: [false, false, false]}
- {name: flat, type: Reshape, bottom: each_class, reshape_param: {shape: {dim: [0, 1, 1, 1]}}}
- {name: each, type: Eltwise, bottom: [flat, each_box], propagate_down: [false, false]}
- {name: annotator, type: BoxAnnotatorOHEM, bottom: [rois, each, labels, w], top: [hard, hard_w],
   box_annotator_ohem_param: {roi_per_img: 2}, propagate_down: [false, false, false, false]}
- {name: silence, type: Silence, bottom: [t1, t2, t3], top: []}
- {name: loss, type: SoftmaxWithLoss, bottom: [score, hard], loss_param: {ignore_label: -1},
   propagate_down: [true, false]}
- {name: loss_box, type: SmoothL1LossOHEM, bottom: [box, targets, hard_w], propagate_down: [true, false, false],
   loss_param: {normalization: PRE_FIXED, pre_fixed_normalizer: 4}}
"""


def test_a_head_of_rfcn_learns_from_its_hardest_regions_alone(rng):
    net = mc.Net(parse_net("force_backward: true" + HEAD), phase="train")
    given = {"score": rng.standard_normal((6, 3)), "box": rng.standard_normal((6, 8))}
    net.forward(**given, rois=np.zeros((6, 5)), labels=[0, 1, 2, 0, 1, 2], w=np.ones((6, 8)))
    net.backward()
    each = np.asarray(net.blobs["each"].data).ravel()
    hard = np.zeros(6, bool)
    hard[np.argsort(-each)[:2]] = True
    for name in given:
        np.testing.assert_array_equal(np.any(net.blobs[name].diff != 0, axis=1), hard)


@pytest.mark.parametrize(
    ("layer", "shapes", "problem"),
    [
        (annotator(0), [(5, 5), (5,), (5,), (5, 8)], "roi_per_img: 0 is out of range"),
        ("type: BoxAnnotatorOHEM, top: [y, u]", [(5, 5), (5,), (5,), (5, 8)], "roi_per_img: required"),
        (annotator(1), [(5, 4), (5,), (5,), (5, 8)], r"regions have shape \(5, 4\)"),
        (annotator(1), [(5, 5), (5,), (5,), ()], r"weights have shape \(\)"),
        (annotator(1), [(5, 5), (5, 2), (5,), (5, 8)], r"losses have shape \(5, 2\)"),
        (annotator(1), [(5, 5), (5,), (4,), (5, 8)], r"labels have shape \(4,\)"),
        (annotator(1), [(5, 5, 2, 2), (5, 1, 2, 2), (5, 1, 2, 2), (5, 8)], r"weights have shape \(5, 8\)"),
        ("type: SmoothL1LossOHEM", [(3, 2), (3, 2), (3, 1)], "expected one shape"),
        ("type: SmoothL1LossOHEM", [(3, 2)] * 4, "bottom"),
    ],
)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)
