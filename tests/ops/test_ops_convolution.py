"""The blocked convolution equals the plain one, whatever the shape and however it is cut."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.ops import gemm
from minicaffe.ops.convolution import dense as convolution
from minicaffe.ops.convolution.blocks import cut_columns
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import PlainConvolution, col2im, im2col
from minicaffe.ops.convolution.volume import VolumeConvolution
from minicaffe.ops.epilogue import Affine, Epilogue, Function

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

SETTINGS = [
    ((3, 9, 8, 5), 4, Window((3, 3)), 1),
    ((4, 9, 8, 3), 6, Window((3, 2), pad=(1, 0)), 2),
    ((4, 7, 7, 2), 8, Window((3, 3), stride=(2, 1), pad=(1, 2)), 4),
    ((2, 11, 10, 1), 3, Window((3, 3), dilation=(2, 3), pad=(2, 0)), 1),
    ((5, 6, 6, 4), 3, Window((1, 1)), 1),
    ((4, 6, 6, 4), 2, Window((1, 1)), 2),
    ((2, 3, 3, 7), 2, Window((5, 5), pad=(2, 2)), 1),
    ((2, 8, 8, 3), 5, Window((2, 2), stride=(3, 3)), 1),
    ((1, 6, 6, 2), 9, Window((5, 5), pad=(4, 4)), 1),
]


def products(convolution, x, w, b, dy):
    """y, dw, db and dx; everything that is to be written holds NaN before."""
    y, dw, db, dx = (np.full_like(like, np.nan) for like in (dy, w, b, x))
    padded = convolution.forward(x, w, y, b)
    convolution.weight_grad(dy, padded, dw, db)
    convolution.input_grad(dy, w, dx)
    return y, dw, db, dx


def assert_is_the_plain_convolution(rng, convolution):
    """All its products are those of ``reference.py``."""
    geometry = convolution.geometry
    shapes = geometry.shape, geometry.weight_shape, (geometry.filters,), geometry.output_shape
    arrays = [rng.standard_normal(shape) for shape in shapes]
    expected = products(PlainConvolution(geometry), *arrays)
    for found, wanted in zip(products(convolution, *arrays), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-11)


@pytest.mark.parametrize("block_bytes", [1, 300, 5000, 1 << 20])
@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize("turn_filters", [0, 100])
@pytest.mark.parametrize(("shape", "filters", "window", "group"), SETTINGS)
def test_blocks_give_what_the_whole_data_matrix_gives(
    monkeypatch, block_bytes, worker_count, turn_filters, shape, filters, window, group, rng
):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "SCATTER_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "SMALL_COLUMNS", 0 if block_bytes < 1000 else 1000)
    monkeypatch.setattr(convolution, "SHORT_BLOCK", 1)
    if block_bytes < 1 << 20:
        monkeypatch.setattr(convolution, "SHORT_COLUMNS", 1)
        monkeypatch.setattr(convolution, "SMALL", 0)
    monkeypatch.setattr(gemm, "SMALL", 0)
    monkeypatch.setattr(convolution, "TURN_FILTERS", turn_filters)
    monkeypatch.setattr(convolution, "TURN_CHANNELS", 0)
    monkeypatch.setattr(convolution, "TURN_GROWTH", 100)
    monkeypatch.setattr(workers, "worker_count", worker_count)
    geometry = Geometry(shape, filters, window, group)
    assert_is_the_plain_convolution(rng, DenseConvolution(geometry, np.float64))


VOLUMES = [
    ((3, 5, 6, 4, 2), 4, Window((2, 3, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1)), 1),
    ((4, 7, 5, 6, 3), 6, Window((3, 2, 3), (2, 1, 2), (1, 0, 2), (1, 1, 1)), 2),
    ((2, 8, 5, 5, 1), 2, Window((3, 1, 2), (1, 2, 1), (2, 1, 0), (2, 3, 1)), 2),
    ((3, 2, 2, 2, 2), 5, Window((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)), 1),
]


@pytest.mark.parametrize("block_bytes", [300, 1 << 20])
@pytest.mark.parametrize("worker_count", [1, 2])
@pytest.mark.parametrize("finishes_parts", [True, False])
@pytest.mark.parametrize(("shape", "filters", "window", "group"), SETTINGS)
def test_an_epilogue_is_applied_once_to_every_output(
    monkeypatch, block_bytes, worker_count, finishes_parts, shape, filters, window, group, rng
):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "WORTH_WORKERS", 0 if finishes_parts else 1 << 30)
    monkeypatch.setattr(gemm, "SMALL", 0)
    monkeypatch.setattr(workers, "worker_count", worker_count)
    geometry = Geometry(shape, filters, window, group)
    x, w = rng.standard_normal(shape), rng.standard_normal(geometry.weight_shape)
    bias, scale, shift = rng.standard_normal((3, filters))
    epilogue = Epilogue([Affine(scale, shift), Function(lambda y: np.abs(y, out=y))])
    y, expected = np.full(geometry.output_shape, np.nan), np.empty(geometry.output_shape)
    DenseConvolution(geometry, np.float64).forward(x, w, y, bias, epilogue)
    PlainConvolution(geometry).forward(x, w, expected, bias)
    scale, shift = (numbers[:, None, None, None] for numbers in (scale, shift))
    np.testing.assert_allclose(y, abs(scale * expected + shift), atol=1e-11)


@pytest.mark.parametrize(("shape", "filters", "window", "group"), VOLUMES)
def test_volumes_are_convolved_as_the_whole_data_matrix_has_it(shape, filters, window, group, rng):
    geometry = Geometry(shape, filters, window, group)
    assert_is_the_plain_convolution(rng, VolumeConvolution(geometry, np.float64))


def test_the_reference_has_the_numbers_of_the_formula(rng):
    x, w = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((3, 2, 3, 2))
    geometry = Geometry(x.shape, 3, Window((3, 2), (2, 1), (1, 1), (1, 2)))
    y = np.full(geometry.output_shape, np.nan)
    PlainConvolution(geometry).forward(x, w, y)
    for m, oh, ow, n in np.ndindex(y.shape):
        total = 0
        for c, i, j in np.ndindex(2, 3, 2):
            row, column = oh * 2 - 1 + i, ow * 1 - 1 + j * 2
            if 0 <= row < 5 and 0 <= column < 4:
                total += w[m, c, i, j] * x[c, row, column, n]
        assert y[m, oh, ow, n] == pytest.approx(total)


def test_col2im_is_the_adjoint_of_im2col(rng):
    window, shape = Window((3, 2), (2, 1), (1, 2), (1, 2)), (2, 7, 6, 3)
    x = rng.standard_normal(shape)
    columns = rng.standard_normal(im2col(x, window).shape)
    assert (im2col(x, window) * columns).sum() == pytest.approx((x * col2im(columns, shape, window)).sum())


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 12, 35, 36, 1000])
def test_blocks_cover_every_column_once(limit):
    numbers = np.arange(4 * 3 * 3).reshape(4, 3, 3)
    seen = []
    for block in cut_columns((4, 3), 3, limit):
        columns = numbers[block.rows, block.cols, block.batch].ravel()
        assert len(columns) <= max(limit, 1)
        assert columns.tolist() == list(range(block.columns.start, block.columns.stop))
        seen += columns.tolist()
    assert seen == list(range(36))


def test_turned_filters_are_rotated_and_have_inputs_and_outputs_exchanged(rng):
    w = rng.standard_normal((6, 2, 3, 2))
    turned = convolution.turn_filters(w, 3)
    assert turned.shape == (6, 2, 3, 2)
    assert turned[3, 1, 0, 0] == w[3, 1, 2, 1]  # the second group: input 1, output 1
    assert turned[2, 1, 2, 1] == w[3, 0, 0, 0]


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        Geometry((1, 3, 3, 1), 1, Window((5, 5)))


def test_an_empty_batch_gives_empty_outputs_and_zero_gradients():
    product = DenseConvolution(Geometry((2, 5, 5, 0), 3, Window((3, 3))), np.float32)
    padded = product.forward(
        np.empty((2, 5, 5, 0), "f4"), np.ones((3, 2, 3, 3), "f4"), np.empty((3, 3, 3, 0), "f4")
    )
    dw = np.full((3, 2, 3, 3), np.nan, "f4")
    product.weight_grad(np.empty((3, 3, 3, 0), "f4"), padded, dw)
    assert not dw.any()


def test_the_number_of_workers_may_change_between_passes(monkeypatch, rng):
    monkeypatch.setattr(gemm, "SMALL", 0)
    for channels in (2, 8):
        monkeypatch.setattr(workers, "worker_count", 2)
        convolution = DenseConvolution(Geometry((channels, 5, 5, 1), 4, Window((3, 3)), 1), np.float64)
        for count in (2, 1, 3):
            monkeypatch.setattr(workers, "worker_count", count)
            assert_is_the_plain_convolution(rng, convolution)
