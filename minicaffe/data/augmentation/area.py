"""Resizes an image of bytes exactly as OpenCV's ``INTER_AREA`` does.

An image that shrinks, or keeps its size, in both directions: each new pixel is the mean of the part of the old
image that it covers, where pixels that it covers in part count by that part,

    y[i] = Σ_k a_ik · x[k],    Σ_k a_ik = 1

computed in float32, first along rows. Any other image is interpolated linearly, with sharper steps than LINEAR.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.resize import ONE, Taps, mix

EPSILON = np.finfo(np.float64).eps


def resize_area(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (H, W, K), uint8, as (height, width, K)."""
    old_height, old_width, channels = pixels.shape
    if height > old_height or width > old_width:
        return mix(pixels, _steps(old_height, height), _steps(old_width, width))
    scales = 1.0 / (height / old_height), 1.0 / (width / old_width)
    whole = [round(scale) for scale in scales]
    if all(abs(scale - count) < EPSILON for scale, count in zip(scales, whole, strict=True)):
        blocks = pixels.reshape(height, whole[0], width, whole[1], channels)
        sums = blocks.sum(axis=(1, 3), dtype=np.int32)
        if whole == [2, 2]:
            quarters: np.ndarray = ((sums + 2) >> 2).astype(np.uint8)
            return quarters
        means: np.ndarray = np.rint(
            sums.astype(np.float32) * (np.float32(1) / np.float32(whole[0] * whole[1]))
        )
        return means.astype(np.uint8)
    lines = np.zeros((old_height, width, channels), np.float32)
    for columns, parts in zip(*_covered(old_width, width), strict=True):
        lines += pixels.take(columns, axis=1) * parts[:, None]
    summed = np.zeros((height, width, channels), np.float32)
    for rows, parts in zip(*_covered(old_height, height), strict=True):
        summed += lines.take(rows, axis=0) * parts[:, None, None]
    resized: np.ndarray = np.rint(summed).clip(0, 255).astype(np.uint8)
    return resized


def _covered(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``new`` pixels the old ones that it covers, and their parts of it, both (taps, new)."""
    scale = 1.0 / (new / old)
    begin = np.arange(new) * scale
    end = begin + scale
    covered = np.minimum(scale, old - begin)
    last = np.minimum(np.floor(end), old - 1).astype(np.int64)
    first = np.minimum(np.ceil(begin), last).astype(np.int64)  # the first that is covered as a whole
    taps = first - 1 + np.arange(int((last - first).max()) + 2)[:, None]
    parts = np.where((first <= taps) & (taps < last), 1.0 / covered, 0)
    parts = np.where((taps < first) & (first - begin > 1e-3), (first - begin) / covered, parts)
    rest = np.minimum(np.minimum(end - last, 1), covered) / covered
    parts = np.where((taps == last) & (end - last > 1e-3), rest, parts)
    return taps.clip(0, old - 1), parts.astype(np.float32)


def _steps(old: int, new: int) -> Taps:
    """For each of ``new`` pixels the old ones on either side of it, and their weights, as ``mix`` takes."""
    scale = new / old
    left = np.floor(np.arange(new) * (1.0 / scale)).astype(np.int64)
    part = (np.arange(1, new + 1) - (left + 1) * scale).astype(np.float32)
    part = np.where((part <= 0) | (left >= old - 1), np.float32(0), part - np.floor(part))
    weights = np.rint(np.stack([1 - part, part]) * np.float32(ONE)).astype(np.int32)
    return left.clip(0, old - 1), (left + 1).clip(0, old - 1), weights
