"""Winograd's convolution equals the plain one, of any shape and cut; how exact it is; and when it is used."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device import workers
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.ops.convolution import engine, winograd
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.products import products_for
from minicaffe.ops.convolution.reference import PlainConvolution
from minicaffe.ops.convolution.winograd import WinogradConvolution, matrices
from tests.ops.test_ops_convolution import assert_is_the_plain_convolution, products

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

SHAPES = [  # of x, filters, padding, groups
    ((3, 7, 9, 2), 5, (1, 1), 1),
    ((4, 8, 8, 9), 6, (0, 0), 2),
    ((2, 5, 4, 1), 3, (2, 1), 1),
    ((8, 13, 6, 5), 8, (1, 1), 4),
    ((5, 12, 12, 16), 3, (1, 1), 1),
    ((3, 3, 3, 1), 2, (0, 0), 1),
    ((2, 4, 5, 3), 2, (3, 1), 1),
    ((6, 1, 1, 4), 6, (1, 1), 6),
]


@pytest.fixture(autouse=True)
def each_layer_chooses(monkeypatch):
    monkeypatch.setattr(engine, "_chosen", "DEFAULT")


def test_the_matrices_take_six_products_for_four_outputs_of_three_taps(rng):
    at, g, bt = matrices()
    d, w = rng.standard_normal(6), rng.standard_normal(3)
    np.testing.assert_allclose(at @ ((g @ w) * (bt @ d)), np.correlate(d, w, "valid"), atol=1e-13)


@pytest.mark.parametrize("weight_grad", [True, False], ids=["own dw", "direct dw"])
@pytest.mark.parametrize("block_bytes", [1, 5000, 32 << 20])
@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize(("shape", "filters", "pad", "group"), SHAPES)
def test_tiles_give_what_the_whole_data_matrix_gives(
    monkeypatch, rng, shape, filters, pad, group, worker_count, block_bytes, weight_grad
):
    monkeypatch.setattr(winograd, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(winograd, "PART_BYTES", min(block_bytes, 1 << 20))
    monkeypatch.setattr(workers, "worker_count", worker_count)
    monkeypatch.setattr(winograd, "is_weight_grad_faster", lambda geometry: weight_grad)
    geometry = Geometry(shape, filters, Window((3, 3), pad=pad), group)
    assert_is_the_plain_convolution(rng, WinogradConvolution(geometry, np.float64))


@pytest.mark.parametrize("depth", [16, 256])
def test_in_float32_an_error_is_at_most_2e_5_of_the_largest_value(monkeypatch, rng, depth):
    monkeypatch.setattr(winograd, "is_weight_grad_faster", lambda geometry: True)
    geometry = Geometry((depth, 14, 14, 2), depth, Window((3, 3), pad=(1, 1)))
    shapes = geometry.shape, geometry.weight_shape, (depth,), geometry.output_shape
    arrays = [rng.standard_normal(shape) for shape in shapes]
    arrays[0] = arrays[0].clip(0)  # as after a ReLU
    exact = products(PlainConvolution(geometry), *arrays)
    found = products(WinogradConvolution(geometry, np.float32), *[a.astype(np.float32) for a in arrays])
    errors = [np.abs(f - e).max() / np.abs(e).max() for f, e in zip(found, exact, strict=True)]
    assert max(errors) < 2e-5
    assert max(errors) < 5e-6  # what its points gain: with 0, 1, -1, 2, -2 it is 8e-6


def test_weights_that_are_changed_in_place_are_transformed_anew(rng):
    geometry = Geometry((3, 6, 6, 2), 4, Window((3, 3), pad=(1, 1)))
    convolution, plain = WinogradConvolution(geometry, np.float64), PlainConvolution(geometry)
    x, w = rng.standard_normal(geometry.shape), rng.standard_normal(geometry.weight_shape)
    y, expected = np.empty(geometry.output_shape), np.empty(geometry.output_shape)
    for place in (None, (0, 0, 0, 0), (-1, -1, -1, -1), None):
        if place is not None:
            w[place] += 1
        convolution.forward(x, w, y)
        plain.forward(x, w, expected)
        np.testing.assert_allclose(y, expected, atol=1e-12)
    before = convolution.transformed(w)
    assert convolution.transformed(w.copy()) is before


# -- which engine ----------------------------------------------------------------------------------------

SEVERAL_CHANNELS = Geometry((128, 28, 28, 8), 128, Window((3, 3), pad=(1, 1)))
CHOICES = {  # C, H = W, N, M, kernel: is Winograd's convolution faster?
    (256, 56, 1, 256, 3): True, (128, 28, 8, 128, 3): True, (256, 8, 100, 256, 3): True, (512, 28, 1, 512, 3): True,
    (3, 32, 100, 64, 3): False, (16, 32, 64, 16, 3): False, (512, 7, 1, 512, 3): False, (64, 14, 1, 64, 3): False,
    (128, 28, 8, 128, 5): False, (256, 56, 1, 256, 1): False,
}  # fmt: skip


@pytest.mark.parametrize("shape", CHOICES, ids=str)
def test_the_default_is_what_was_measured_to_be_faster(shape):
    channels, size, batch, filters, kernel = shape
    window = Window((kernel, kernel), pad=(kernel // 2, kernel // 2))
    found = products_for(Geometry((channels, size, size, batch), filters, window), np.float32)
    assert isinstance(found, WinogradConvolution) == CHOICES[shape]


def test_a_layer_is_computed_by_the_engine_of_its_spec_and_a_run_by_its_own(monkeypatch):
    def kind(name):
        return type(products_for(SEVERAL_CHANNELS, np.float32, engine=name))

    assert [kind(name) for name in ("DEFAULT", "CUDNN", "CAFFE", "WINOGRAD")] == [
        WinogradConvolution, WinogradConvolution, DenseConvolution, WinogradConvolution,
    ]  # fmt: skip
    engine.set_engine("caffe")
    assert {kind(name) for name in ("DEFAULT", "CAFFE", "WINOGRAD")} == {DenseConvolution}
    engine.set_engine("winograd")
    assert {kind(name) for name in ("DEFAULT", "CAFFE", "WINOGRAD")} == {WinogradConvolution}
    monkeypatch.setattr(engine, "_chosen", None)
    monkeypatch.setenv("MINICAFFE_ENGINE", "caffe")
    assert kind("DEFAULT") is DenseConvolution


def test_an_engine_that_does_not_exist_is_one_line(monkeypatch):
    with pytest.raises(MinicaffeError, match=r"^engine 'fft': must be default, caffe or winograd$"):
        engine.set_engine("fft")
    monkeypatch.setattr(engine, "_chosen", None)
    monkeypatch.setenv("MINICAFFE_ENGINE", "fft")
    with pytest.raises(MinicaffeError, match=r"^environment variable MINICAFFE_ENGINE: engine 'fft': must"):
        engine.engine_of_run()


@pytest.mark.parametrize(
    "window", ["kernel_size: 5", "kernel_size: 3, stride: 2", "kernel_size: 3, dilation: 2"]
)
def test_a_layer_of_another_window_cannot_ask_for_winograd(window):
    text = (
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 2, 9, 9]}}}\n- {name: conv, type: "
        f"Convolution, convolution_param: {{num_output: 2, engine: WINOGRAD, {window}}}}}\n"
    )
    with pytest.raises(
        SpecError, match="engine: WINOGRAD is for windows of 3 × 3 with stride and dilation 1"
    ):
        mc.Net.from_text(text)
