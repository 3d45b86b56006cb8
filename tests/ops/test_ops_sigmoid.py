"""σ and softplus far from 0, where float32 still has digits and one formula for all would not."""

import numpy as np
import pytest

from minicaffe.device.array import to_host
from minicaffe.ops.sigmoid import sigmoid, softplus

FAR = "- {name: x, type: Input, input_param: {shape: {dim: [1, 6]}}}\n"
SCORES = [-80, -40, -20, -18.5, -10, 3]
EXACT = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Swish": lambda x: x / (1 + np.exp(-x)),
    "BNLL": lambda x: np.logaddexp(0, x),
}


def run(make_net, layers, backward=False):
    net = make_net(f"force_backward: true\nlayer:\n{FAR}{layers}")
    net.forward(x=np.array([SCORES], np.float32))
    if backward:
        net.blobs[net.outputs[0]].diff[...] = 1
        return to_host(net.backward()["x"])[0]
    return to_host(net.blobs[net.outputs[0]].data)[0]


@pytest.mark.parametrize("function", [sigmoid, softplus])
def test_every_float32_from_minus_87_on_is_right_to_its_last_digits(function):
    x = np.linspace(-87, 40, 100_001).astype(np.float32)
    wide = x.astype(np.float64)
    exact = 1 / (1 + np.exp(-wide)) if function is sigmoid else np.logaddexp(0, wide)
    out = np.empty_like(x)
    function(x, out)
    np.testing.assert_allclose(out, exact, rtol=4e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_beyond_what_exp_can_hold_sigmoid_is_0_and_1_without_a_warning(dtype):
    x = np.array([-np.inf, -1e4, -800, 800, np.inf, np.nan], dtype)
    with np.errstate(all="raise", under="ignore"):
        sigmoid(x, out=x)
    np.testing.assert_array_equal(x, [0, 0, 0, 1, 1, np.nan])


@pytest.mark.parametrize("kind", list(EXACT))
def test_layers_made_of_sigmoids_keep_small_numbers(make_net, kind):
    x = np.array(SCORES, np.float64)
    np.testing.assert_allclose(run(make_net, f"- {{type: {kind}, name: y}}"), EXACT[kind](x), rtol=1e-6)
    slope = (EXACT[kind](x + 1e-4) - EXACT[kind](x - 1e-4)) / 2e-4
    np.testing.assert_allclose(run(make_net, f"- {{type: {kind}, name: y}}", backward=True), slope, rtol=1e-4)


def test_log_of_the_sigmoid_of_a_low_score_is_the_score(make_net):
    logs = run(make_net, "- {type: Sigmoid, name: y}\n- {type: Log, name: z}")
    np.testing.assert_allclose(logs[:4], SCORES[:4], rtol=1e-6)


def test_gradient_of_the_cross_entropy_of_a_low_score_is_its_probability(make_net):
    net = make_net(
        f"force_backward: true\nlayer:\n{FAR}"
        "- {name: t, type: Input, input_param: {shape: {dim: [1, 6]}}}\n"
        "- {name: loss, type: SigmoidCrossEntropyLoss, bottom: [x, t]}",
        phase="train",
    )
    net.forward(x=np.array([SCORES], np.float32))
    net.blobs["loss"].diff[...] = 1
    gradient = to_host(net.backward()["x"])[0]
    np.testing.assert_allclose(gradient, EXACT["Sigmoid"](np.array(SCORES, np.float64)), rtol=1e-6)


def test_a_gate_of_an_lstm_that_is_nearly_closed_lets_a_little_through(make_net):
    net = make_net(
        "layer:\n- {name: c, type: Input, input_param: {shape: {dim: [1, 1, 1]}}}\n"
        "- {name: a, type: Input, input_param: {shape: {dim: [1, 1, 4]}}}\n"
        "- {name: cont, type: Input, input_param: {shape: {dim: [1, 1]}}}\n"
        "- {name: u, type: LSTMUnit, bottom: [c, a, cont], top: [c1, h1]}"
    )
    net.forward(c=[[[1]]], a=[[[-25, -25, -25, 0]]], cont=[[1]])
    assert float(net.blobs["c1"].data.item()) == pytest.approx(np.exp(-25.0), rel=1e-5)
