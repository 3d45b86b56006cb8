"""``engine: CAFFE``: every sum has the order that ``in_order.py`` promises, bit for bit."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.low_rank.products import TwoStage
from minicaffe.low_rank.schemes import schemes
from minicaffe.ops import channels, engine, gemm
from minicaffe.ops.convolution import dense, in_order
from minicaffe.ops.convolution.blocks import cut_columns
from minicaffe.ops.convolution.dense import turn_filters
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.in_order import InOrderConvolution, InOrderDepthwise, InOrderVertical
from minicaffe.ops.convolution.products import products_for
from minicaffe.ops.convolution.reference import col2im, im2col
from minicaffe.ops.normalization import moments, normalize_grad
from minicaffe.ops.pooling import ave_pool
from tests.ops.test_ops_convolution import products

pytestmark = pytest.mark.cpu_only("sums on a CPU; on a GPU the engine changes nothing")

each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_count = pytest.mark.parametrize("count", [1, 2, 3])


@pytest.fixture(autouse=True)
def plain_products(monkeypatch):
    """One BLAS thread for the expected products, too; and no engine of the run."""
    monkeypatch.setattr(engine, "_chosen", "DEFAULT")
    with workers.one_blas_thread():
        yield


def arrays_for(geometry, dtype, rng):
    """x, w, b and dy."""
    shapes = geometry.shape, geometry.weight_shape, (geometry.filters,), geometry.output_shape
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_same_bits(found, expected):
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(a, b.reshape(a.shape), err_msg=f"{number} of y, dw, db, dx")


def shared(a, b, count):
    """a · b where each of ``count`` workers has its rows of a, or columns of b: the longer ones."""
    rows, columns = a.shape[-2], b.shape[-1]
    if max(rows, columns) < count:
        return a @ b
    if rows >= columns:
        return np.concatenate([a[..., own, :] @ b for own in workers.cut(rows, count)], axis=-2)
    return np.concatenate([a @ b[..., own] for own in workers.cut(columns, count)], axis=-1)


# -- convolutions ------------------------------------------------------------------------------------------

# (x's shape (C, H, W, N), filters, window, groups)
SETTINGS = {
    "3 × 3": ((6, 9, 8, 5), 4, Window((3, 3)), 1),
    "groups": ((4, 9, 8, 3), 6, Window((3, 2), pad=(1, 0)), 2),
    "strided": ((8, 7, 7, 2), 8, Window((3, 3), stride=(2, 1), pad=(1, 2)), 4),
    "dilated": ((2, 11, 10, 1), 3, Window((3, 3), dilation=(2, 3), pad=(2, 0)), 1),
    "1 × 1": ((5, 6, 6, 4), 3, Window((1, 1)), 1),
    "1 × 1, few pixels": ((70, 2, 2, 2), 90, Window((1, 1)), 1),
    "1 × 1, strided": ((5, 6, 6, 4), 3, Window((1, 1), stride=(2, 2)), 1),
    "few pixels": ((40, 3, 3, 1), 50, Window((3, 3), pad=(1, 1)), 1),
    "many images": ((2, 5, 4, 30), 5, Window((2, 2)), 1),
}
LIMITS = {"whole": (1 << 20, 1 << 10), "in blocks": (1 << 20, 0), "in many blocks": (2000, 0)}


def pieces_of(columns, depth, itemsize, is_shared):
    """The columns of a block in pieces of the same length, at least as long as one should be."""
    length = columns.stop - columns.start
    longest = max(dense.SHORT_PIECE, dense.PIECE_BYTES // (depth * itemsize))
    pieces = max(1, length // longest) if is_shared else 1
    while length % pieces:
        pieces -= 1
    step = length // pieces
    return [slice(start, start + step) for start in range(columns.start, columns.stop, step)]


def by_blocks(geometry, x, w, dy, count):
    """y, dw and db, (g, …): block by block, the blocks in turns on ``count`` workers."""
    group, depth, size = geometry.group, geometry.depth, x.itemsize
    columns = im2col(x, geometry.window).reshape(group, depth, -1)
    w, dy = w.reshape(group, -1, depth), dy.reshape(group, -1, geometry.columns)
    limit = geometry.columns
    if limit > in_order.SMALL_COLUMNS and not geometry.is_pointwise:
        limit = max(1, min(in_order.BLOCK_BYTES // (depth * group * size), -(-limit // count)))
    blocks = [block.columns for block in cut_columns(geometry.output, geometry.batch, limit, count)]
    used = min(count, len(blocks))
    y = np.empty(dy.shape, dy.dtype)
    sums, bias_sums = [0] * used, [0] * used
    for number, block in enumerate(blocks):
        pieces = pieces_of(block, depth, size, used > 1)
        sharers = count if used == 1 else 1  # a block that has no worker of its own is shared
        terms = []
        for piece in pieces:
            y[:, :, piece] = shared(w, columns[:, :, piece], sharers)
            terms.append(shared(columns[:, :, piece], dy[:, :, piece].swapaxes(1, 2), sharers))
        sums[number % used] = sums[number % used] + np.stack(terms).sum(axis=0)
        bias_sums[number % used] = bias_sums[number % used] + dy[:, :, block].sum(axis=2)
    return y, sum(sums).swapaxes(1, 2), sum(bias_sums)


def scattered(geometry, w, dy, count):
    """dx = col2im(wᵀ · dy), where each worker has its channels."""
    group, per_group = geometry.group, geometry.channels // geometry.group
    w = w.reshape(group, -1, per_group, geometry.depth // per_group)
    dy = dy.reshape(group, -1, geometry.columns)
    products = [
        w[:, :, own].reshape(group, w.shape[1], -1).swapaxes(1, 2) @ dy
        for own in workers.cut(per_group, min(count, per_group))
    ]
    return col2im(np.concatenate(products, axis=1), geometry.shape, geometry.window)


def expected_dx(product, w, dy, count):
    geometry = product.geometry
    if geometry.is_pointwise:
        weights = w.reshape(geometry.group, -1, geometry.depth).swapaxes(1, 2)
        return shared(weights, dy.reshape(geometry.group, -1, geometry.columns), count)
    if product.turned is None:
        return scattered(geometry, w, dy, count)
    turned = product.turned.geometry
    like_dy = np.zeros(turned.output_shape, dy.dtype)  # of the turned convolution, which has no gradient here
    return by_blocks(turned, dy, turn_filters(w, geometry.group), like_dy, count)[0]


@each_type
@each_count
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("turn_filters", [0, 100])
def test_a_convolution_is_the_products_of_its_blocks(
    monkeypatch, setting, limits, count, dtype, turn_filters, rng
):
    monkeypatch.setattr(workers, "worker_count", count)
    monkeypatch.setattr(in_order, "BLOCK_BYTES", limits[0])
    monkeypatch.setattr(in_order, "SMALL_COLUMNS", limits[1])
    monkeypatch.setattr(gemm, "SMALL", 0)
    monkeypatch.setattr(dense, "PIECE_BYTES", 500)
    monkeypatch.setattr(dense, "SHORT_PIECE", 4)
    monkeypatch.setattr(dense, "TURN_FILTERS", turn_filters)
    monkeypatch.setattr(dense, "TURN_CHANNELS", 0)
    monkeypatch.setattr(dense, "TURN_GROWTH", 100)
    geometry = Geometry(*setting)
    x, w, b, dy = arrays_for(geometry, dtype, rng)
    product = products_for(geometry, dtype, engine="CAFFE")
    y, dw, db = by_blocks(geometry, x, w, dy, count)
    y += b.reshape(geometry.group, -1, 1)
    assert_same_bits(products(product, x, w, b, dy), (y, dw, db, expected_dx(product, w, dy, count)))


# -- depthwise ---------------------------------------------------------------------------------------------

WINDOWS = [
    Window((3, 3), (1, 1), (1, 1)),
    Window((3, 3), (2, 2), (1, 1)),
    Window((2, 3), (2, 1), (1, 0), (2, 2)),
    Window((5, 4), (1, 2), (2, 3), (2, 1)),
    Window((3, 2), (1, 1), (4, 0)),  # more padding than the kernel covers
]


def by_rows(geometry, x, w):
    """y (C, m, P): a product for each row of the kernel, added up from the first on."""
    columns = im2col(x, geometry.window).reshape(geometry.channels, *geometry.window.kernel, -1)
    w = w.reshape(geometry.channels, -1, *geometry.window.kernel)
    y = w[:, :, 0] @ columns[:, 0]
    for i in range(1, geometry.window.kernel[0]):
        y += w[:, :, i] @ columns[:, i]
    return y


def added_up(geometry, w, dy):
    """dx: for each filter of a channel and each kernel position the products, added to the pixels under it."""
    window, channels = geometry.window, geometry.channels
    w, dy = w.reshape(channels, -1, *window.kernel), dy.reshape(channels, -1, *geometry.output_shape[1:])
    dx = np.zeros((channels, *geometry.padded, geometry.batch), dy.dtype)
    for k in range(dy.shape[1]):
        for i, j in window.positions():
            pixels = (slice(None), *window.under((i, j), geometry.output))
            dx[pixels] += dy[:, k] * w[:, k, i, j].reshape(-1, 1, 1, 1)
    return dx[(slice(None), *window.inside(geometry.image))]


@each_type
@each_count
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_depthwise_convolution_is_a_product_for_each_row_of_the_kernel(
    monkeypatch, window, multiplier, count, dtype, rng
):
    monkeypatch.setattr(workers, "worker_count", count)
    monkeypatch.setattr(workers, "WORTH_SHARING", 0)
    geometry = Geometry((5, 9, 10, 3), 5 * multiplier, window, 5)
    x, w, b, dy = arrays_for(geometry, dtype, rng)
    product = products_for(geometry, dtype, engine="CAFFE")
    assert type(product) is InOrderDepthwise
    columns = im2col(x, window).reshape(5, *window.kernel, -1)
    gradients = dy.reshape(5, 1, multiplier, -1)
    dw = np.moveaxis(columns @ gradients.swapaxes(2, 3), 3, 1)
    y = by_rows(geometry, x, w) + b.reshape(5, multiplier, 1)
    if set(window.stride) == {1} and multiplier == 1 and geometry.turned is not None:
        dx = by_rows(geometry.turned, dy, turn_filters(w, 5))
    else:
        dx = added_up(geometry, w, dy)
    assert_same_bits(products(product, x, w, b, dy), (y, dw, gradients.sum(axis=3), dx))


@each_type
def test_large_depthwise_images_are_cut_by_rows(monkeypatch, dtype, rng):
    """Then gradients are added up in another order, but the same ones."""
    window, shape = Window((3, 3), (2, 2), (1, 1)), (3, 17, 15, 2)
    monkeypatch.setattr(in_order, "Z_BYTES", 2000)
    geometry = Geometry(shape, 6, window, 3)
    arrays = arrays_for(geometry, dtype, rng)
    cut = products_for(geometry, dtype, engine="CAFFE")
    assert len(cut.parts) > 6
    found = products(cut, *arrays)
    monkeypatch.undo()
    for a, b in zip(found, products(products_for(geometry, dtype, engine="CAFFE"), *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# -- which one ---------------------------------------------------------------------------------------------


def test_all_convolutions_of_a_layer_are_in_order():
    volume = products_for(
        Geometry((3, 5, 6, 4, 2), 4, Window((2, 3, 2), (1,) * 3, (0,) * 3, (1,) * 3)),
        np.float32,
        engine="CAFFE",
    )
    assert type(volume.planes) is InOrderConvolution
    product = products_for(Geometry((16, 9, 9, 2), 8, Window((3, 3), pad=(1, 1))), np.float32, engine="CAFFE")
    assert type(product) is type(product.turned) is InOrderConvolution
    for scheme, first in (("CHANNEL", InOrderConvolution), ("SPATIAL", InOrderVertical)):
        made = schemes[scheme](product.geometry.weight_shape, 1)
        stages = TwoStage(product, made, 2)
        assert (type(stages.first), type(stages.second)) == (first, InOrderConvolution)


# -- other layers, where it is the engine of a run ----------------------------------------------------------


@each_count
@pytest.mark.parametrize(("rows", "columns"), [(30, 4), (4, 30), (30, 1), (1, 1)])
def test_a_product_of_matrices_is_one_for_each_worker(monkeypatch, rows, columns, count, rng):
    monkeypatch.setattr(engine, "_chosen", "CAFFE")
    monkeypatch.setattr(workers, "worker_count", count)
    for name, value in {"SMALL": 0, "PANEL": 3, "LARGE": 1}.items():
        monkeypatch.setattr(gemm, name, value)
    a, b = rng.standard_normal((rows, 700), np.float32), rng.standard_normal((700, columns), np.float32)
    for left in (a, np.asfortranarray(a)):
        out = np.full((rows, columns), np.nan, np.float32)
        gemm.matmul(left, b, out)
        np.testing.assert_array_equal(out, shared(left, b, count))
        gemm.side_by_side(
            [lambda matmul, left=left, out=out: matmul(left, b, out=out)] * 2, like=a, size=1 << 30
        )
        np.testing.assert_array_equal(out, left @ b)


@each_type
def test_sums_of_a_channel_are_those_of_numpy(monkeypatch, dtype, rng):
    monkeypatch.setattr(engine, "_chosen", "CAFFE")
    x, dy = (rng.standard_normal((3, 5000, 1)).astype(dtype) for _ in range(2))
    mean = x.sum(axis=1, keepdims=True) / 5000
    variance = ((x - mean) * (x - mean)).sum(axis=1, keepdims=True) / 5000
    for found, expected in zip(moments(x), (mean, variance), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(channels.product_sums(x, dy), (x * dy).sum(axis=1))
    dx, std = np.empty_like(x), 1 / np.sqrt(variance)
    normalize_grad(x, dy, mean, std, dx)
    slope = (dy * (x - mean)).sum(axis=1, keepdims=True) * std * std / 5000
    expected = (dy - (x - mean) * slope - dy.sum(axis=1, keepdims=True) / 5000) * std
    np.testing.assert_array_equal(dx, expected)


def test_a_long_row_is_added_up_in_blocks_of_half_a_chunk(monkeypatch, rng):
    monkeypatch.setattr(engine, "_chosen", "CAFFE")
    x, length = rng.standard_normal((1, 300_000, 1), np.float32), workers.CHUNK // 2
    sums = [x[:, start : start + length].sum(axis=1) for start in range(0, x.shape[1], length)]
    np.testing.assert_array_equal(channels.mean(x)[:, 0], np.stack(sums).sum(axis=0) / x.dtype.type(300_000))


@pytest.mark.parametrize("batch", [1, 40])
def test_an_average_is_the_sum_of_its_pixels_one_after_the_other(monkeypatch, batch, rng):
    monkeypatch.setattr(engine, "_chosen", "CAFFE")
    x, y = rng.standard_normal((70, 7, 6, batch), np.float32), np.empty((70, 1, 1, batch), np.float32)
    ave_pool(x, Window((7, 6)), y)
    total = np.zeros((70, batch), np.float32)
    for i in range(7):
        for j in range(6):
            total += x[:, i, j]
    np.testing.assert_array_equal(y[:, 0, 0], total * np.float32(1 / 42))
