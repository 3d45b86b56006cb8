"""Resizes an image of bytes exactly as OpenCV's ``INTER_LINEAR`` does: that is what Caffe's nets were trained on.

    y[i] = (1 − f) · x[k] + f · x[k + 1],    k + f = (i + ½) · old / new − ½

in both directions, from the four nearest pixels, even if the image shrinks. OpenCV computes in integers: the
weights have 11 bits, and the last bit of a pixel depends on where it rounds.
"""

from __future__ import annotations

import numpy as np

ONE = 1 << 11  # a weight of 1
Taps = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # of each new pixel: the old ones before and after, weights (2, new)


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (H, W) or (H, W, K), uint8, as (height, width) or (height, width, K)."""
    return mix(pixels, _taps(pixels.shape[0], height), _taps(pixels.shape[1], width))


def mix(pixels: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Pixels (H, W) or (H, W, K), uint8: each new one is made of two by two."""
    image = pixels.reshape(*pixels.shape[:2], -1)  # stays bytes: only the pixels taken are widened
    top, bottom, down = rows
    left, right, across = columns
    lines = image.take(left, axis=1) * across[0, :, None] + image.take(right, axis=1) * across[1, :, None]
    lines >>= 4
    upper, lower = lines.take(top, axis=0), lines.take(bottom, axis=0)
    mixed = (upper * down[0, :, None, None] >> 16) + (lower * down[1, :, None, None] >> 16)
    resized: np.ndarray = ((mixed + 2) >> 2).astype(np.uint8)
    return resized.reshape(len(top), len(left), *pixels.shape[2:])


def resize_nearest(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (H, W) or (H, W, K), each the nearest as OpenCV's ``INTER_NEAREST`` has it: x[⌊i · old / new⌋].

    What the pixels count or name stays what it is, as labels must.
    """
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1)
        for old, new in zip(pixels.shape[:2], (height, width), strict=True)
    )
    taken: np.ndarray = pixels[rows[:, None], columns]
    return taken


def _taps(old: int, new: int) -> Taps:
    """For each of ``new`` pixels, the old pixels on either side of its position, and their weights (2, new)."""
    positions = ((np.arange(new) + 0.5) * (1.0 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(positions).astype(np.int64)
    part = positions - first.astype(np.float32)
    weights = np.rint(np.stack([1 - part, part]) * np.float32(ONE)).astype(np.int32)
    return np.clip(first, 0, old - 1), np.clip(first + 1, 0, old - 1), weights
