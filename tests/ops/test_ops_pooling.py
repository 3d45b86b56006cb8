"""Pooling equals what a loop over windows computes, for any window, and for few images as for many."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.ops import pooling, runs
from minicaffe.ops.convolution.geometry import Window

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

SETTINGS = [  # H, W, kernel, stride, pad
    (7, 9, (3, 3), (2, 2), (0, 0)),
    (8, 6, (3, 3), (2, 2), (0, 0)),  # the last windows reach beyond the image
    (9, 7, (3, 3), (2, 2), (1, 1)),
    (8, 6, (2, 2), (2, 2), (0, 0)),
    (7, 5, (2, 3), (2, 3), (0, 1)),
    (5, 5, (5, 5), (1, 1), (0, 0)),
    (9, 11, (3, 2), (1, 4), (2, 1)),
    (12, 12, (2, 2), (5, 5), (0, 0)),  # and windows that see nothing
    (6, 20, (17, 17), (2, 2), (8, 2)),  # of more than 255 positions
]


def windows_of(size, window, image):
    """For each output (oh, ow): its number of pixels in the padded image, and its pixels, (position, h, w)."""
    (height, width), (kh, kw), (sh, sw), (ph, pw) = image, window.kernel, window.stride, window.pad
    for oh in range(size[0]):
        for ow in range(size[1]):
            h0, w0 = oh * sh - ph, ow * sw - pw
            area = max(min(h0 + kh, height + ph) - h0, 1) * max(min(w0 + kw, width + pw) - w0, 1)
            pixels = [
                (i * kw + j, h0 + i, w0 + j)
                for i in range(kh)
                for j in range(kw)
                if 0 <= h0 + i < height and 0 <= w0 + j < width
            ]
            yield (oh, ow), area, pixels


@pytest.fixture(params=[1, 2, 5, 40])
def batch(request):
    return request.param


@pytest.fixture(autouse=True, params=[1, 2])
def worker_count(request, monkeypatch):
    monkeypatch.setattr(workers, "worker_count", request.param)
    monkeypatch.setattr(workers, "WORTH_SHARING", 0)


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "pad"), SETTINGS)
def test_max_pooling_finds_the_first_maximum_in_row_order(rng, batch, height, width, kernel, stride, pad):
    window = Window(kernel, stride, pad)
    size = pooling.output_size((height, width), window)
    x = rng.integers(-2, 3, (3, height, width, batch)).astype(np.float32)  # many are equal
    dy = rng.standard_normal((3, *size, batch)).astype(np.float32)
    y, only_y, dx = np.full_like(dy, np.nan), np.full_like(dy, np.nan), np.full_like(x, np.nan)
    argmax = np.full(dy.shape, 77, pooling.position_type(window))
    pooling.max_pool(x, window, only_y)
    pooling.max_pool(x, window, y, argmax)
    pooling.max_pool_grad(dy, argmax, window, dx)
    expected_y, expected_argmax = np.full_like(dy, pooling.LOWEST), np.zeros(dy.shape, int)
    expected_dx = np.zeros(x.shape)
    for (oh, ow), _, pixels in windows_of(size, window, (height, width)):
        for channel, image in np.ndindex(3, batch):
            values = [x[channel, h, w, image] for _, h, w in pixels]
            if values:
                position, h, w = pixels[int(np.argmax(values))]
                expected_y[channel, oh, ow, image] = max(values)
                expected_argmax[channel, oh, ow, image] = position
                expected_dx[channel, h, w, image] += dy[channel, oh, ow, image]
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(only_y, expected_y)
    np.testing.assert_array_equal(argmax, expected_argmax)
    np.testing.assert_allclose(dx, expected_dx, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "pad"), SETTINGS)
def test_average_pooling_divides_by_the_window_in_the_padded_image(
    rng, batch, height, width, kernel, stride, pad
):
    window = Window(kernel, stride, pad)
    size = pooling.output_size((height, width), window)
    x, dy = rng.standard_normal((3, height, width, batch)), rng.standard_normal((3, *size, batch))
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    pooling.ave_pool(x, window, y)
    pooling.ave_pool_grad(dy, window, dx)
    expected_y, expected_dx = np.zeros_like(dy), np.zeros_like(x)
    for (oh, ow), area, pixels in windows_of(size, window, (height, width)):
        for _, h, w in pixels:
            expected_y[:, oh, ow] += x[:, h, w] / area
            expected_dx[:, h, w] += dy[:, oh, ow] / area
    np.testing.assert_allclose(y, expected_y, atol=1e-12)
    np.testing.assert_allclose(dx, expected_dx, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 8, 33])
def test_runs_are_copied_between_any_views(rng, length):
    x = rng.standard_normal((3, 6, 8, length))
    for source in (x, x[:, ::2], x[:, :, 1::3], x[:, :0], np.broadcast_to(x[:, :1], x.shape), x[..., ::-1]):
        for dtype in (np.float64, np.float32):
            room = np.zeros((*source.shape[:3], length + 1), dtype)
            runs.copy_runs(room[..., :length], source)
            np.testing.assert_array_equal(room[..., :length], source.astype(dtype))
            assert not room[..., length].any()
