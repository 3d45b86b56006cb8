"""Layers in place: what may be, and what must be refused since others still read that memory."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.testing import check_gradients

HEAD = "force_backward: true\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n"
FC = "inner_product_param: {num_output: 3, weight_filler: {type: xavier}}"

REFUSED = [
    (f"- {{name: l, type: InnerProduct, top: x, {FC}}}", "InnerProduct cannot work in place"),
    ("- {name: l, type: ArgMax, top: x}", "ArgMax cannot work in place"),
    ("- {name: l, type: Tile, top: x, tile_param: {tiles: 2}}", "Tile cannot work in place"),
    ("- {name: l, type: Split, top: x}", "Split cannot work in place"),
    (
        "- {name: a, type: Power, bottom: x}\n- {name: l, type: ReLU, bottom: x, top: x}",
        "feeds other layers too",
    ),
    (
        "- {name: a, type: Power, bottom: x}\n- {name: f, type: Flatten, bottom: x}\n"
        "- {name: l, type: Power, bottom: f, top: f}",
        "'x', in whose memory 'f' lies, feeds other layers too",
    ),
]
TWICE = "- {name: l, type: Power, power_param: {scale: 2}, "
OVERWRITING = [  # and the same without
    ("- {name: a, type: Softmax}\n" + TWICE + "top: a}", "- {name: a, type: Softmax}\n" + TWICE + "top: l}"),
    (
        "- {name: a, type: ReLU, top: x}\n- {name: l, type: Scale, top: x, scale_param: {filler: {value: 2}}}",
        "- {name: a, type: ReLU}\n" + TWICE + "top: l}",
    ),
    (
        "- {name: a, type: Softmax}\n- {name: f, type: Flatten}\n" + TWICE + "top: f}",
        "- {name: a, type: Softmax}\n" + TWICE + "top: l}",
    ),
]


@pytest.mark.parametrize(("layers", "problem"), REFUSED)
def test_an_in_place_layer_that_would_spoil_another_is_refused(make_net, layers, problem):
    with pytest.raises(mc.SpecError, match=rf"layer 'l': top: .*{problem}"):
        make_net(HEAD + layers)


@pytest.mark.parametrize(("layers", "apart"), OVERWRITING)
def test_a_top_that_backward_needs_may_be_overwritten_where_no_gradient_passes(make_net, layers, apart, rng):
    problem = "layer 'l': top: layer 'a' needs its top in backward"
    with pytest.raises(mc.SpecError, match=problem):
        make_net(HEAD + layers, phase="train")
    deploy = HEAD.removeprefix("force_backward: true\n")
    make_net(deploy + layers, phase="train")
    trained = deploy + f"- {{name: w, type: InnerProduct, top: t, {FC}}}\n"
    trained += layers.replace("top: x", "bottom: t, top: t") + "\n"
    make_net(trained, phase="train")
    with pytest.raises(mc.SpecError, match=problem):
        make_net(trained + "- {name: loss, type: Reduction, loss_weight: 1}", phase="train")

    net = make_net(HEAD + layers)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    (out,), (expected,) = (n.forward(x=x).values() for n in (net, make_net(HEAD + apart)))
    np.testing.assert_array_equal(to_host(out), to_host(expected))
    errors = []
    for _ in range(2):
        with pytest.raises(mc.SpecError, match=problem) as raised:
            net.backward(**{net.outputs[0]: np.ones(net.blobs[net.outputs[0]].shape)})
        errors.append(raised.value)
    assert errors[0] is not errors[1], "an error that is raised again keeps the frames of all times"


IP = f"- {{name: l, type: InnerProduct, {FC}}}\n"
CHAINS = [
    "- {name: r, type: ReLU, top: l}\n- {name: d, type: Dropout, bottom: l, top: l}",
    "- {name: f, type: Flatten}\n- {name: p, type: Power, bottom: f, top: f, power_param: {power: 2}}",
    "- {name: s, type: Scale, top: l, scale_param: {filler: {type: uniform}}}\n"
    "- {name: r, type: ReLU, bottom: l, top: l}",
]


@pytest.mark.parametrize("layers", CHAINS)
def test_the_usual_chains_in_place_have_the_derivative_of_forward(layers):
    check_gradients(HEAD + IP + layers, [(8, 3)])
