"""Losses and neurons of Caffe's forks, against short references written from their formulas."""

import numpy as np
import pytest

from minicaffe.errors import DataError, ShapeError, SpecError
from minicaffe.testing import away_from, check_gradients
from tests.layer_cases import net_of

SHAPES = [(4, 3), (1, 5), (3,), (2, 3, 2), (2, 2, 3, 1)]

# --------------------------------------------------------------------------------------------------- SeLu


@pytest.mark.parametrize("layer_type", ["SeLu", "SeLU"])
def test_selu_bends_at_zero_as_its_paper_says(layer_type, rng):
    x = rng.standard_normal((2, 3, 4))
    expected = 1.0507009 * np.where(x > 0, x, 1.6732632 * (np.exp(x) - 1))
    np.testing.assert_allclose(net_of(f"type: {layer_type}", x.shape).forward(x0=x)["L"], expected, rtol=1e-5)


def test_selu_takes_other_constants_and_huge_numbers():
    net = net_of("type: SeLu, selu_param: {alpha: 0.5, lambda: 3}, bottom: x0, top: x0", (4,))
    np.testing.assert_array_equal(net.forward(x0=[1e4, -1e4, 0, 2])["x0"], [3e4, -1.5, 0, 6])


# ------------------------------------------------------------------------------------------------- L1Loss


@pytest.mark.parametrize("shape", SHAPES)
def test_l1_is_the_absolute_distance_over_the_batch_and_backward_its_derivative(shape, rng):
    a = rng.standard_normal(shape)
    b = a - away_from(0, rng.standard_normal(shape))
    net = check_gradients("type: L1Loss, loss_weight: 1.3", [a, b])
    np.testing.assert_allclose(net.forward(x0=a, x1=b)["L"], abs(a - b).sum() / shape[0], rtol=1e-6)


def test_l1_gives_no_gradient_where_two_numbers_are_equal():
    net = net_of("type: L1Loss", (2, 2), (2, 2))
    net.forward(x0=[[1, 2], [3, 4]], x1=[[1, 3], [2, 4]])
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[0, -0.5], [0.5, 0]])


def test_l1_of_different_sizes_is_refused():
    with pytest.raises(ShapeError, match="differ in size"):
        net_of("type: L1Loss", (2, 3), (2, 4))


# ------------------------------------------------------------------------- SigmoidCrossEntropyBalanceLoss


def balanced(x, t):
    """The loss and its gradient, image after image and pixel after pixel."""
    loss, gradient = 0.0, np.zeros_like(x)
    for n in range(len(x)):
        ones, zeros = (t[n] == 1).sum(), (t[n] == 0).sum()
        for i in np.ndindex(x[n].shape):
            p, target = 1 / (1 + np.exp(-x[n][i])), t[n][i]
            if target in (0, 1):
                weight = (zeros if target == 1 else ones) / (ones + zeros)
                loss -= weight * np.log(p if target == 1 else 1 - p) / len(x)
                gradient[n][i] = weight * (p - target) / len(x)
    return loss, gradient


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if len(shape) > 1])
def test_balanced_cross_entropy_weighs_the_rarer_targets_more(shape, rng):
    x, t = rng.standard_normal(shape), rng.integers(0, 2, shape).astype(float)
    t.flat[1] = 0.5  # no edge, and not surely none
    net = check_gradients("type: SigmoidCrossEntropyBalanceLoss, loss_weight: 0.7", [x, t], by=["x0"])
    loss, gradient = balanced(x, t)
    np.testing.assert_allclose(net.forward(x0=x, x1=t)["L"], loss, rtol=1e-6)
    net.backward()
    np.testing.assert_allclose(net.blobs["x0"].diff, 0.7 * gradient, rtol=1e-6, atol=1e-12)


def test_balanced_cross_entropy_of_one_kind_of_target_or_of_none_is_zero():
    net = net_of("type: SigmoidCrossEntropyBalanceLoss", (3, 2), (3, 2))
    assert net.forward(x0=np.ones((3, 2)), x1=[[1, 1], [0, 0], [7, 7]])["L"] == 0
    net.backward()
    assert not net.blobs["x0"].diff.any()


# ------------------------------------------------------------------------------------------- DiceCoefLoss


