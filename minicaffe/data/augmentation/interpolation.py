"""The interpolations that ``resize_param`` can name, by OpenCV's names without ``INTER_``: exactly OpenCV's bytes.

Each takes bytes (H, W, K), a height and a width. LINEAR and NEAREST are in ``data/resize.py``, AREA in ``area.py``.
CUBIC and LANCZOS4 weigh the 4 or 8 nearest pixels in both directions,

    y[i] = Σ_k w_k(f) · x[s + k],    s + f = (i + ½) · old / new − ½

with weights of 11 bits, and pixels repeated beyond the border. A few bytes of CUBIC, one in
thousands, are one level off: there OpenCV's own depend on how many it computes at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicaffe.data.augmentation.area import resize_area
from minicaffe.data.resize import ONE, resize, resize_nearest

A = np.float32(-0.75)  # of the cubic


def resize_cubic(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """CUBIC; the sum down the columns is one of floats, as OpenCV's is where it computes several at a time."""
    lines, rows, weights = _across(pixels, height, width, _cubic)
    down = (weights.astype(np.float32) * np.float32(1 / ONE**2))[..., None, None]
    lines = lines.astype(np.float32)
    parts = [lines.take(taken, axis=0) * weight for taken, weight in zip(rows, down, strict=True)]
    summed = parts[0] + (parts[1] + (parts[2] + parts[3]))
    resized: np.ndarray = np.rint(summed).clip(0, 255).astype(np.uint8)
    return resized


def resize_lanczos4(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """LANCZOS4, in whole numbers."""
    lines, rows, weights = _across(pixels, height, width, _lanczos4)
    summed = np.full((height, width, pixels.shape[2]), ONE**2 // 2, np.int32)
    for taken, weight in zip(rows, weights[..., None, None], strict=True):
        summed += lines.take(taken, axis=0) * weight
    resized: np.ndarray = (summed >> 22).clip(0, 255).astype(np.uint8)
    return resized


Weights = Callable[[np.ndarray], np.ndarray]


def _across(
    pixels: np.ndarray, height: int, width: int, weights: Weights
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums along the rows, int32 (H, width, K); for each new row the old ones (taps, height), and their weights."""
    columns, across = _taps(pixels.shape[1], width, weights)
    rows, down = _taps(pixels.shape[0], height, weights)
    used = np.unique(rows)  # of an image that shrinks much, not all
    lines = np.zeros((len(used), width, pixels.shape[2]), np.int32)
    strips = pixels[used] if len(used) < len(pixels) else pixels
    for taken, weight in zip(columns, across[..., None], strict=True):
        lines += strips.take(taken, axis=1) * weight
    return lines, np.searchsorted(used, rows), down


def _taps(old: int, new: int, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``new`` pixels the old pixels around its position and their weights, int32, both (taps, new)."""
    positions = ((np.arange(new) + 0.5) * (1.0 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(positions).astype(np.int64)
    values = np.rint(weights(positions - first.astype(np.float32)) * np.float32(ONE)).astype(np.int32)
    begin = first - len(values) // 2 + 1
    return (begin + np.arange(len(values))[:, None]).clip(0, old - 1), values


def _cubic(f: np.ndarray) -> np.ndarray:
    """The weights (4, n) at fractions (n,), computed in float32 in OpenCV's order."""
    one, two, three, four, five, eight = (np.float32(number) for number in (1, 2, 3, 4, 5, 8))
    outer = ((A * (f + one) - five * A) * (f + one) + eight * A) * (f + one) - four * A
    inner = ((A + two) * f - (A + three)) * f * f + one
    other = ((A + two) * (one - f) - (A + three)) * (one - f) * (one - f) + one
    return np.stack([outer, inner, other, one - outer - inner - other])


def _lanczos4(f: np.ndarray) -> np.ndarray:
    """The weights (8, n) at fractions (n,): sin(πx) · sin(πx/4) / x², scaled so that their sum is 1."""
    half = np.sqrt(0.5)
    turns = [(1, 0), (-half, -half), (0, 1), (half, -half), (-1, 0), (half, half), (0, -1), (-half, half)]
    angle = -(f + np.float32(3)).astype(np.float64) * (np.pi / 4)
    sine, cosine = np.sin(angle), np.cos(angle)
    weights = []
    for tap, (of_sine, of_cosine) in enumerate(turns):
        distance = f + np.float32(3 - tap)
        square = (distance.astype(np.float64) * (np.pi / 4)) ** 2
        is_there = np.abs(distance) >= np.float32(1e-6)  # else the pixel itself counts, and no other
        value = np.divide(
            of_sine * sine + of_cosine * cosine, square, out=np.full_like(square, 1e30), where=is_there
        )
        weights.append(value.astype(np.float32))
    total = weights[0]
    for weight in weights[1:]:
        total = total + weight
    scaled: np.ndarray = np.stack(weights) * (np.float32(1) / total)
    return scaled


INTERPOLATIONS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "LINEAR": resize,
    "AREA": resize_area,
    "NEAREST": resize_nearest,
    "CUBIC": resize_cubic,
    "LANCZOS4": resize_lanczos4,
}
