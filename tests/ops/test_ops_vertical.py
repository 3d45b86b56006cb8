"""The convolution along the height without a data matrix equals the plain one, however its product is cut."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.ops.convolution import vertical
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.reference import PlainConvolution
from minicaffe.ops.convolution.vertical import VerticalConvolution

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

# (x's shape (C, H, W, N), filters, window, groups)
SETTINGS = {
    "plain": ((3, 9, 4, 5), 4, Window((3, 1)), 1),
    "padded": ((2, 7, 5, 3), 3, Window((3, 1), pad=(1, 0)), 1),
    "groups": ((4, 6, 3, 2), 6, Window((3, 1), pad=(1, 0)), 2),
    "depthwise": ((3, 8, 2, 3), 3, Window((4, 1), pad=(2, 0)), 3),
    "dilated": ((2, 11, 3, 2), 4, Window((3, 1), pad=(2, 0), dilation=(2, 1)), 1),
    "a batch of one": ((3, 8, 7, 1), 5, Window((5, 1), pad=(2, 0)), 1),
    "one pixel a row": ((3, 8, 1, 1), 2, Window((3, 1), pad=(1, 0)), 1),
    "a kernel larger than the image": ((2, 3, 3, 4), 3, Window((7, 1), pad=(3, 0)), 1),
    "rows at both ends that are never reached": ((2, 4, 3, 2), 3, Window((3, 1), pad=(5, 0)), 1),
    "rows between that are never reached": ((2, 1, 3, 2), 4, Window((3, 1), pad=(6, 0), dilation=(3, 1)), 2),
    "one row": ((2, 1, 6, 2), 3, Window((1, 1)), 1),
    "1×1, padded": ((2, 3, 4, 2), 3, Window((1, 1), pad=(2, 0)), 1),
    "strided in height": ((2, 9, 4, 3), 3, Window((3, 1), stride=(2, 1), pad=(1, 0)), 1),
    "strided in width": ((4, 6, 7, 2), 4, Window((3, 1), stride=(1, 3)), 2),
    "padded in width": ((2, 5, 4, 3), 3, Window((3, 1), pad=(1, 2)), 1),
}
each_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
# (bytes of a product, elements that one worker keeps to itself, workers)
CUTS = {
    "whole": (1 << 20, 1 << 30, 1),
    "some rows at a time": (1500, 0, 1),
    "parts of rows": (100, 0, 1),
    "single pixels": (1, 0, 1),
    "two workers": (1 << 20, 0, 2),
    "two workers, single pixels": (1, 0, 2),
    "three workers, parts of rows": (200, 0, 3),
}
each_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


def cut_as(monkeypatch, cut):
    product_bytes, shared_product, worker_count = cut
    monkeypatch.setattr(vertical, "PRODUCT_BYTES", product_bytes)
    monkeypatch.setattr(vertical, "SHARED_PRODUCT", shared_product)
    monkeypatch.setattr(workers, "worker_count", worker_count)


def make(rng, setting, dtype="float64"):
    """The plain and the vertical convolution of a setting; x, w, b and dy."""
    geometry = Geometry(*setting)
    plain, tall = PlainConvolution(geometry), VerticalConvolution(geometry, dtype)
    shapes = geometry.shape, geometry.weight_shape, (geometry.filters,), geometry.output_shape
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return plain, tall, *arrays


def run(product, x, w, b, dy, y=None):
    """y, dw, db and dx; everything that is to be written holds NaN before."""
    y = np.full_like(dy, np.nan) if y is None else y
    dw, db, dx = (np.full_like(like, np.nan) for like in (w, b, x))
    kept = product.forward(x, w, y, b)
    product.weight_grad(dy, kept, dw, db)
    product.input_grad(dy, w, dx)
    return y, dw, db, dx


@each_cut
@each_setting
def test_it_computes_what_the_plain_convolution_does_however_it_is_cut(monkeypatch, setting, cut, rng):
    plain, tall, *arrays = make(rng, setting)
    expected = run(plain, *arrays)
    cut_as(monkeypatch, cut)
    for found, wanted in zip(run(tall, *arrays), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@each_cut
@pytest.mark.parametrize("pad", [(0, 2), (1, 0), (2, 3)])
def test_it_writes_into_the_inside_of_a_padded_buffer_and_nowhere_else(monkeypatch, cut, pad, rng):
    plain, tall, x, w, b, dy = make(rng, SETTINGS["groups"])
    buffer = np.full((6, 6 + 2 * pad[0], 3 + 2 * pad[1], 2), 7.0)
    inside = buffer[:, pad[0] : pad[0] + 6, pad[1] : pad[1] + 3]
    cut_as(monkeypatch, cut)
    run(tall, x, w, b, dy, inside)
    np.testing.assert_allclose(inside, run(plain, x, w, b, dy)[0], rtol=1e-12, atol=1e-12)
    inside[...] = 7
    np.testing.assert_array_equal(buffer, 7)


@each_cut
def test_without_a_bias_none_is_added_and_rows_that_are_never_reached_are_zero(monkeypatch, cut, rng):
    _, tall, x, w, *_ = make(rng, SETTINGS["rows between that are never reached"])
    cut_as(monkeypatch, cut)
    y = np.full(tall.geometry.output_shape, np.nan)
    tall.forward(x, w, y)
    reached = [oh for oh in range(7) if y[:, oh].any()]
    assert reached == [0, 3, 6]
    np.testing.assert_allclose(y[:2, 3], np.einsum("mc,cwn->mwn", w[:2, :, 1, 0], x[:1, 0]), rtol=1e-12)


@pytest.mark.parametrize("cut", ["some rows at a time", "two workers"])
def test_a_second_image_leaves_nothing_of_the_first(monkeypatch, cut, rng):
    cut_as(monkeypatch, CUTS[cut])
    plain, tall, x, w, b, dy = make(rng, SETTINGS["dilated"])
    run(tall, x, w, b, dy)
    other = rng.standard_normal(x.shape)
    for found, wanted in zip(run(tall, other, w, b, dy), run(plain, other, w, b, dy), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cut", ["whole", "parts of rows", "two workers"])
def test_float32_images_give_float32_answers_and_are_not_changed(monkeypatch, cut, rng):
    cut_as(monkeypatch, CUTS[cut])
    plain, tall, x, w, b, dy = make(rng, SETTINGS["padded"], "float32")
    before = x.copy()
    found = run(tall, x, w, b, dy)
    np.testing.assert_array_equal(x, before)
    for one, other in zip(found, run(plain, x, w, b, dy), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_however_many_workers_share_them_the_numbers_are_the_same_every_time(monkeypatch, rng):
    cut_as(monkeypatch, (300, 0, 2))
    _, tall, x, w, b, dy = make(rng, SETTINGS["plain"], "float32")
    one, other = (run(tall, x, w, b, dy) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_one_worker_does_alone_and_what_two_share_is_decided_by_the_size(monkeypatch, rng):
    _, tall, x, w, b, dy = make(rng, SETTINGS["plain"])  # 3·4 rows of w, 3 channels, 9·4·5 pixels of x
    asked = []
    monkeypatch.setattr(workers, "worker_count", 2)
    monkeypatch.setattr(vertical.workers, "run", lambda task, parts: [asked.append(parts), task(0)])
    for limit in (12 * 3, 10**9):
        monkeypatch.setattr(vertical, "SHARED_PRODUCT", limit)
        tall.forward(x, w, np.empty_like(dy), b)
    assert asked == [2, 1]


def test_an_empty_batch_gives_empty_outputs_and_zero_gradients(rng):
    _, tall, x, w, b, dy = make(rng, ((2, 5, 4, 0), 3, Window((3, 1)), 1))
    y, dw, db, dx = run(tall, x, w, b, dy)
    assert (y.shape, dx.shape) == ((3, 3, 4, 0), (2, 5, 4, 0))
    assert not dw.any() and not db.any()


@each_setting
def test_with_many_filters_it_makes_a_data_matrix_and_computes_the_same(monkeypatch, setting, rng):
    monkeypatch.setattr(vertical, "MANY_FILTERS", 0)
    plain, tall, *arrays = make(rng, setting)
    for found, expected in zip(run(tall, *arrays), run(plain, *arrays), strict=True):
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)
