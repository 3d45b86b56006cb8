"""Gradients of the layers that are matrix products, and of pooling, softmax and its loss."""

import numpy as np
import pytest

from minicaffe.testing import check_gradients

CONVOLUTIONS = [
    ((2, 3, 5, 4), "num_output: 4, kernel_size: 3"),
    ((1, 2, 5, 7), "num_output: 2, kernel_h: 1, kernel_w: 3, stride_h: 2, stride_w: 1, pad_h: 0, pad_w: 1"),
    ((2, 4, 5, 5), "num_output: 6, kernel_size: 3, group: 2, pad: 1"),
    ((2, 4, 5, 5), "num_output: 4, kernel_size: 3, group: 4, stride: 2"),
    ((2, 2, 7, 6), "num_output: 3, kernel_size: 3, dilation: 2, pad: 2"),
    ((1, 2, 2, 3), "num_output: 3, kernel_size: 5, pad: 2"),
    ((3, 2, 4, 4), "num_output: 3, kernel_size: 1"),
    ((3, 2, 5, 4), "num_output: 3, kernel_size: 1, stride: 2, bias_term: false"),
    ((2, 5, 4, 4), "num_output: 2, kernel_size: 2, stride: 3"),
    ((2, 1, 4, 4), "num_output: 5, kernel_size: 3, pad: 2"),
    ((2, 3, 8), "num_output: 2, kernel_size: 3, pad: 1, stride: 2"),
]


@pytest.mark.parametrize(("shape", "settings"), CONVOLUTIONS)
def test_convolution_backward_is_the_derivative_of_forward(shape, settings):
    layer = f"type: Convolution, convolution_param: {{{settings}, weight_filler: {{type: xavier}}}}"
    check_gradients(layer, [shape])


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 3, 4, 5), "num_output: 4"),
        ((1, 7), "num_output: 3, bias_term: false"),
        ((2, 3, 4), "num_output: 5, transpose: true"),
        ((2, 3, 4, 2), "num_output: 3, axis: 2"),
        ((2, 3, 4), "num_output: 3, axis: -1, transpose: true"),
    ],
)
def test_inner_product_backward_is_the_derivative_of_forward(shape, settings):
    layer = f"type: InnerProduct, inner_product_param: {{{settings}, weight_filler: {{type: xavier}}}}"
    check_gradients(layer, [shape])


@pytest.mark.parametrize("pool", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 3, 5, 4), "kernel_size: 2, stride: 2"),
        ((1, 2, 7, 6), "kernel_size: 3, stride: 2, pad: 1"),
        ((2, 2, 5, 5), "kernel_size: 3, stride: 1, pad: 1"),
        ((2, 1, 4, 7), "kernel_h: 2, kernel_w: 3, stride_h: 1, stride_w: 2"),
        ((1, 2, 5, 5), "kernel_size: 2, stride: 3"),
        ((2, 3, 4, 3), "global_pooling: true"),
    ],
)
def test_pooling_backward_is_the_derivative_of_forward(pool, shape, settings, rng):
    x = np.abs(rng.permutation(np.prod(shape)).reshape(shape) / 10 + 0.05)
    layer = f"type: Pooling, pooling_param: {{pool: {pool}, {settings}}}"
    check_gradients(layer, [x])


@pytest.mark.parametrize("settings", ["relu_param: {negative_slope: 0.1}", "relu_param: {}"])
def test_relu_backward_is_the_derivative_of_forward(settings, rng):
    x = rng.permutation(np.arange(-12, 12)).reshape(2, 3, 4) + 0.5
    check_gradients(f"type: ReLU, {settings}", [x])


@pytest.mark.parametrize(("shape", "axis"), [((3, 5), 1), ((2, 4, 3, 2), 1), ((2, 3, 4), -1), ((3, 4), 0)])
def test_softmax_backward_is_the_derivative_of_forward(shape, axis):
    layer = f"type: Softmax, softmax_param: {{axis: {axis}}}"
    check_gradients(layer, [shape])


@pytest.mark.parametrize("mode", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", ["", ", ignore_label: 1"])
@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [((4, 3), (4,), 1), ((2, 3, 2, 2), (2, 1, 2, 2), 1), ((2, 2, 4), (2, 2), 2)],
)
def test_softmax_loss_backward_is_the_derivative_of_forward(mode, ignore, shape, labels, axis, rng):
    layer = (
        f"type: SoftmaxWithLoss, loss_weight: 0.7, softmax_param: {{axis: {axis}}}, "
        f"loss_param: {{normalization: {mode}{ignore}}}"
    )
    y = rng.integers(0, shape[axis], labels)
    y.flat[0], y.flat[1] = 0, 1
    check_gradients(layer, [shape, y])


def test_a_blob_that_feeds_two_layers_gets_the_sum_of_their_gradients():
    net = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: a, type: InnerProduct, bottom: x, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
- {name: b, type: InnerProduct, bottom: x, inner_product_param: {num_output: 4, weight_filler: {type: xavier}}}
"""
    check_gradients(net, [(2, 3)])


def test_shared_parameters_get_the_sum_of_their_gradients():
    net = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: a, type: InnerProduct, bottom: x, param: {name: w},
   inner_product_param: {num_output: 3, bias_term: false, weight_filler: {type: xavier}}}
- {name: b, type: InnerProduct, bottom: a, param: {name: w},
   inner_product_param: {num_output: 3, bias_term: false, weight_filler: {type: xavier}}}
"""
    check_gradients(net, [(2, 3)])
