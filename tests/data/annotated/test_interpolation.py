"""Every interpolation of ``resize_param`` gives OpenCV's bytes, CUBIC all but a few of them."""

import cv2
import numpy as np
import pytest

from minicaffe.data.augmentation.interpolation import INTERPOLATIONS

pytestmark = pytest.mark.cpu_only("of arrays on the host")

# Intel's library, where OpenCV has it, computes CUBIC in floats: one level off for a few pixels in a hundred.
SIZES = [
    ((37, 50), (30, 30)),
    ((75, 100), (60, 60)),
    ((20, 20), (55, 47)),
    ((64, 64), (32, 32)),
    ((90, 90), (30, 30)),
    ((24, 36), (12, 12)),
    ((100, 90), (7, 300)),
    ((40, 41), (40, 41)),
    ((9, 7), (80, 70)),
    ((50, 37), (30, 37)),
    ((30, 100), (60, 50)),
    ((1, 1), (3, 2)),
    ((31, 2), (1, 1)),
]


@pytest.fixture
def plain_opencv():
    """OpenCV without Intel's library."""
    ipp = getattr(cv2, "ipp", None)
    before = ipp is not None and ipp.useIPP()
    if ipp is not None:
        ipp.setUseIPP(False)
    yield
    if ipp is not None:
        ipp.setUseIPP(before)


def agree(name, got, expected):
    """Of CUBIC a few bytes may be one level off: OpenCV computes the last of a row in another way."""
    off = np.abs(got.astype(int) - expected)
    assert off.max() <= (name == "CUBIC") and off.sum() <= 1 + off.size // 200


@pytest.mark.parametrize("name", INTERPOLATIONS)
@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_another_size_has_opencvs_bytes(name, old, new, channels, rng, plain_opencv):
    pixels = rng.integers(0, 256, (*old, channels)).astype(np.uint8)
    expected = cv2.resize(pixels, new[::-1], interpolation=getattr(cv2, f"INTER_{name}"))
    agree(name, INTERPOLATIONS[name](pixels, *new), expected.reshape(*new, channels))


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_black_and_white_do_not_overflow(name, plain_opencv):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[::2, ::2] = 255
    expected = cv2.resize(pixels, (23, 29), interpolation=getattr(cv2, f"INTER_{name}"))
    agree(name, INTERPOLATIONS[name](pixels, 29, 23), expected)
