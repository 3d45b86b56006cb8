"""Winograd's convolution equals the plain one, of any shape and cut; how exact it is; and when it is used."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device import workers
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.ops import engine
from minicaffe.ops.convolution import winograd, winograd_rows
from minicaffe.ops.convolution.dense import SLOT_OF_PADDED, DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.in_order import InOrderConvolution
from minicaffe.ops.convolution.products import products_for
from minicaffe.ops.convolution.reference import PlainConvolution
from minicaffe.ops.convolution.winograd import TransformedFilters, WinogradConvolution, matrices
from minicaffe.ops.convolution.winograd_rows import RowWinogradConvolution
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


@pytest.mark.parametrize(("points", "taps"), [(winograd.POINTS, 3), (winograd_rows.POINTS, 5)])
def test_the_matrices_take_a_product_for_each_pixel_of_a_tile(rng, points, taps):
    at, g, bt = matrices(points, taps)
    d, w = rng.standard_normal(taps + 3), rng.standard_normal(taps)
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


ROW_SHAPES = [  # of x, filters, window, padding, groups
    ((3, 7, 9, 2), 5, (5, 5), (2, 2), 1),
    ((4, 8, 8, 9), 6, (5, 5), (0, 0), 2),
    ((2, 7, 8, 3), 4, (1, 5), (0, 1), 2),
    ((3, 5, 5, 1), 3, (3, 5), (1, 4), 1),
    ((2, 6, 14, 3), 4, (7, 5), (3, 3), 2),
    ((3, 4, 6, 4), 2, (2, 5), (0, 6), 1),
]


@pytest.mark.parametrize("is_faster", [True, False], ids=["own dw and dx", "direct dw and dx"])
@pytest.mark.parametrize("block_bytes", [1, 5000, 32 << 20])
@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize(("shape", "filters", "kernel", "pad", "group"), ROW_SHAPES)
def test_tiles_of_rows_give_what_the_whole_data_matrix_gives(
    monkeypatch, rng, shape, filters, kernel, pad, group, worker_count, block_bytes, is_faster
):
    monkeypatch.setattr(winograd_rows, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(winograd_rows, "PART_BYTES", min(block_bytes, 1 << 20))
    monkeypatch.setattr(workers, "worker_count", worker_count)
    monkeypatch.setattr(winograd_rows, "is_faster", lambda geometry, costs=None: is_faster)
    geometry = Geometry(shape, filters, Window(kernel, pad=pad), group)
    assert_is_the_plain_convolution(rng, RowWinogradConvolution(geometry, np.float64))


@pytest.mark.parametrize("depth", [16, 256])
@pytest.mark.parametrize(
    ("kind", "size", "most"), [(WinogradConvolution, 3, 5e-6), (RowWinogradConvolution, 5, 3e-6)]
)
def test_in_float32_an_error_is_at_most_2e_5_of_the_largest_value(monkeypatch, rng, depth, kind, size, most):
    """``most``: what the points gain; for windows of 3 × 3 it is 8e-6 with 0, 1, -1, 2, -2."""
    for module in (winograd, winograd_rows):
        monkeypatch.setattr(module, "is_faster", lambda geometry, costs=None: True)
    geometry = Geometry((depth, 14, 14, 2), depth, Window((size, size), pad=(size // 2, size // 2)))
    shapes = geometry.shape, geometry.weight_shape, (depth,), geometry.output_shape
    arrays = [rng.standard_normal(shape) for shape in shapes]
    arrays[0] = arrays[0].clip(0)  # as after a ReLU
    exact = products(PlainConvolution(geometry), *arrays)
    found = products(kind(geometry, np.float32), *[a.astype(np.float32) for a in arrays])
    errors = [np.abs(f - e).max() / np.abs(e).max() for f, e in zip(found, exact, strict=True)]
    assert max(errors) < most < 2e-5


@pytest.mark.parametrize(("kind", "size"), [(WinogradConvolution, 3), (RowWinogradConvolution, 5)])
def test_weights_that_are_changed_in_place_are_transformed_anew(rng, kind, size):
    geometry = Geometry((3, 6, 6, 2), 4, Window((size, size), pad=(size // 2, size // 2)))
    convolution, plain = kind(geometry, np.float64), PlainConvolution(geometry)
    x, w = rng.standard_normal(geometry.shape), rng.standard_normal(geometry.weight_shape)
    y, expected = np.empty(geometry.output_shape), np.empty(geometry.output_shape)
    for place in (None, (0, 0, 0, 0), (-1, -1, -1, -1), None):
        if place is not None:
            w[place] += 1
        convolution.forward(x, w, y)
        plain.forward(x, w, expected)
        np.testing.assert_allclose(y, expected, atol=1e-12)


def test_weights_that_have_not_changed_are_not_transformed_again(rng):
    transforms, w = [], rng.standard_normal((3, 2))
    filters = TransformedFilters((1,), lambda w, u: transforms.append(w.copy()))
    for change, expected in ((0, 2), (0, 3), (0, 3), (1, 4), (0, 4)):  # the third time it is kept
        w[-1, -1] += change
        filters.of(w)
        filters.of(w.copy())
        assert len(transforms) == expected


def test_what_is_made_of_weights_that_change_from_call_to_call_takes_shared_memory(rng):
    w, kinds = (
        rng.standard_normal(4),
        [TransformedFilters((2, 4), lambda w, u: u.__setitem__(..., w)) for _ in "ab"],
    )
    for _ in range(3):
        w += 1
        first, second = kinds[0].of(w), kinds[1].of(w)
        assert (second == w).all()
    assert np.shares_memory(first, second)
    for _ in range(2):
        first, second = kinds[0].of(w), kinds[1].of(w)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("kind", [DenseConvolution, WinogradConvolution, RowWinogradConvolution])
def test_gradients_of_layers_are_padded_in_shared_memory(kind, rng):
    size = 5 if kind is RowWinogradConvolution else 3
    window = Window((size, size), pad=(1, 1))
    for shape in ((16, 9, 7, 3), (20, 6, 11, 2), (16, 9, 7, 3)):
        geometry = Geometry(shape, 18, window)
        convolution, plain = kind(geometry, np.float64), PlainConvolution(geometry)
        dy, w = rng.standard_normal(geometry.output_shape), rng.standard_normal(geometry.weight_shape)
        dx, expected = np.full(shape, np.nan), np.empty(shape)
        convolution.input_grad(dy, w, dx)
        plain.input_grad(dy, w, expected)
        np.testing.assert_allclose(dx, expected, atol=1e-11)
        turned = convolution.turned
        assert turned is None or turned._padded is None
        scratch = workers.scratch(dy, (1000,), SLOT_OF_PADDED)
        scratch.fill(np.nan)


def test_dx_is_not_a_convolution_with_turned_filters_where_the_image_is_much_larger_than_the_output():
    window = Window((5, 5))
    assert RowWinogradConvolution(Geometry((20, 12, 12, 64), 50, window), np.float32).turned is None
    assert RowWinogradConvolution(Geometry((20, 24, 24, 64), 50, window), np.float32).turned is not None


# -- which engine ----------------------------------------------------------------------------------------

SEVERAL_CHANNELS = Geometry((128, 28, 28, 8), 128, Window((3, 3), pad=(1, 1)))
DIRECT, TILES, ROWS = DenseConvolution, WinogradConvolution, RowWinogradConvolution
CHOICES = {  # C, H = W, N, M, kernel: what is the fastest?
    (256, 56, 1, 256, 3): TILES, (128, 28, 8, 128, 3): TILES, (256, 8, 100, 256, 3): TILES,
    (512, 28, 1, 512, 3): TILES, (128, 28, 8, 128, 5): ROWS, (32, 16, 100, 32, 5): ROWS, (96, 28, 8, 128, 5): ROWS,
    (64, 8, 100, 32, 5): ROWS, (3, 32, 100, 64, 3): DIRECT, (16, 32, 64, 16, 3): DIRECT,
    (512, 7, 1, 512, 3): DIRECT, (64, 14, 1, 64, 3): DIRECT, (3, 32, 100, 32, 5): DIRECT,
    (16, 28, 1, 32, 5): DIRECT, (32, 14, 1, 64, 5): DIRECT, (256, 56, 1, 256, 1): DIRECT,
}  # fmt: skip


@pytest.mark.parametrize("shape", CHOICES, ids=str)
def test_the_default_is_what_was_measured_to_be_faster(shape):
    channels, size, batch, filters, kernel = shape
    window = Window((kernel, kernel), pad=(kernel // 2, kernel // 2))
    found = products_for(Geometry((channels, size, size, batch), filters, window), np.float32)
    assert type(found) is CHOICES[shape]


def test_a_layer_is_computed_by_the_engine_of_its_spec_and_a_run_by_its_own(monkeypatch):
    def kind(name):
        return type(products_for(SEVERAL_CHANNELS, np.float32, engine=name))

    assert [kind(name) for name in ("DEFAULT", "CUDNN", "CAFFE", "WINOGRAD")] == [
        WinogradConvolution, WinogradConvolution, InOrderConvolution, WinogradConvolution,
    ]  # fmt: skip
    engine.set_engine("caffe")
    assert {kind(name) for name in ("DEFAULT", "CAFFE", "WINOGRAD")} == {InOrderConvolution}
    engine.set_engine("winograd")
    assert {kind(name) for name in ("DEFAULT", "CAFFE", "WINOGRAD")} == {WinogradConvolution}
    monkeypatch.setattr(engine, "_chosen", None)
    monkeypatch.setenv("MINICAFFE_ENGINE", "caffe")
    assert kind("DEFAULT") is InOrderConvolution


def test_an_engine_that_does_not_exist_is_one_line(monkeypatch):
    with pytest.raises(MinicaffeError, match=r"^engine 'fft': must be default, caffe or winograd$"):
        engine.set_engine("fft")
    monkeypatch.setattr(engine, "_chosen", None)
    monkeypatch.setenv("MINICAFFE_ENGINE", "fft")
    with pytest.raises(MinicaffeError, match=r"^environment variable MINICAFFE_ENGINE: engine 'fft': must"):
        engine.engine_of_run()


@pytest.mark.parametrize(
    "window", ["kernel_size: 7", "kernel_size: 3, stride: 2", "kernel_size: 3, dilation: 2"]
)
def test_a_layer_of_another_window_cannot_ask_for_winograd(window):
    text = (
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 2, 9, 9]}}}\n- {name: conv, type: "
        f"Convolution, convolution_param: {{num_output: 2, engine: WINOGRAD, {window}}}}}\n"
    )
    with pytest.raises(
        SpecError, match="engine: WINOGRAD is for windows of 3 × 3, or 5 wide, with stride and dilation 1"
    ):
        mc.Net.from_text(text)
