"""Layers of nets that read text: Transpose and Lstm."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.testing import check_gradients
from tests.golden_files import assert_agrees, recorded
from tests.layer_cases import net_of

FILLERS = (
    "weight_filler: {type: uniform, min: -0.7, max: 0.7}, bias_filler: {type: uniform, min: -0.3, max: 0.3}"
)
BREAKS = np.array([[0, 1], [1, 1], [1, 0], [1, 1.0]])


def lstm(more="", size=3):
    return f"type: Lstm, lstm_param: {{num_output: {size}, {FILLERS}{more}}}"


# ---------------------------------------------------------------------------------------------- Transpose


@pytest.mark.parametrize("dim", [(3, 2, 0, 1), (0, 1, 2, 3), (2, 3, 1, 0), (1, 0)])
def test_axis_i_of_the_top_is_axis_dim_i_of_the_bottom(dim, rng):
    x = rng.standard_normal((2, 3, 4, 5)[: len(dim)]).astype(np.float32)
    layer = f"type: Transpose, transpose_param: {{dim: {list(dim)}}}"
    np.testing.assert_array_equal(net_of(layer, x.shape).forward(x0=x)["L"], x.transpose(dim))
    check_gradients(layer, [x.shape])


@pytest.mark.parametrize("dim", [[0, 1], [0, 1, 1], [1, 2, 3], [0, 1, 2, 3], []])
def test_a_transpose_that_does_not_name_every_axis_once_is_refused(dim):
    with pytest.raises(mc.SpecError, match=r"dim: .*: expected each axis of bottom \(2, 3, 4\) once"):
        net_of(f"type: Transpose, transpose_param: {{dim: {dim}}}", (2, 3, 4))


# --------------------------------------------------------------------------------------------------- Lstm


def unrolled(x, cont, weights, h, c):
    """h of every step and c of the last, from the formula, with what backward needs of each step."""
    w_x, w_h, b = weights
    steps = []
    for x_t, cont_t in zip(x, cont[..., None], strict=True):
        old_h, old_c = cont_t * h, cont_t * c
        i, f, o, g = np.split(x_t @ w_x.T + b + old_h @ w_h.T, 4, axis=1)
        i, f, o, g = *(1 / (1 + np.exp(-a)) for a in (i, f, o)), np.tanh(g)
        c = f * old_c + i * g
        h = o * np.tanh(c)
        steps.append((x_t, cont_t, old_h, old_c, i, f, o, g, c, h))
    return steps


def clipped_gradients(steps, weights, dy, k):
    """The gradients of x and of the weights, where every da is clipped to ±k."""
    w_x, w_h, _ = weights
    dx, grads = [], [np.zeros_like(w) for w in weights]
    dh, dc = np.zeros((2, *dy[0].shape))
    for dy_t, (x_t, cont_t, old_h, old_c, i, f, o, g, c, _) in zip(dy[::-1], steps[::-1], strict=True):
        dh = dh + dy_t
        dc = dc + dh * o * (1 - np.tanh(c) ** 2)
        da = [
            dc * g * i * (1 - i),
            dc * old_c * f * (1 - f),
            dh * np.tanh(c) * o * (1 - o),
            dc * i * (1 - g**2),
        ]
        da = np.concatenate(da, axis=1).clip(-k, k)
        for grad, term in zip(grads, (da.T @ x_t, da.T @ old_h, da.sum(axis=0)), strict=True):
            grad += term
        dx.append(da @ w_x)
        dh, dc = cont_t * (da @ w_h), cont_t * dc * f
    return np.array(dx[::-1]), grads


def host(blobs):
    return [np.array(to_host(blob.data)) for blob in blobs]


@pytest.mark.parametrize("k", [0, 0.05, 100])
@pytest.mark.parametrize("cont", [None, BREAKS])
def test_lstm_and_its_clipped_gradients_are_their_formulas_written_out(k, cont, rng):
    x, dy = rng.standard_normal((4, 2, 5)), rng.standard_normal((4, 2, 3))
    net = net_of(
        lstm(f", clipping_threshold: {k}"), x.shape, *([] if cont is None else [(8,)]), dtype="float64"
    )
    given = {} if cont is None else {"x1": cont.ravel()}
    steps, weights = None, host(net.params["L"])
    h, c = np.zeros((2, 2, 3))
    for _ in range(2):  # with cont, the second pass begins with the states that the first has left
        got = net.forward(x0=x, **given)["L"]
        begin = np.array([[0, 0], *[[1, 1]] * 3])
        steps = unrolled(x, begin if cont is None else cont, weights, h, c)
        h, c = steps[-1][-1], steps[-1][-2]
    np.testing.assert_allclose(got, [step[-1] for step in steps], rtol=1e-12)
    net.clear_param_diffs()
    dx, grads = clipped_gradients(steps, weights, dy, k or np.inf)
    np.testing.assert_allclose(net.backward(L=dy)["x0"], dx, rtol=1e-9, atol=1e-12)
    for blob, grad in zip(net.params["L"], grads, strict=True):
        np.testing.assert_allclose(to_host(blob.diff), grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "cont", "more"),
    [
        ((4, 2, 3), None, ""),
        ((4, 2, 2, 1), (8, 1), ""),
        ((8, 3), BREAKS.reshape(8, 1), ", batch_size: 2"),
        ((4, 2, 3), BREAKS, ", clipping_threshold: 1000"),
        ((1, 1, 2), None, ""),
    ],
)
def test_lstm_backward_is_the_derivative_of_forward(shape, cont, more):
    cont = np.ones(cont) if isinstance(cont, tuple) else cont
    if shape != (1, 1, 2):
        net = check_gradients(lstm(more), [shape] if cont is None else [shape, cont])
        assert cont is None or not net.blobs["x1"].has_diff
    else:  # W_h has no gradient in a sequence of one step
        check_gradients(lstm() + ", param: [{}, {lr_mult: 0}, {}]", [shape])


def test_two_axes_are_the_steps_of_all_sequences_one_after_another(rng):
    x = rng.standard_normal((8, 5)).astype(np.float32)
    flat, apart = net_of(lstm(", batch_size: 2"), (8, 5)), net_of(lstm(), (4, 2, 5))
    got = flat.forward(x0=x)["L"]
    assert got.shape == (8, 3)
    np.testing.assert_array_equal(got, apart.forward(x0=x.reshape(4, 2, 5))["L"].reshape(8, 3))


def test_lstm_equals_caffes_own_with_the_last_two_parameters_exchanged(rng):
    x = rng.standard_normal((4, 2, 5))
    own = net_of(lstm(), (4, 2, 5), (4, 2))
    caffes = net_of("type: LSTM, recurrent_param: {num_output: 3}", (4, 2, 5), (4, 2))
    assert [blob.shape for blob in own.params["L"]] == [(12, 5), (12, 3), (12,)]
    for blob, index in zip(own.params["L"], (0, 2, 1), strict=True):
        caffes.params["L"][index].data[...] = blob.data
    for _ in range(2):
        both = [net.forward(x0=x, x1=BREAKS)["L"] for net in (own, caffes)]
        np.testing.assert_array_equal(*both)


def test_without_cont_every_forward_starts_anew_and_with_it_a_snapshot_keeps_the_states(rng):
    x = rng.standard_normal((4, 2, 5))
    alone = net_of(lstm(), (4, 2, 5))
    first = np.array(alone.forward(x0=x)["L"])
    np.testing.assert_array_equal(alone.forward(x0=x)["L"], first)
    assert alone.layers[-1].state() == {}
    nets = [net_of(lstm(), (4, 2, 5), (4, 2)) for _ in range(2)]
    nets[0].forward(x0=x, x1=np.ones((4, 2)))
    nets[1].layers[-1].restore(json.loads(json.dumps(nets[0].layers[-1].state())))
    outs = [np.array(net.forward(x0=x, x1=np.ones((4, 2)))["L"]) for net in nets]
    np.testing.assert_array_equal(*outs)
    assert not np.allclose(outs[0], first)


def test_the_recurrent_part_of_ctpn_is_pytorchs_lstm_in_both_directions():
    assert_agrees(recorded("ocr")["ctpn"])


WRONG = [
    ([(4,)], "", r"bottom has shape \(4,\); expected \(steps, sequences, …\)"),
    ([(4, 0, 5)], "", "expected"),
    ([(4, 2, 0)], "", "has no inputs"),
    ([(7, 5)], ", batch_size: 2", "7 steps of batch_size 2"),
    ([(4, 2, 5), (2, 4)], "", r"cont has shape \(2, 4\); expected one number for each of 4 × 2 steps"),
    ([(4, 2, 5), (4, 1)], "", "cont has shape"),
    ([(4, 2, 5)], ", clipping_threshold: -1", "clipping_threshold: -1"),
    ([(4, 2, 5), (4, 2), (2, 7)], "", "bottom: Lstm takes 1 to 2, got 3"),
]


@pytest.mark.parametrize(("shapes", "more", "problem"), WRONG)
def test_unfit_bottoms_and_settings_of_lstm_are_an_error_at_the_layer(shapes, more, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(lstm(more), *shapes)


def test_another_number_of_inputs_of_lstm_is_an_error():
    net = net_of(lstm(), (4, 2, 5))
    net.blobs["x0"].reshape(4, 2, 6)
    with pytest.raises(mc.ShapeError, match="the weights are for 5 inputs per step"):
        net.reshape()
