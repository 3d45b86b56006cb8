"""SoftmaxWithLoss with a weight for each class, and Dropout that drops at TEST: fields of SegNet's Caffe."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

LOSS = "type: SoftmaxWithLoss, loss_weight: 0.7, loss_param: {PARAM}"
WEIGHTS = [0.5, 2, 0, 3.25]
FREQS = f"weight_by_label_freqs: true, class_weighting: {WEIGHTS}"


def reference(x, labels, ignored=None, normalize=True):
    """The loss as SegNet's Caffe has it, (N, C, H, W) by loops: divided by the number of labels, not of weights."""
    total, count = 0.0, 0
    for n, h, w in np.ndindex(labels.shape):
        label = labels[n, h, w]
        if label == ignored:
            continue
        scores = x[n, :, h, w]
        total -= WEIGHTS[label] * (scores[label] - np.log(np.exp(scores).sum()))
        count += 1
    return total / (count if normalize else len(x))


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("", {}),
        (", ignore_label: 3", {"ignored": 3}),
        (", ignore_label: 0, normalize: false", {"ignored": 0, "normalize": False}),
    ],
)
def test_each_label_counts_with_the_weight_of_its_class(param, options, rng):
    x, labels = rng.standard_normal((2, 4, 3, 2)), rng.integers(0, 4, (2, 3, 2))
    layer = LOSS.replace("PARAM", FREQS + param)
    net = net_of(layer, x.shape, (2, 1, 3, 2), dtype="float64")
    loss = net.forward(x0=x, x1=labels[:, None])["L"]
    np.testing.assert_allclose(loss, reference(x, labels, **options), rtol=1e-12)
    check_gradients(layer, [x, labels[:, None]])


@pytest.mark.parametrize(("axis", "shape"), [(1, (5, 4)), (-1, (3, 2, 4)), (2, (3, 2, 4, 5))])
def test_weights_are_those_of_the_classes_along_any_axis(axis, shape, rng):
    labels = rng.integers(0, 4, np.delete(shape, axis))
    check_gradients(f"{LOSS.replace('PARAM', FREQS)}, softmax_param: {{axis: {axis}}}", [shape, labels])


def test_weights_without_the_switch_have_no_effect_as_in_the_original(rng):
    x, labels = rng.standard_normal((3, 4)), [0, 1, 3]
    plain, given = (
        net_of(LOSS.replace("PARAM", param), (3, 4), (3,)).forward(x0=x, x1=labels)["L"]
        for param in ("", f"class_weighting: {WEIGHTS}")
    )
    assert plain == given


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("weight_by_label_freqs: true", "class_weighting: 0 weights for 4 classes; give one for each"),
        ("weight_by_label_freqs: true, class_weighting: [1, 2]", "class_weighting: 2 weights for 4 classes"),
        ("class_weighting: [1, x]", "class_weighting.*expected a number"),
    ],
)
def test_weights_that_are_not_one_for_each_class_are_an_error(param, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(LOSS.replace("PARAM", param), (3, 4), (3,))


def test_dropout_with_sample_weights_test_drops_at_test_too():
    layer = "type: Dropout, dropout_param: {dropout_ratio: 0.25, sample_weights_test: SAMPLES}"
    sampling = net_of(layer.replace("SAMPLES", "true"), (4, 100), phase="test")
    one, other = (np.array(sampling.forward(x0=np.ones((4, 100)))["L"]) for _ in range(2))
    assert set(np.unique(one)) == {0, np.float32(4 / 3)} and not np.array_equal(one, other)
    assert 0.6 < (one > 0).mean() < 0.9
    plain = net_of(layer.replace("SAMPLES", "false"), (4, 100), phase="test")
    np.testing.assert_array_equal(plain.forward(x0=np.ones((4, 100)))["L"], 1)
    check_gradients(layer.replace("SAMPLES", "true"), [(4, 5)], phase="test")
