"""Layers that work element by element: gradients, corners, in-place tops, dropout's masks."""

import numpy as np
import pytest

from minicaffe.core.layer import layer_classes
from minicaffe.device import workers
from minicaffe.errors import ShapeError, SpecError, TrainingError
from minicaffe.ops import channels
from minicaffe.testing import away_from, check_gradients, layer_net

SMOOTH = [
    "type: Sigmoid",
    "type: TanH",
    "type: BNLL",
    "type: Swish",
    "type: Swish, swish_param: {beta: -1.7}",
    "type: Exp, exp_param: {base: 2, scale: -0.5, shift: 0.3}",
    "type: Exp",
    "type: Power, power_param: {scale: -2, shift: 3}",
    "type: Power, power_param: {power: 2, scale: 1.5, shift: 0.5}",
    "type: Power, power_param: {power: 3, shift: 0.2}",
]
ON_POSITIVE = [
    "type: Log",
    "type: Log, log_param: {base: 10, scale: 3, shift: 0.5}",
    "type: Power, power_param: {power: -1.3, scale: 0.7, shift: 0.4}",
    "type: Power, power_param: {power: 0.5}",
]
WITH_CORNERS = [
    ("type: ELU", [0]),
    ("type: ELU, elu_param: {alpha: 0.3}", [0]),
    ("type: ELU, elu_param: {alpha: -0.5}", [0]),
    ("type: SeLu", [0]),
    ("type: SeLu, selu_param: {alpha: 0.3, lambda: -2}", [0]),
    ("type: Clip, clip_param: {min: -0.4, max: 0.9}", [-0.4, 0.9]),
    ("type: PReLU", [0]),
    ("type: PReLU, prelu_param: {channel_shared: true}", [0]),
    ("type: PReLU, prelu_param: {filler: {value: -0.5}}", [0]),
    ("type: Dropout, dropout_param: {dropout_ratio: 0.3}", []),
]
IN_PLACE = ["", ", bottom: [x0], top: [x0]"]
SHAPES = [(1, 4), (2, 3), (1, 3, 4), (3, 2, 2, 3)]


def random(rng, shape):
    return rng.standard_normal(shape) + 0.05


@pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])
@pytest.mark.parametrize("shape", [(), (7,), *SHAPES])
@pytest.mark.parametrize("layer", SMOOTH)
def test_smooth_functions_have_the_derivative_of_forward(layer, shape, in_place, rng):
    check_gradients(layer + in_place, [random(rng, shape)])


@pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])
@pytest.mark.parametrize("layer", ON_POSITIVE)
def test_functions_of_positive_numbers_have_the_derivative_of_forward(layer, in_place, rng):
    check_gradients(layer + in_place, [0.3 + np.abs(random(rng, (2, 3, 4)))])


@pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("layer", "corners"), WITH_CORNERS)
def test_functions_with_corners_have_the_derivative_of_forward(layer, corners, shape, in_place, rng):
    x = away_from(corners, random(rng, shape)) if corners else random(rng, shape)
    x.flat[:3] = 1.5, -1.5, 0.2
    check_gradients(layer + in_place, [x])


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
def test_absolute_value_has_the_derivative_of_forward(shape, rng):
    check_gradients("type: AbsVal", [away_from(0, random(rng, shape))])


@pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])
@pytest.mark.parametrize("layer", [*SMOOTH, *ON_POSITIVE, *[layer for layer, _ in WITH_CORNERS]])
def test_a_later_layer_may_write_over_the_top(layer, in_place):
    """Sigmoid, then Dropout in place: backward must not take what lies in the top for its output."""
    top = "x0" if in_place else "L"
    text = layer_net(layer + in_place, [(2, 3)])
    text += (
        f"\n- {{name: after, type: Power, bottom: {top}, top: {top}, power_param: {{scale: -3, shift: 2}}}}"
    )
    x = np.array([[0.3, 0.5, 0.7], [0.11, 1.3, 0.2]])
    x[1] *= 1 if layer in ON_POSITIVE else -1
    check_gradients(text, {"x0": x})


