"""Layers that pick, turn, unfold or make blobs: Embed, BatchReindex, Filter, Parameter, Reverse, Im2col, SPP."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.convolution.reference import im2col
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

EMBED = "type: Embed, embed_param: {num_output: 3, input_dim: 4, weight_filler: {type: xavier}"


@pytest.mark.parametrize("bias", ["", ", bias_term: false"])
@pytest.mark.parametrize("index", [[[0, 3, 1], [2, 1, 1]], [1, 0, 3, 2], [[[0]], [[2]], [[1]]]])
def test_embed_backward_is_the_derivative_of_forward(bias, index):
    check_gradients(EMBED + bias + "}", [np.array(index)])


def test_embed_is_the_inner_product_of_one_hot_vectors(rng):
    index = rng.integers(0, 4, (5, 2))
    embed = net_of(EMBED + "}", index.shape)
    product = net_of("type: InnerProduct, inner_product_param: {num_output: 3, axis: 2}", (5, 2, 4))
    embed.params["L"][1].data[...] = product.params["L"][1].data[...] = rng.standard_normal(3)
    product.params["L"][0].data[...] = embed.params["L"][0].data.T
    expected = product.forward(x0=np.eye(4)[index])["L"]
    np.testing.assert_allclose(embed.forward(x0=index)["L"], expected, rtol=1e-6)


def test_frozen_embed_weights_get_no_gradient():
    net = net_of(EMBED + "}, param: [{lr_mult: 0}, {lr_mult: 1}]", (2, 3))
    net.forward(x0=np.ones((2, 3)))
    net.backward(L=np.ones((2, 3, 3)))
    assert not net.params["L"][0].has_diff and (net.params["L"][1].diff == 6).all()


INDICES = [[0, 2, 2, 1, 0], [2], [1, 1, 1]]


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("shape", [(3, 2, 2), (3,), (3, 4), (3, 2, 1, 3)])
def test_batch_reindex_backward_is_the_derivative_of_forward(index, shape):
    check_gradients("type: BatchReindex", [shape, np.array(index)])


def test_batch_reindex_gives_images_in_the_order_of_the_numbers(rng):
    x = rng.standard_normal((4, 3, 2)).astype(np.float32)
    net = net_of("type: BatchReindex", x.shape, (6,))
    np.testing.assert_array_equal(net.forward(x0=x, x1=[3, 0, 0, 2, 1, 3])["L"], x[[3, 0, 0, 2, 1, 3]])


def test_filter_backward_is_the_derivative_of_forward():
    selector = np.array([0, -2, 1, 0]).reshape(4, 1, 1)
    check_gradients("type: Filter, top: [a, b]", [(4, 2, 2), (4, 3), selector])


@pytest.mark.parametrize("selector", [[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_filter_gives_the_selected_images_to_layers_that_follow(selector, rng):
    text = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [4, 2]}}}
- {name: s, type: Input, input_param: {shape: {dim: [4]}}}
- {name: f, type: Filter, bottom: [x, s]}
- {name: r, type: ReLU, bottom: f}
"""
    net, x = mc.Net(parse_net(text)), rng.standard_normal((4, 2)).astype(np.float32)
    assert net.blobs["f"].shape == (4, 2)
    out = net.forward(x=x, s=selector)["r"]
    np.testing.assert_array_equal(out, np.maximum(x[np.array(selector) > 0], 0))
    np.testing.assert_array_equal(net.forward(x=x, s=[1, 0, 0, 0])["r"], np.maximum(x[:1], 0))


def test_parameter_is_learned_and_can_be_shared():
    text = """
layer:
- {name: a, type: Parameter, param: {name: w}, parameter_param: {shape: {dim: [2, 3]}}}
- {name: b, type: Parameter, param: {name: w}, parameter_param: {shape: {dim: [2, 3]}}}
- {name: p, type: Eltwise, bottom: [a, b], eltwise_param: {operation: PROD}}
"""
    net = check_gradients(text, [])
    assert [blob.shape for blob in net.params["a"]] == [(2, 3)] and len(net.learnable) == 1
    assert not mc.Net(parse_net(text)).params["a"][0].data.any()


@pytest.mark.parametrize(("shape", "axis"), [((4, 2, 3), 0), ((2, 3, 2), 1), ((2, 1, 3, 2), -1), ((5,), 0)])
def test_reverse_turns_an_axis_round_and_its_gradient_back(shape, axis, rng):
    layer = f"type: Reverse, reverse_param: {{axis: {axis}}}"
    check_gradients(layer, [shape])
    x = rng.standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(net_of(layer, shape).forward(x0=x)["L"], np.flip(x, axis))


UNFOLDED = [
    ((2, 3, 5, 4), "kernel_size: 3"),
    ((2, 2, 6, 5), "kernel_size: 3, pad: 1, stride: 2"),
    ((1, 2, 7, 8), "kernel_h: 2, kernel_w: 3, pad_h: 0, pad_w: 2, stride_h: 3, stride_w: 1"),
    ((2, 2, 7, 6), "kernel_size: 2, dilation: 3"),
    ((2, 3, 7), "kernel_size: 3, stride: 2, pad: 1"),
    ((1, 2, 3, 4, 3), "kernel_size: [2, 1, 3]"),
    ((1, 1, 3, 2, 3, 2), "kernel_size: 2"),
    ((2, 2, 2, 4, 3), "kernel_size: 2, axis: 2"),
    ((3, 5, 4), "kernel_size: 2, axis: 0"),
    ((3, 5), "kernel_size: 3, axis: 0, dilation: 2"),
]


