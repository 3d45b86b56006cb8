"""RNN, LSTM and LSTMUnit: gradients by central differences, what is remembered, and what they refuse."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.layers.sigmoid import sigmoid
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

FILLERS = (
    "weight_filler: {type: uniform, min: -0.7, max: 0.7}, bias_filler: {type: uniform, min: -0.3, max: 0.3}"
)
STATES = {"RNN": 1, "LSTM": 2}
BREAKS = np.array([[0, 1], [1, 1], [1, 0], [1, 1.0]])


def recurrent(layer_type, more="", tops=("y",), size=3):
    param = f"recurrent_param: {{num_output: {size}, {FILLERS}{more}}}"
    return f"type: {layer_type}, top: [{', '.join(tops)}], {param}"


def exposed_tops(layer_type):
    return ["y", *[f"end{i}" for i in range(STATES[layer_type])]]


@pytest.mark.parametrize("layer_type", STATES)
@pytest.mark.parametrize("exposes", [False, True])
@pytest.mark.parametrize("static", [(), (2, 3), (2, 2, 1, 2)])
@pytest.mark.parametrize("x", [(4, 2, 3), (4, 2, 2, 1)])
def test_backward_is_the_derivative_of_forward(layer_type, exposes, static, x):
    states = [(1, 2, 3)] * STATES[layer_type] if exposes else []
    inputs = [x, BREAKS, *([static] if static else []), *states]
    more, tops = (", expose_hidden: true", exposed_tops(layer_type)) if exposes else ("", ["y"])
    net = check_gradients(recurrent(layer_type, more, tops), inputs)
    assert not net.blobs["x1"].has_diff  # where sequences begin has no gradient


@pytest.mark.parametrize("layer_type", STATES)
def test_one_step_of_one_sequence_is_differentiated_right(layer_type):
    layer = recurrent(layer_type, ", expose_hidden: true", exposed_tops(layer_type))
    check_gradients(layer, [(1, 1, 2), np.ones((1, 1)), *[(1, 1, 3)] * STATES[layer_type]])


@pytest.mark.parametrize("cont", [[[0, 1, 1]], [[1, 1, 0.5]]])
def test_a_unit_is_differentiated_right_also_where_cont_is_a_fraction(cont):
    check_gradients("type: LSTMUnit, top: [c, h]", [(1, 3, 2), (1, 3, 8), np.array(cont)])


def test_a_layer_in_place_over_the_cell_that_a_unit_still_needs_is_refused():
    inputs = [
        f"{{name: x{i}, type: Input, input_param: {{shape: {{dim: {s}}}}}}}"
        for i, s in enumerate(([1, 3, 2], [1, 3, 8], [1, 3]))
    ]
    layers = [*inputs, "{name: u, type: LSTMUnit, bottom: [x0, x1, x2], top: [c, h]}",
              "{name: r, type: ReLU, bottom: c, top: c}"]  # fmt: skip
    with pytest.raises(mc.SpecError, match="layer 'u' needs its top in backward"):
        mc.Net(parse_net("force_backward: true\nlayer: [" + ", ".join(layers) + "]"), phase="train")


def test_lstm_is_its_formula_written_out(rng):
    net = net_of(recurrent("LSTM"), (4, 2, 5), (4, 2), dtype="float64")
    x = rng.standard_normal((4, 2, 5))
    got = net.forward(x0=x, x1=BREAKS)["y"]
    w_x, b, w_h = (np.array(blob.data) for blob in net.params["L"])
    h, c = np.zeros((2, 2, 3))
    for t in range(4):
        cont = BREAKS[t][:, None]
        i, f, o, g = np.split(x[t] @ w_x.T + b + (cont * h) @ w_h.T, 4, axis=1)
        c = cont * _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        np.testing.assert_allclose(got[t], h, rtol=1e-12)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("layer_type", STATES)
def test_a_long_sequence_in_pieces_gives_what_it_gives_whole(layer_type, rng):
    whole, pieces = (net_of(recurrent(layer_type), (steps, 2, 5), (steps, 2)) for steps in (6, 3))
    x, cont = rng.standard_normal((6, 2, 5)), np.ones((6, 2))
    for part in range(2):
        own = slice(3 * part, 3 * part + 3)
        got = pieces.forward(x0=x[own], x1=cont[own])["y"]
        if part == 0:
            start = got
    np.testing.assert_allclose(np.concatenate([start, got]), whole.forward(x0=x, x1=cont)["y"], rtol=1e-6)


@pytest.mark.parametrize("layer_type", STATES)
def test_a_sequence_that_begins_knows_nothing_of_the_one_before(layer_type, rng):
    net = net_of(recurrent(layer_type), (2, 2, 5), (2, 2))
    x, begins = rng.standard_normal((2, 2, 5)), [[0, 0], [1, 1]]
    first = net.forward(x0=x, x1=begins)["y"]
    net.forward(x0=9 * x, x1=np.ones((2, 2)))
    np.testing.assert_array_equal(net.forward(x0=x, x1=begins)["y"], first)


@pytest.mark.parametrize("layer_type", STATES)
def test_reset_and_another_number_of_sequences_forget(layer_type, rng):
    net = net_of(recurrent(layer_type), (2, 3, 5), (2, 3))
    x, on = rng.standard_normal((2, 3, 5)), np.ones((2, 3))
    first = net.forward(x0=x, x1=on)["y"]
    assert not np.allclose(net.forward(x0=x, x1=on)["y"], first)
    net.layers[-1].reset()
    np.testing.assert_array_equal(net.forward(x0=x, x1=on)["y"], first)
    for name, shape in (("x0", (2, 1, 5)), ("x1", (2, 1))):
        net.blobs[name].reshape(*shape)
    np.testing.assert_allclose(net.forward(x0=x[:, :1], x1=on[:, :1])["y"], first[:, :1], rtol=1e-6)


@pytest.mark.parametrize("layer_type", STATES)
def test_a_snapshot_keeps_the_hidden_states_bit_for_bit(layer_type, rng):
    nets = [net_of(recurrent(layer_type), (2, 2, 5), (2, 2)) for _ in range(2)]
    x, on = rng.standard_normal((3, 2, 2, 5)), np.ones((2, 2))
    nets[0].forward(x0=x[0], x1=on)
    state = json.loads(json.dumps(nets[0].layers[-1].state()))
    nets[1].layers[-1].restore(state)
    outs = [net.forward(x0=x[1], x1=on)["y"] for net in nets]
    np.testing.assert_array_equal(outs[0], outs[1])
    with pytest.raises(mc.DataError, match="'L': snapshot has no hidden states for 2 sequences of 3"):
        nets[1].layers[-1].restore({"hidden": ["AAAA"]})


def test_exposed_states_are_the_callers_and_not_kept(rng):
    net = net_of(
        recurrent("LSTM", ", expose_hidden: true", exposed_tops("LSTM")),
        (2, 1, 2),
        (2, 1),
        (1, 1, 3),
        (1, 1, 3),
    )
    inputs = {f"x{i}": rng.standard_normal(blob.shape) for i, blob in enumerate(net.blobs.values()) if i < 4}
    inputs["x1"] = np.ones((2, 1))
    first = net.forward(**inputs)
    np.testing.assert_array_equal(net.forward(**inputs)["y"], first["y"])
    np.testing.assert_array_equal(first["end0"][0], first["y"][-1])
    assert net.layers[-1].state() == {}


@pytest.mark.parametrize("layer_type", STATES)
def test_frozen_weights_and_inputs_get_no_gradient(layer_type, rng):
    count = {"RNN": 6, "LSTM": 4}[layer_type]
    frozen = ", ".join(["{lr_mult: 0}"] * (count - 1))
    layer = recurrent(layer_type) + f", param: [{frozen}], propagate_down: [false, false, true]"
    net = net_of(layer, (3, 2, 5), (3, 2), (2, 4))
    net.forward(x0=rng.standard_normal((3, 2, 5)), x1=BREAKS[:3], x2=rng.standard_normal((2, 4)))
    reached = net.backward(y=np.ones((3, 2, 3)))
    assert list(reached) == ["x2"] and reached["x2"].any()
    assert [blob.has_diff for blob in net.params["L"]] == [False] * (count - 1) + [True]


def test_parameters_have_caffes_order_and_shapes():
    shapes = [(4, 2, 5), (4, 2), (2, 7)]
    lstm, rnn = (net_of(recurrent(kind), *shapes).params["L"] for kind in ("LSTM", "RNN"))
    assert [blob.shape for blob in lstm] == [(12, 5), (12,), (12, 7), (12, 3)]
    assert [blob.shape for blob in rnn] == [(3, 5), (3,), (3, 7), (3, 3), (3, 3), (3,)]


def test_work_is_that_of_the_products():
    net = net_of(recurrent("LSTM"), (4, 2, 5), (4, 2), (2, 7))
    assert net.steps[-1].multiply_adds == 12 * 7 + 4 * (12 * 5 + 12 * 3)


def test_sigmoid_of_huge_numbers_is_0_and_1():
    x = np.array([-1e4, 0, 1e4])
    sigmoid(x, out=x)
    np.testing.assert_array_equal(x, [0, 0.5, 1])


WRONG = [
    (recurrent("LSTM"), [(4, 2, 5), (2, 4)], r"'L': bottoms \(4, 2, 5\) and \(2, 4\); expected x"),
    (recurrent("RNN"), [(4, 2, 0), (4, 2)], "has no inputs"),
    (recurrent("RNN"), [(4,), (4,)], "expected x"),
    (recurrent("LSTM"), [(4, 2, 5), (4, 2), (3, 7)], "static input has shape"),
    (recurrent("LSTM"), [(4, 2, 5), (4, 2), (2, 7), (1, 2, 3)], "bottom: 4 given; LSTM takes x, cont"),
    (recurrent("LSTM", ", expose_hidden: true"), [(4, 2, 5), (4, 2), (1, 2, 3), (1, 2, 3)], "top: 1 given"),
    (
        recurrent("RNN", ", expose_hidden: true", ["y", "e"]),
        [(4, 2, 5), (4, 2), (1, 2, 4)],
        r"hidden state 'x2' has shape \(1, 2, 4\); expected \(1, 2, 3\)",
    ),
    ("type: LSTM", [(4, 2, 5), (4, 2)], "num_output: required"),
    ("type: LSTMUnit, top: [c, h]", [(1, 3, 2), (1, 3, 6), (1, 3)], r"expected the cell \(1, N, D\)"),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=problem):
        net_of(layer, *shapes)


def test_another_number_of_inputs_is_an_error():
    net = net_of(recurrent("LSTM"), (4, 2, 5), (4, 2))
    net.blobs["x0"].reshape(4, 2, 6)
    with pytest.raises(mc.ShapeError, match="the weights are for 5 inputs per step"):
        net.reshape()


@pytest.mark.parametrize("layer_type", STATES)
def test_a_batch_of_no_sequences_is_refused(layer_type):
    with pytest.raises(mc.ShapeError, match=r"bottoms \(4, 0, 5\) and \(4, 0\); expected x"):
        net_of(recurrent(layer_type), (4, 0, 5), (4, 0))
