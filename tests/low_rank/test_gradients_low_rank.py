"""Gradients of low-rank layers: exact for the approximated function, in every scheme, target and order."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients, layer_net

CONVOLUTIONS = [
    ((2, 2, 4, 3), "num_output: 4, kernel_size: 3"),
    ((1, 2, 5, 4), "num_output: 4, kernel_h: 2, kernel_w: 3, stride_h: 2, stride_w: 1, pad_h: 0, pad_w: 1"),
    ((2, 4, 3, 3), "num_output: 6, kernel_size: 2, group: 2, pad: 1"),
    ((2, 2, 4, 5), "num_output: 4, kernel_size: 2, dilation: 2, pad: 2, stride: 2"),
    ((1, 1, 2, 3), "num_output: 3, kernel_size: 5, pad: 2"),
    ((3, 4, 4, 3), "num_output: 5, kernel_size: 1, bias_term: false"),
    ((2, 3, 8), "num_output: 4, kernel_size: 3, pad: 1, stride: 2"),
    ((2, 2, 3, 4, 3), "axis: 2, num_output: 4, kernel_size: 2"),
]
LOW_RANKS = {
    "channel": "rank: 2",
    "channel, as dense": "rank: 0.999",
    "channel, by energy": "energy: 0.8, method: gram",
    "channel, factored": "rank: 2, factored: true",
    "spatial": "rank: 2, scheme: spatial",
    "spatial, as dense": "rank: 0.999, scheme: spatial",
    "spatial, factored": "rank: 2, factored: true, scheme: spatial",
    "data": "rank: 2, target: data",
    "data, as dense": "rank: 0.999, target: data",
    "weights held": "rank: 2, refresh: 3",
    "weights held, spatial": "rank: 2, refresh: 3, scheme: spatial",
}


@pytest.mark.parametrize("low_rank", LOW_RANKS.values(), ids=LOW_RANKS)
@pytest.mark.parametrize(("shape", "settings"), CONVOLUTIONS)
def test_low_rank_convolution_backward_is_the_derivative_of_forward(shape, settings, low_rank):
    filler = "weight_filler: {type: gaussian, std: 0.5}"
    layer = f"type: Convolution, convolution_param: {{{settings}, {filler}}}, low_rank_param: {{{low_rank}}}"
    check_gradients(layer, [shape], phase="test")


@pytest.mark.parametrize("low_rank", [text for name, text in LOW_RANKS.items() if "spatial" not in name])
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 3, 2, 2), "num_output: 5"),
        ((1, 7), "num_output: 4, bias_term: false"),
        ((2, 3, 4), "num_output: 5, axis: 2"),
    ],
)
def test_low_rank_inner_product_backward_is_the_derivative_of_forward(shape, settings, low_rank):
    layer = (
        f"type: InnerProduct, inner_product_param: {{{settings}, weight_filler: {{type: xavier}}}}, "
        f"low_rank_param: {{{low_rank}}}"
    )
    check_gradients(layer, [shape], phase="test")


@pytest.mark.parametrize("low_rank", ["rank: 2", "rank: 2, target: data"])
def test_transposed_low_rank_inner_product_backward_is_the_derivative_of_forward(low_rank):
    layer = (
        "type: InnerProduct, inner_product_param: {num_output: 4, transpose: true, weight_filler: {type: xavier}}"
        f", low_rank_param: {{{low_rank}}}"
    )
    check_gradients(layer, [(3, 5)], phase="test")


def test_weights_of_two_bottoms_share_the_factors_and_add_their_gradients():
    layer = (
        "type: Convolution, top: [a, b], convolution_param: {num_output: 4, kernel_size: 2, "
        "weight_filler: {type: xavier}}, low_rank_param: {rank: 2}"
    )
    check_gradients(layer, [(2, 2, 4, 3), (1, 2, 3, 3)])


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_weights_of_zeros_learn_at_full_rank_as_dense_ones_do(scheme, rng):
    rank = {"channel": 6, "spatial": 9}[scheme]
    texts = [
        layer_net(
            f"type: Convolution, convolution_param: {{num_output: 6, kernel_size: 3}}{more}", [(2, 3, 5, 4)]
        )
        for more in ("", f", low_rank_param: {{rank: {rank}, scheme: {scheme}}}")
    ]
    dense, low = (mc.Net(parse_net(text), phase="train", dtype="float64") for text in texts)
    x, dy = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 6, 3, 2))
    for net in (dense, low):
        net.forward(x0=x)
        net.backward(L=dy)
    np.testing.assert_allclose(low.params["L"][0].diff, dense.params["L"][0].diff, rtol=1e-12, atol=1e-12)