@pytest.mark.parametrize("layer", [*SMOOTH, *[layer for layer, _ in WITH_CORNERS], *ON_POSITIVE])
def test_blocks_of_work_do_not_change_a_result(layer, make_net, monkeypatch, rng):
    text, x = layer_net(layer, [(3, 5, 2, 3)]), np.abs(random(rng, (3, 5, 2, 3))) + 0.1
    whole = forward_and_backward(make_net(text, phase="train", seed=1), x)
    for module in (workers, channels):
        monkeypatch.setattr(module, "CHUNK", 4)
    monkeypatch.setattr(workers, "worker_count", 2)
    for a, b in zip(whole, forward_and_backward(make_net(text, phase="train", seed=1), x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def forward_and_backward(net, x):
    y = net.forward(x0=x)["L"]
    net.clear_param_diffs()
    net.backward(L=np.cos(np.arange(y.size)).reshape(y.shape))
    return [y, net.blobs["x0"].diff.copy(), *[b.diff.copy() for b in net.params.get("L", [])]]


@pytest.mark.parametrize(
    "layer", ["type: Clip, clip_param: {min: -1, max: 1}", "type: PReLU", "type: Dropout"]
)
def test_an_in_place_layer_follows_a_batch_that_shrinks_and_grows_again(layer, make_net, rng):
    net = make_net(layer_net(layer + IN_PLACE[1], [(4, 3)]), phase="train", seed=1)
    for batch in (4, 2, 5, 4):
        net.blobs["x0"].reshape(batch, 3)
        net.reshape()
        x = 3 * random(rng, (batch, 3))
        y = net.forward(x0=x)["x0"]
        gradient = net.backward(x0=np.ones((batch, 3)))["x0"]
        assert y.shape == gradient.shape == (batch, 3)
        inside = np.abs(x) <= 1
        if "Clip" in layer:
            np.testing.assert_array_equal(gradient, inside)


@pytest.mark.parametrize("layer", ["Sigmoid", "BNLL", "Swish", "TanH", "ELU"])
def test_large_inputs_do_not_overflow(layer, make_net):
    net = make_net(layer_net(f"type: {layer}", [(1, 4)]), phase="train")
    with np.errstate(over="raise", invalid="raise"):
        y = net.forward(x0=np.array([[-1e4, -200, 200, 1e4]]))["L"]
        gradient = net.backward(L=np.ones((1, 4)))["x0"]
    assert np.isfinite(y).all()
    assert np.isfinite(gradient).all()


def test_power_has_gradient_zero_at_a_base_of_zero(make_net):
    net = make_net(layer_net("type: Power, power_param: {power: 3}", [(1, 2)]), phase="train")
    net.forward(x0=np.array([[0.0, 2.0]]))
    np.testing.assert_allclose(net.backward(L=np.ones((1, 2)))["x0"], [[0, 12]])


@pytest.mark.parametrize(
    ("param", "value"), [("{scale: 0, shift: 3, power: 2}", 9), ("{power: 0}", 1), ("{scale: 0}", 0)]
)
def test_power_without_slope_is_a_constant_even_of_infinite_inputs(param, value, make_net):
    net = make_net(layer_net(f"type: Power, power_param: {param}", [(1, 2)]), phase="train")
    np.testing.assert_array_equal(net.forward(x0=np.array([[np.inf, np.nan]]))["L"], [[value, value]])
    np.testing.assert_array_equal(net.backward(L=np.ones((1, 2)))["x0"], [[0, 0]])


def test_threshold_is_strict_and_has_no_gradient(make_net):
    net = make_net(layer_net("type: Threshold, threshold_param: {threshold: 0.5}", [(1, 3)]), phase="train")
    np.testing.assert_array_equal(net.forward(x0=np.array([[0.4, 0.5, 0.6]]))["L"], [[0, 0, 1]])
    with pytest.raises(TrainingError, match="Threshold has no gradient"):
        net.layers[-1].backward([net.blobs["L"]], [True], [net.blobs["x0"]])


def test_prelu_computes_no_gradient_for_a_frozen_slope(make_net):
    net = make_net(layer_net("type: PReLU, param: {lr_mult: 0}", [(2, 3)]), phase="train")
    forward_and_backward_of_ones(net)
    assert not net.params["L"][0].has_diff


def forward_and_backward_of_ones(net):
    net.forward(x0=-np.ones(net.blobs["x0"].shape))
    net.backward(L=np.ones(net.blobs["L"].shape))


def test_prelu_adds_to_the_gradient_of_its_slope(make_net):
    net = make_net(layer_net("type: PReLU", [(2, 3)]), phase="train")
    for _ in range(3):
        forward_and_backward_of_ones(net)
    np.testing.assert_allclose(net.params["L"][0].diff, [-6, -6, -6])


def test_prelu_refuses_other_channels_than_it_started_with(make_net):
    net = make_net(layer_net("type: PReLU", [(2, 3)]))
    net.blobs["x0"].reshape(2, 4)
    with pytest.raises(ShapeError, match="bottom has 4 channels, but the slopes are for 3"):
        net.reshape()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("type: AbsVal, bottom: [x0], top: [x0]", "top: AbsVal cannot work in place"),
        ("type: Exp, exp_param: {base: 0}", "base: 0 is out of range"),
        ("type: Log, log_param: {base: 1}", "base: 1 is out of range"),
        ("type: Log, log_param: {base: -2}", "base: -2 is out of range"),
        ("type: Clip, clip_param: {min: 2, max: 1}", "min: 2 is more than max 1"),
        ("type: Clip, clip_param: {min: 2}", "max: required"),
        ("type: Dropout, dropout_param: {dropout_ratio: 1}", "dropout_ratio: 1 is out of range"),
        ("type: Dropout, dropout_param: {dropout_ratio: -0.1}", "dropout_ratio: -0.1 is out of range"),
        ("type: Dropout, dropout_param: {scale_trian: true}", "scale_trian: unknown field"),
        ("type: Dropout, dropout_param: {scale_train: 3}", "scale_train: expected"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_field(layer, message, make_net):
    with pytest.raises(SpecError, match=message) as caught:
        make_net(layer_net(layer, [(2, 3)]))
    assert "\n" not in str(caught.value)
    assert "<string>:" in str(caught.value)


# -- dropout ---------------------------------------------------------------------------------------


def dropout(make_net, ratio, shape=(100, 400), phase="train", seed=4, scale_train=True):
    param = f"{{dropout_ratio: {ratio}, scale_train: {str(scale_train).lower()}}}"
    text = layer_net(f"type: Dropout, dropout_param: {param}", [shape])
    return make_net(text, phase=phase, seed=seed)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
def test_dropout_zeroes_its_share_and_scales_what_it_keeps(ratio, make_net, rng):
    net = dropout(make_net, ratio)
    x = 1 + rng.random((100, 400), np.float32)
    y = net.forward(x0=x)["L"]
    kept = y != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - round(ratio * 2**16) / 2**16), rtol=1e-6)
    deviation = np.sqrt(ratio * (1 - ratio) / x.size)
    assert abs((1 - kept.mean()) - ratio) < 4 * deviation
    for axis in (0, 1):  # no row and no column is treated alike
        assert kept.mean(axis=axis).std() < 0.1


def test_dropout_of_nothing_is_the_identity(make_net, rng):
    x = rng.random((100, 400), np.float32)
    np.testing.assert_array_equal(dropout(make_net, 0).forward(x0=x)["L"], x)


def test_dropout_repeats_from_a_seed_and_differs_between_forwards(make_net):
    x = np.ones((100, 400))
    first, second = dropout(make_net, 0.5), dropout(make_net, 0.5)
    runs = [[net.forward(x0=x)["L"] for _ in range(2)] for net in (first, second)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()
    assert (dropout(make_net, 0.5, seed=5).forward(x0=x)["L"] != runs[0][0]).any()


@pytest.mark.cpu_only("a GPU's generator does not tell its state")
def test_dropout_goes_on_with_the_same_masks_after_a_snapshot(make_net):
    net, x = dropout(make_net, 0.5), np.ones((100, 400))
    net.forward(x0=x)
    state = net.state_dict()
    expected = net.forward(x0=x)["L"]
    other = dropout(make_net, 0.5, seed=9)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.forward(x0=x)["L"], expected)


def test_dropout_sends_gradient_through_what_it_kept(make_net):
    net = dropout(make_net, 0.5)
    y = net.forward(x0=np.ones((100, 400)))["L"]
    np.testing.assert_array_equal(net.backward(L=np.ones((100, 400)))["x0"], y)


def test_dropout_at_test_time_is_the_identity_both_ways(make_net, rng):
    net, x = dropout(make_net, 0.5, shape=(2, 3), phase="test"), random(rng, (2, 3)).astype(np.float32)
    np.testing.assert_array_equal(net.forward(x0=x)["L"], x)
    np.testing.assert_array_equal(net.backward(L=x)["x0"], x)


def test_dropout_that_scales_at_test_time_keeps_values_in_training_and_the_mean_over_both(make_net, rng):
    net, x = dropout(make_net, 0.25, scale_train=False), 1 + rng.random((100, 400)).astype(np.float32)
    y = net.forward(x0=x)["L"]
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    assert abs((y == 0).mean() - 0.25) < 0.01
    np.testing.assert_array_equal(net.backward(L=np.ones((100, 400)))["x0"], y != 0)
    test_net = dropout(make_net, 0.25, phase="test", scale_train=False)
    np.testing.assert_allclose(test_net.forward(x0=x)["L"], 0.75 * x, rtol=1e-6)
    np.testing.assert_allclose(test_net.backward(L=x)["x0"], 0.75 * x, rtol=1e-6)


def test_dropout_scales_at_test_time_in_place_too(make_net):
    text = "- {name: drop, type: Dropout, top: x, dropout_param: {dropout_ratio: 0.5, scale_train: false}}"
    net = make_net(f"layer:\n- {{name: x, type: Input, input_param: {{shape: {{dim: [1, 2]}}}}}}\n{text}")
    np.testing.assert_array_equal(net.forward(x=np.array([[1.0, -4.0]]))["x"], [[0.5, -2]])


def test_a_layer_in_place_on_dropouts_top_does_not_change_what_others_see(make_net):
    """So at test time the top is a copy, not the bottom's own array."""
    net = make_net(
        """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 2]}}}
- {name: drop, type: Dropout, bottom: x}
- {name: abs, type: Power, bottom: drop, top: drop, power_param: {scale: -5}}
- {name: other, type: Power, bottom: x, power_param: {scale: 2}}
""",
        phase="test",
    )
    out = net.forward(x=np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(out["other"], [[2, 4]])
    np.testing.assert_array_equal(out["drop"], [[-5, -10]])


def test_the_neurons_of_a_float32_net_agree_with_float64(make_net, rng):
    x = np.abs(random(rng, (2, 3, 4))) + 0.1
    for layer in [*SMOOTH, *ON_POSITIVE, "type: ELU", "type: PReLU"]:
        text = layer_net(layer, [x.shape])
        y32, y64 = (
            make_net(text, dtype=dtype, seed=1).forward(x0=x)["L"] for dtype in ("float32", "float64")
        )
        assert y32.dtype == np.float32
        np.testing.assert_allclose(y32, y64, rtol=1e-5, atol=1e-6, err_msg=layer)


def test_neurons_are_registered_under_caffes_names():
    neurons = {"PReLU", "ELU", "Sigmoid", "TanH", "AbsVal", "Power", "Exp", "Log", "BNLL", "Swish", "Clip"}
    assert neurons | {"Threshold", "Dropout"} <= set(layer_classes)
