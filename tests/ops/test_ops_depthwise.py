"""Depthwise convolution is the grouped convolution that it stands for, whatever parts it is cut into."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops import epilogue
from minicaffe.ops.convolution import depthwise
from minicaffe.ops.convolution.channels_last import ChannelsLastConvolution
from minicaffe.ops.convolution.depthwise import DepthwiseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.products import products_for
from minicaffe.ops.convolution.reference import PlainConvolution
from minicaffe.ops.epilogue import Affine, Epilogue, Function
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net

pytestmark = pytest.mark.cpu_only("the parts are of the CPU; test_cuda_kernels.py has the kernels")


WINDOWS = [
    Window((3, 3), (1, 1), (1, 1)),
    Window((3, 3), (2, 2), (1, 1)),
    Window((3, 3), (1, 1), (0, 0)),
    Window((1, 1)),
    Window((1, 2), (2, 3), (0, 1)),
    Window((2, 3), (3, 1), (1, 0), (2, 2)),
    Window((3, 2), (1, 1), (4, 0)),  # more padding than the kernel covers
    Window((5, 5), (2, 1), (2, 2), (1, 2)),
    Window((5, 4), (3, 2), (2, 3), (2, 1)),  # every third row, for every second kernel row
    Window((2, 2), (4, 4), (0, 0)),  # steps over pixels
]


def pair(shape, filters, window, dtype=np.float64, kind=DepthwiseConvolution):
    """The plain convolution in groups, and the depthwise one."""
    geometry = Geometry(shape, filters, window, shape[0])
    return PlainConvolution(geometry), kind(geometry, dtype)


KINDS = pytest.mark.parametrize("kind", [DepthwiseConvolution, ChannelsLastConvolution])


@KINDS
@pytest.mark.parametrize("block_bytes", [1, 1 << 10, 1 << 20])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("shape", [(5, 9, 8, 2), (1, 11, 13, 1), (4, 9, 9, 0)])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_all_three_products_are_those_of_the_grouped_convolution(
    window, shape, multiplier, block_bytes, kind, monkeypatch, rng
):
    monkeypatch.setattr(depthwise, "BLOCK_BYTES", block_bytes)
    filters = shape[0] * multiplier
    grouped, direct = pair(shape, filters, window, kind=kind)
    x, w, b = (
        rng.standard_normal(shape),
        rng.standard_normal((filters, 1, *window.kernel)),
        rng.random(filters),
    )
    dy = rng.standard_normal((filters, *grouped.geometry.output, shape[3]))
    results = []
    for product in (grouped, direct):
        y, dw, db, dx = np.empty(dy.shape), np.empty(w.shape), np.empty(filters), np.empty(shape)
        padded = product.forward(x, w, y, b)
        product.weight_grad(dy, padded, dw, db)
        product.input_grad(dy, w, dx)
        results.append([y, dw, db, dx])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@KINDS
@pytest.mark.parametrize("multiplier", [1, 3])
def test_an_epilogue_finds_the_outputs_of_its_channels(multiplier, kind, monkeypatch, rng):
    monkeypatch.setattr(depthwise, "WORTH_SHARING", 0)
    monkeypatch.setattr(epilogue, "WORTH_SHARING", 0)
    monkeypatch.setattr(depthwise.workers, "worker_count", 2)
    shape, window, filters = (5, 9, 8, 2), Window((3, 3), (2, 1), (1, 1)), 5 * multiplier
    grouped, direct = pair(shape, filters, window, kind=kind)
    x, w, b = rng.standard_normal(shape), rng.standard_normal((filters, 1, 3, 3)), rng.random(filters)
    scale, shift = rng.standard_normal((2, filters))
    maps = Epilogue([Affine(scale, shift), Function(lambda y: np.maximum(y, 0, out=y))])
    expected, y = np.empty((2, *grouped.geometry.output_shape))
    grouped.forward(x, w, expected, b)
    maps.apply(expected)
    direct.forward(x, w, y, b, maps)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-10)


@KINDS
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_an_empty_batch_is_convolved_to_an_empty_one(window, kind, rng):
    product = kind(Geometry((4, 9, 9, 0), 8, window, 4), np.float64)
    x, w = np.empty((4, 9, 9, 0)), rng.standard_normal((8, 1, *window.kernel))
    y, dw = np.empty(product.geometry.output_shape), np.empty_like(w)
    product.weight_grad(y, product.forward(x, w, y), dw)
    product.input_grad(y, w, x)
    assert not dw.any()


@KINDS
@pytest.mark.parametrize("stride", [1, 2])
def test_several_workers_give_the_same_numbers(stride, kind, monkeypatch, rng):
    monkeypatch.setattr(depthwise.workers, "worker_count", 3)
    shape, window = (7, 90, 80, 24), Window((3, 3), (stride, stride), (1, 1))
    grouped, direct = pair(shape, 7, window, np.float32, kind)
    assert direct.workers == 3
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal((7, 1, 3, 3), np.float32)
    dy = rng.standard_normal((7, *grouped.geometry.output, 24), np.float32)
    for product in (grouped, direct):
        y, dw, dx = np.empty_like(dy), np.empty_like(w), np.empty_like(x)
        product.weight_grad(dy, product.forward(x, w, y), dw)
        product.input_grad(dy, w, dx)
        if product is grouped:
            expected = y, dw, dx
    for a, b in zip((y, dw, dx), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize(
    ("channels", "group", "window", "is_depthwise"),
    [
        (4, 4, Window((3, 3)), True),
        (4, 4, Window((3, 3), (2, 2)), True),
        (4, 2, Window((3, 3)), False),
        (1, 1, Window((3, 3)), False),
        (4, 4, Window((1, 1)), False),
        (4, 4, Window((8, 8), (4, 4)), False),
    ],
)
def test_only_small_steps_of_small_kernels_go_without_a_data_matrix(channels, group, window, is_depthwise):
    product = products_for(Geometry((channels, 9, 9, 2), 8, window, group), np.float32)
    assert isinstance(product, DepthwiseConvolution) == is_depthwise


@pytest.mark.parametrize(
    ("shape", "kind"), [((64, 14, 14, 1), ChannelsLastConvolution), ((64, 56, 56, 1), DepthwiseConvolution)]
)
def test_few_pixels_are_convolved_with_the_channels_last(shape, kind):
    product = products_for(Geometry(shape, 64, Window((3, 3), (1, 1), (1, 1)), 64), np.float32)
    assert type(product) is type(product.turned) is kind


@pytest.mark.parametrize("shape", [(2, 4, 7, 6), (2, 4, 9), (1, 4, 4, 4, 3)])
@pytest.mark.parametrize("layer_type", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_the_layer_is_a_convolution_with_a_group_for_each_channel(layer_type, shape, rng):
    param = "num_output: 8, kernel_size: 3, pad: 1, weight_filler: {type: xavier}"
    direct = mc.Net(
        parse_net(layer_net(f"type: {layer_type}, convolution_param: {{{param}}}", [shape])), seed=3
    )
    grouped = mc.Net(
        parse_net(layer_net(f"type: Convolution, convolution_param: {{group: 4, {param}}}", [shape])), seed=3
    )
    x = rng.standard_normal(shape)
    assert direct.params["L"][0].shape == grouped.params["L"][0].shape
    np.testing.assert_allclose(direct.forward(x0=x)["L"], grouped.forward(x0=x)["L"], rtol=1e-5, atol=1e-6)
    assert direct.steps[-1].multiply_adds == grouped.steps[-1].multiply_adds
