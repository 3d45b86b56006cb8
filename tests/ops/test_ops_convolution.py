"""The blocked convolution equals the plain one, whatever the shape and however it is cut."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.ops import gemm
from minicaffe.ops.convolution import dense as convolution
from minicaffe.ops.convolution.dense import Convolution2d, cut_columns
from minicaffe.ops.convolution.im2col import Window, col2im, im2col

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

RNG = np.random.default_rng(2)

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


def plain_forward(x, w, window, group):
    """y = w · im2col(x), a group at a time."""
    per_group = x.shape[0] // group
    parts = [
        w[g * len(w) // group : (g + 1) * len(w) // group].reshape(len(w) // group, -1)
        @ im2col(x[g * per_group : (g + 1) * per_group], window)
        for g in range(group)
    ]
    return np.concatenate(parts).reshape(len(w), *window.output_size(x.shape[1:3]), x.shape[3])


def plain_gradients(x, w, dy, window, group):
    """dw = dy · Xᵀ and dx = col2im(wᵀ · dy), a group at a time."""
    per_group, filters = x.shape[0] // group, len(w) // group
    dws, dxs = [], []
    for g in range(group):
        part, rows = x[g * per_group : (g + 1) * per_group], slice(g * filters, (g + 1) * filters)
        own = dy[rows].reshape(filters, -1)
        dws.append(own @ im2col(part, window).T)
        dxs.append(col2im(w[rows].reshape(filters, -1).T @ own, part.shape, window))
    return np.concatenate(dws).reshape(w.shape), np.concatenate(dxs)


@pytest.mark.parametrize("block_bytes", [1, 300, 5000, 1 << 20])
@pytest.mark.parametrize("worker_count", [1, 2, 3])
@pytest.mark.parametrize("turn_filters", [0, 100])
@pytest.mark.parametrize(("shape", "filters", "window", "group"), SETTINGS)
def test_blocks_give_what_the_whole_data_matrix_gives(
    monkeypatch, block_bytes, worker_count, turn_filters, shape, filters, window, group
):
    monkeypatch.setattr(convolution, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "SCATTER_BYTES", block_bytes)
    monkeypatch.setattr(convolution, "SMALL_COLUMNS", 0 if block_bytes < 1000 else 1000)
    monkeypatch.setattr(gemm, "SMALL", 0)
    monkeypatch.setattr(convolution, "TURN_FILTERS", turn_filters)
    monkeypatch.setattr(convolution, "TURN_CHANNELS", 0)
    monkeypatch.setattr(convolution, "TURN_GROWTH", 100)
    monkeypatch.setattr(workers, "worker_count", worker_count)
    x = RNG.standard_normal(shape)
    w = RNG.standard_normal((filters, shape[0] // group, *window.kernel))
    b = RNG.standard_normal(filters)
    product = Convolution2d(shape, filters, window, group, np.float64)
    y = np.empty((filters, *product.output, shape[3]))
    padded = product.forward(x, w, y, b)
    np.testing.assert_allclose(y, plain_forward(x, w, window, group) + b[:, None, None, None], atol=1e-12)
    dy = RNG.standard_normal(y.shape)
    dw, dx = np.full(w.shape, np.nan), np.full(shape, np.nan)
    product.weight_grad(dy, padded, dw)
    product.input_grad(dy, w, dx)
    plain_dw, plain_dx = plain_gradients(x, w, dy, window, group)
    np.testing.assert_allclose(dw, plain_dw, atol=1e-11)
    np.testing.assert_allclose(dx, plain_dx, atol=1e-11)


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


def test_turned_filters_are_rotated_and_have_inputs_and_outputs_exchanged():
    w = RNG.standard_normal((6, 2, 3, 2))
    turned = convolution.turn_filters(w, 3)
    assert turned.shape == (6, 2, 3, 2)
    assert turned[3, 1, 0, 0] == w[3, 1, 2, 1]  # the second group: input 1, output 1
    assert turned[2, 1, 2, 1] == w[3, 0, 0, 0]


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        Convolution2d((1, 3, 3, 1), 1, Window((5, 5)), 1, np.float32)


def test_an_empty_batch_gives_empty_outputs_and_zero_gradients():
    product = Convolution2d((2, 5, 5, 0), 3, Window((3, 3)), 1, np.float32)
    padded = product.forward(
        np.empty((2, 5, 5, 0), "f4"), np.ones((3, 2, 3, 3), "f4"), np.empty((3, 3, 3, 0), "f4")
    )
    dw = np.full((3, 2, 3, 3), np.nan, "f4")
    product.weight_grad(np.empty((3, 3, 3, 0), "f4"), padded, dw)
    assert not dw.any()
