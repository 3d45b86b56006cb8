"""Hue, saturation and value of bytes, as OpenCV's ``cvtColor`` computes them: hue in units of two degrees, 0 … 179.

Back from there each channel is v · (1 − s · c), where c, from 0 to 1, depends on the hue and the channel alone.
Arrays are planar, (3, …), and colours are in the order blue, green, red.
"""

from __future__ import annotations

import numpy as np

BITS = 12
LEVELS = np.arange(1, 256)
PER_VALUE = np.concatenate([[0], np.rint((255 << BITS) / LEVELS)]).astype(np.int32)
PER_RANGE = np.concatenate([[0], np.rint((180 << BITS) / (6.0 * LEVELS))]).astype(np.int32)
# For each sixth of the circle of hues: which c blue, green and red have, of 0, 1, part and 1 − part.
SECTORS = np.array([(1, 3, 0), (1, 0, 2), (3, 0, 1), (0, 2, 1), (0, 1, 3), (2, 1, 0)])


def _lacking() -> np.ndarray:
    """The c of each channel at each of 256 hues, (3, 256); from 180 on the hues go on around the circle."""
    hues = np.arange(256, dtype=np.float32) * np.float32(6 / 180)
    sector = np.floor(hues)
    part = hues - sector
    choices = np.stack([np.zeros_like(part), np.ones_like(part), part, np.float32(1) - part])
    chosen: np.ndarray = np.take_along_axis(choices, SECTORS[sector.astype(int) % 6].T, axis=0)
    return chosen


LACKING = _lacking()


def to_hsv(image: np.ndarray) -> np.ndarray:
    """Hue, saturation and value (3, …), uint8, of an image (3, …), uint8."""
    blue, green, red = image.astype(np.int16)
    value = np.maximum(np.maximum(blue, green), red)
    range_ = value - np.minimum(np.minimum(blue, green), red)
    hue = np.where(
        value == red,
        green - blue,
        np.where(value == green, blue - red + 2 * range_, red - green + 4 * range_),
    )
    half = 1 << (BITS - 1)
    hue = (hue * PER_RANGE.take(range_) + half) >> BITS
    hue[hue < 0] += 180
    hsv = np.empty(image.shape, np.uint8)
    hsv[0] = hue
    hsv[1] = (range_ * PER_VALUE.take(value) + half) >> BITS
    hsv[2] = value
    return hsv


def from_hsv(hsv: np.ndarray) -> np.ndarray:
    """The image (3, …), uint8, of hue, saturation and value.

    Levels are rounded to the nearest. So they are in OpenCV, but version 4 rounds down those pixels of a row that
    it computes several at a time.
    """
    saturation, value = (plane * np.float32(1 / 255) for plane in hsv[1:])
    image = np.empty(hsv.shape, np.uint8)
    for channel, lacking in zip(image, LACKING, strict=True):
        level = lacking.take(hsv[0])
        level *= saturation
        np.subtract(np.float32(1), level, out=level)
        level *= value
        level *= np.float32(255)
        channel[...] = np.rint(level, out=level)
    return image


# -- luminance and colour differences ----------------------------------------------------------------------

HALF = 128 << 14  # the colour differences of grey


def to_grey(image: np.ndarray) -> np.ndarray:
    """The luminance (H, W), uint8, of an image (3, H, W)."""
    blue, green, red = image.astype(np.int32)
    luminance: np.ndarray = (blue * 3735 + green * 19235 + red * 9798 + (1 << 14)) >> 15
    return luminance.astype(np.uint8)


def to_ycrcb(image: np.ndarray) -> np.ndarray:
    """Luminance, red and blue difference (3, H, W), uint8, of an image (3, H, W)."""
    blue, green, red = image.astype(np.int32)
    half = 1 << 13
    y = (blue * 1868 + green * 9617 + red * 4899 + half) >> 14
    planes = np.stack([y, ((red - y) * 11682 + HALF + half) >> 14, ((blue - y) * 9241 + HALF + half) >> 14])
    parts: np.ndarray = planes.clip(0, 255).astype(np.uint8)
    return parts


def from_ycrcb(parts: np.ndarray) -> np.ndarray:
    """The image (3, H, W), uint8, of luminance, red and blue difference."""
    y, red, blue = parts.astype(np.int32)
    red, blue, half = red - 128, blue - 128, 1 << 13
    green = y + ((blue * -5636 + red * -11698 + half) >> 14)
    planes = np.stack([y + ((blue * 29049 + half) >> 14), green, y + ((red * 22987 + half) >> 14)])
    image: np.ndarray = planes.clip(0, 255).astype(np.uint8)
    return image