@pytest.mark.parametrize("shape", [(1, 5), (4, 3, 2), (3,), (2, 2, 3, 2)])
def test_dice_is_a_mean_over_images_with_its_derivative(shape, rng):
    a, b = rng.random((2, *shape))
    check_gradients("type: DiceCoefLoss, loss_weight: 1.3", [a, b])
    net = net_of("type: DiceCoefLoss", shape, shape)
    each = [
        1 - (2 * (x * y).sum() + 1) / ((x * x).sum() + (y * y).sum() + 1) for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(net.forward(x0=a, x1=b)["L"], np.mean(each), rtol=1e-5)


def test_dice_of_equal_or_empty_masks_is_zero():
    net = net_of("type: DiceCoefLoss", (2, 3), (2, 3))
    assert net.forward(x0=[[1, 0, 1], [0, 0, 0]], x1=[[1, 0, 1], [0, 0, 0]])["L"] == 0


def test_dice_of_opposite_numbers_counts_the_overlaps_size_but_has_the_gradient_of_the_overlap(rng):
    net = net_of("type: DiceCoefLoss, loss_weight: 2", (1, 1), (1, 1))
    assert net.forward(x0=[[3]], x1=[[-3]])["L"] == pytest.approx(1 - 17 / 19)  # r = (2 · −9 + 1) / 19
    net.backward()
    expected = 2 * 2 * (-17 / 19 * 3 + 3) / 19
    np.testing.assert_allclose([net.blobs[name].diff.item() for name in ("x0", "x1")], [expected, -expected])


# --------------------------------------------------------------------------------------------- CenterLoss

FIXED = "param: {lr_mult: 0}"  # of what is moved by no derivative
CENTERS = "center_loss_param: {num_output: 4, center_filler: {type: gaussian}}"


@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (3, 2, 1, 2)])
def test_center_loss_is_half_the_squared_distance_and_moves_centres_to_features(shape, rng):
    labels = rng.integers(0, 3, shape[0])  # no image is of the fourth class
    check_gradients(f"type: CenterLoss, {CENTERS}, loss_weight: 0.3, {FIXED}", [shape, labels])
    net = net_of(f"type: CenterLoss, {CENTERS}, loss_weight: 0.3", shape, labels.shape, dtype="float64")
    x = rng.standard_normal(shape)
    loss = net.forward(x0=x, x1=labels)["L"]
    centers, flat = net.params["L"][0].data, x.reshape(shape[0], -1)
    assert centers.shape == (4, flat.shape[1])
    np.testing.assert_allclose(loss, ((flat - centers[labels]) ** 2).sum() / 2 / len(x), rtol=1e-6)
    net.backward()
    expected = np.zeros_like(centers)
    for row, label in zip(flat, labels, strict=True):
        expected[label] += (centers[label] - row) / (1 + (labels == label).sum())
    np.testing.assert_allclose(net.params["L"][0].diff, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.cpu_only("labels are not checked on a GPU, where that would have to wait")
def test_center_loss_says_what_is_wrong_with_labels_and_axes():
    net = net_of(f"type: CenterLoss, {CENTERS}", (2, 3), (2,))
    with pytest.raises(DataError, match="labels from 0 to 4, but there are 4 classes"):
        net.forward(x0=np.zeros((2, 3)), x1=[0, 4])
    with pytest.raises(ShapeError, match="4 labels"):
        net_of(f"type: CenterLoss, {CENTERS}", (2, 3), (2, 2))
    with pytest.raises(SpecError, match="axis 2, but labels are of images; set 1"):
        net_of("type: CenterLoss, center_loss_param: {num_output: 4, axis: 2}", (2, 3, 2), (2,))


# ---------------------------------------------------------------------------------------------- FocalLoss


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize(("gamma", "alpha"), [(2, 0.25), (0, 1), (0.5, 3)])
@pytest.mark.parametrize("loss", ["ignore_label: 1", "normalization: BATCH_SIZE", "normalize: false"])
def test_focal_loss_weighs_each_label_by_what_is_missing_to_certainty(shape, gamma, alpha, loss, rng):
    x, labels = rng.standard_normal(shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    labels.flat[:2] = 0, 1
    fields = f"focal_loss_param: {{gamma: {gamma}, alpha: {alpha}}}, loss_param: {{{loss}}}"
    net = check_gradients(f"type: FocalLoss, loss_weight: 0.7, {fields}", [x, labels])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    p = np.take_along_axis(p, labels[:, None], axis=1)[:, 0]
    counts = labels != 1 if loss.startswith("ignore") else np.ones(labels.shape, bool)
    divisor = counts.sum() if loss.startswith("ignore") else shape[0]
    expected = -(alpha * (1 - p) ** gamma * np.log(p))[counts].sum() / divisor
    np.testing.assert_allclose(net.forward(x0=x, x1=labels)["L"], expected, rtol=1e-6)


def test_focal_loss_of_what_is_certain_has_a_gradient():
    net = net_of("type: FocalLoss, top: [L, prob]", (2, 2), (2,))
    out = net.forward(x0=[[500, -500], [500, -500]], x1=[0, 1])
    assert out["prob"].tolist() == [[1, 0], [1, 0]] and np.isfinite(out["L"])
    net.backward()
    np.testing.assert_allclose(net.blobs["x0"].diff, [[0, 0], [0.125, -0.125]])


# ------------------------------------------------------------------------------------- MarginInnerProduct

TYPES = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"]


def margin_layer(kind, more=""):
    filler = "weight_filler: {type: gaussian}"
    return f"type: MarginInnerProduct, margin_inner_product_param: {{num_output: 4, type: {kind}, {filler}{more}}}"


def margin_scores(x, w, labels, m, mix):
    """Scores by angles, as the paper writes them: (−1)^k · cos(mθ) − 2k in place of cos θ."""
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    y = x @ w.T
    for n, label in enumerate(labels):
        length = np.linalg.norm(x[n])
        theta = np.arccos(y[n, label] / length)
        k = np.floor(m * theta / np.pi)
        psi = (-1) ** k * np.cos(m * theta) - 2 * k
        y[n, label] = (length * psi + mix * y[n, label]) / (1 + mix)
    return y


@pytest.mark.parametrize("kind", TYPES)
def test_margin_scores_are_those_of_angles_taken_several_times(kind, rng):
    x, labels, m = rng.standard_normal((60, 3)), rng.integers(0, 4, 60), TYPES.index(kind) + 1
    more = ", base: 10, gamma: 0.5, power: 2, iteration: 3, lambda_min: 0.5"
    net = net_of(margin_layer(kind, more) + ", top: [L, mix]", x.shape, labels.shape, dtype="float64")
    w = net.params["L"][0].data * 1
    for i in range(4, 10):
        out = net.forward(x0=x, x1=labels)
        mix = max(0.5, 10 * (1 + 0.5 * i) ** -2)
        np.testing.assert_allclose(out["mix"], [mix], rtol=1e-6)
        expected = margin_scores(x, w, labels, m, mix if m > 1 else 0)
        np.testing.assert_allclose(out["L"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((net.params["L"][0].data ** 2).sum(axis=1), np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_margin_gradients_are_those_of_the_fork(kind, rng):
    x, labels, m = rng.standard_normal((40, 3)), rng.integers(0, 4, 40), TYPES.index(kind) + 1
    dy, mix = rng.standard_normal((40, 4)), 3.0
    net = net_of(margin_layer(kind, ", base: 3"), x.shape, labels.shape, dtype="float64")
    net.forward(x0=x, x1=labels)
    w = net.params["L"][0].data * 1
    gradient = net.backward(L=dy)["x0"]
    expected = dy @ w
    for n, label in enumerate(labels if m > 1 else []):
        one = x[n : n + 1], w, labels[n : n + 1], m
        steps = 1e-6 * np.eye(3)
        slope = [
            (margin_scores(one[0] + s, *one[1:], 0) - margin_scores(one[0] - s, *one[1:], 0))[0, label] / 2e-6
            for s in steps
        ]
        along = np.linalg.lstsq(np.stack([w[label], x[n]], axis=1), np.array(slope), rcond=None)[0]
        step = np.array(slope) / np.linalg.norm(along)
        expected[n] += dy[n, label] * ((step + mix * w[label]) / (1 + mix) - w[label])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.params["L"][0].diff, dy.T @ x, rtol=1e-5, atol=1e-6)


def test_a_plain_margin_product_has_the_derivative_of_forward(rng):
    labels = rng.integers(0, 4, (2, 3))
    check_gradients(f"{margin_layer('SINGLE')}, {FIXED}", [(3, 2, 2), labels[0]])
    check_gradients(f"{margin_layer('SINGLE', ', axis: 2')}, {FIXED}", [(2, 3, 5), labels])


def test_images_of_zeros_have_scores_and_a_gradient():
    net = net_of(margin_layer("QUADRUPLE"), (2, 3), (2,))
    assert abs(net.forward(x0=np.zeros((2, 3)), x1=[0, 3])["L"]).max() < 1e-9
    assert np.isfinite(net.backward(L=np.ones((2, 4)))["x0"]).all()


def test_a_margin_goes_on_counting_where_a_snapshot_was_made():
    first = net_of(margin_layer("DOUBLE"), (2, 3), (2,)).layers[-1]
    first.iteration = 7
    second = net_of(margin_layer("DOUBLE"), (2, 3), (2,)).layers[-1]
    second.restore(first.state())
    assert second.iteration == 7
