"""Layers in place: what may be, and what must be refused since others still read that memory."""

import numpy as np
import pytest
from gradient_check import check_gradients

import minicaffe as mc

RNG = np.random.default_rng(12)
HEAD = "force_backward: true\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n"
FC = "inner_product_param: {num_output: 3, weight_filler: {type: xavier}}"

REFUSED = [
    (f"- {{name: l, type: InnerProduct, top: x, {FC}}}", "InnerProduct cannot work in place"),
    ("- {name: l, type: ArgMax, top: x}", "ArgMax cannot work in place"),
    ("- {name: l, type: Tile, top: x, tile_param: {tiles: 2}}", "Tile cannot work in place"),
    ("- {name: l, type: Split, top: x}", "Split cannot work in place"),
    (
        "- {name: a, type: Softmax}\n- {name: l, type: Power, bottom: a, top: a}",
        "layer 'a' needs its top in backward",
    ),
    (
        "- {name: a, type: ReLU, top: x}\n- {name: l, type: Scale, bottom: x, top: x}",
        "layer 'a' needs its top",
    ),
    (
        "- {name: a, type: Power, bottom: x}\n- {name: l, type: ReLU, bottom: x, top: x}",
        "feeds other layers too",
    ),
    (
        "- {name: a, type: Power, bottom: x}\n- {name: f, type: Flatten, bottom: x}\n"
        "- {name: l, type: Power, bottom: f, top: f}",
        "'x', in whose memory 'f' lies, feeds other layers too",
    ),
    (
        "- {name: a, type: Softmax}\n- {name: f, type: Flatten}\n- {name: l, type: Power, top: f}",
        "layer 'a' needs its top",
    ),
]


@pytest.mark.parametrize(("layers", "problem"), REFUSED)
def test_an_in_place_layer_that_would_spoil_another_is_refused(make_net, layers, problem):
    with pytest.raises(mc.SpecError, match=rf"layer 'l': top: .*{problem}"):
        make_net(HEAD + layers)


IP = f"- {{name: l, type: InnerProduct, {FC}}}\n"
CHAINS = [
    "- {name: r, type: ReLU, top: l}\n- {name: d, type: Dropout, bottom: l, top: l}",
    "- {name: f, type: Flatten}\n- {name: p, type: Power, bottom: f, top: f, power_param: {power: 2}}",
    "- {name: s, type: Scale, top: l, scale_param: {filler: {type: uniform}}}\n"
    "- {name: r, type: ReLU, bottom: l, top: l}",
]


@pytest.mark.parametrize("layers", CHAINS)
def test_the_usual_chains_in_place_have_the_derivative_of_forward(layers):
    check_gradients(HEAD + IP + layers, {"x": RNG.standard_normal((8, 3))})