@pytest.mark.parametrize(("shape", "settings"), UNFOLDED)
def test_im2col_backward_is_the_derivative_of_forward(shape, settings):
    layer = f"type: Im2col, convolution_param: {{{settings}}}"
    check_gradients(layer, [shape])


def test_im2col_is_the_data_matrix_of_a_convolution(rng):
    x = rng.standard_normal((2, 3, 6, 5))
    net = net_of("type: Im2col, convolution_param: {kernel_size: 3, stride: 2, pad: 1}", x.shape)
    got = np.array(net.forward(x0=x)["L"])
    expected = im2col(np.moveaxis(x, 0, -1), Window((3, 3), (2, 2), (1, 1)))
    np.testing.assert_allclose(np.moveaxis(got, 0, -1).reshape(expected.shape), expected, rtol=1e-6)


POOLED = [((1, 2, 8, 6), 3), ((1, 3, 5, 4), 2), ((1, 1, 7, 6), 3), ((2, 3, 4, 5), 1), ((1, 1, 8, 8), 4)]


SAMPLED = pytest.param("STOCHASTIC", marks=pytest.mark.cpu_only("a GPU's random numbers cannot be set back"))


@pytest.mark.parametrize("pool", ["MAX", "AVE", SAMPLED])
@pytest.mark.parametrize(("shape", "levels"), POOLED)
def test_spp_backward_is_the_derivative_of_forward(pool, shape, levels, distinct):
    layer = f"type: SPP, spp_param: {{pool: {pool}, pyramid_height: {levels}}}"
    check_gradients(layer, [np.abs(distinct(*shape)) + 0.05])


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (13, 10), (16, 31)])
def test_spp_gives_as_many_outputs_for_images_of_any_size(size, rng):
    net = net_of("type: SPP, spp_param: {pyramid_height: 3}", (2, 5, 12, 12), phase="test")
    x = rng.standard_normal((2, 5, *size))
    net.blobs["x0"].reshape(*x.shape)
    out = net.forward(x0=x)["L"]
    assert out.shape == (2, 5 * (1 + 4 + 16))
    np.testing.assert_array_equal(out[:, :5], x.astype(np.float32).max(axis=(2, 3)))


def test_stochastic_spp_has_no_gradient_in_the_test_phase(rng):
    net = net_of("type: SPP, spp_param: {pyramid_height: 2, pool: STOCHASTIC}", (1, 2, 4, 4), phase="test")
    net.forward(x0=rng.random((1, 2, 4, 4)))
    with pytest.raises(mc.TrainingError, match="STOCHASTIC pooling has no gradient in the test phase"):
        net.backward(L=np.ones((1, 10)))


WRONG = [
    ("type: Embed, embed_param: {num_output: 3}", [(2,)], "input_dim: required"),
    ("type: BatchReindex", [(3, 2), (2, 1)], "one index for each image wanted"),
    ("type: Filter, top: [a, b]", [(3, 2), (3,)], "2 tops for 1 bottoms and a selector"),
    ("type: Filter", [(3, 2), (3, 2)], r"selector 'x1' has shape \(3, 2\); expected \(N,\)"),
    ("type: Filter", [(3, 2), (4,)], "expected one batch size"),
    ("type: Parameter, bottom: []", [(1,)], "shape: required"),
    ("type: Reverse, reverse_param: {axis: 2}", [(3, 2)], "axis 2 is out of range"),
    ("type: Im2col, convolution_param: {kernel_size: 3}", [(2, 3)], "no axes after the channels"),
    ("type: Im2col, convolution_param: {kernel_size: 3}", [(1, 1, 2, 5)], "does not fit"),
    ("type: Im2col, convolution_param: {stride: 3}", [(1, 1, 2, 5)], "kernel_size: required"),
    ("type: SPP, spp_param: {pyramid_height: 3}", [(1, 1, 3, 8)], "too small for 4 bins each way"),
    ("type: SPP, spp_param: {pyramid_height: 2}", [(2, 3)], "expected 4 axes"),
    ("type: SPP", [(1, 1, 3, 8)], "pyramid_height: required"),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


@pytest.mark.cpu_only("a GPU would have to wait for it")
@pytest.mark.parametrize(
    ("layer", "inputs", "problem"),
    [
        (EMBED + "}", [[0, 4]], "numbers from 0 to 4, but input_dim is 4; they must be 0 to 3"),
        (EMBED + "}", [[-1, 2]], "numbers from -1 to 2"),
        ("type: BatchReindex", [[7, 8, 9], [0, 3]], "numbers from 0 to 3, but images is 3"),
    ],
)
def test_a_number_out_of_range_is_an_error_at_the_layer(layer, inputs, problem):
    net = net_of(layer, *map(np.shape, inputs))
    with pytest.raises(mc.DataError, match=f"layer 'L'.*{problem}"):
        net.forward(**{f"x{i}": value for i, value in enumerate(inputs)})
