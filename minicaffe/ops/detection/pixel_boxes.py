"""Boxes in pixels of an image, which are counted with both ends: a box from 3 to 5 is 3 pixels wide.

Boxes are arrays (…, 4) as in ``boxes.py``; ``size`` is a height and a width. As ``OutputBBox`` and
``JaccardOverlap`` of SSD's Caffe have it (``bbox_util.cpp`` in weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection import Array
from minicaffe.ops.detection.boxes import areas


def in_pixels(boxes: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes that are fractions of an image in its pixels, and their areas (…,)."""
    height, width = size
    pixels = boxes.clip(0, 1) * np.array([width, height] * 2, boxes.dtype)
    ends = 1 if max(size) > 1 else 0
    sides = pixels[..., 2:] - pixels[..., :2]
    return pixels, np.where((sides < 0).any(axis=-1), 0, (sides + ends).prod(axis=-1))


def scaled_to_pixels(boxes: Array, scale: tuple[int, int], size: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes times a height and a width, cut off at the image's border, and their areas without both ends."""
    pixels = (boxes * np.array([scale[1], scale[0]] * 2, boxes.dtype)).clip(
        0, np.array([size[1], size[0]] * 2, boxes.dtype)
    )
    return pixels, areas(pixels)


def without_padding(boxes: Array, size: tuple[int, int], padded: tuple[int, int]) -> Array:
    """Fractions of a padded image as fractions of the image in its middle; a box that is all padding stays.

    ``size`` is of the image, before it was made as large as the ``padded`` one has room for.
    """
    height, width = padded
    aspect = size[1] / size[0]
    low = np.zeros(4, boxes.dtype)
    if aspect > width / height:
        low[1::2] = (height - width / aspect) / 2 / height
    else:
        low[0::2] = (width - height * aspect) / 2 / width
    high = 1 - low
    is_seen = ((boxes[..., :2] < high[:2]) & (boxes[..., 2:] > low[2:])).all(axis=-1, keepdims=True)
    return np.where(is_seen, (boxes - low) / (high - low), boxes)


def pixel_overlaps(some: tuple[Array, Array], others: tuple[Array, Array]) -> Array:
    """Intersection over union of boxes with their areas, where pixels are counted with both ends.

    Boxes that do not touch have one pixel in common, as in SSD's Caffe.
    """
    (a, area), (b, other_area) = some, others
    is_apart = ((b[..., :2] > a[..., 2:]) | (b[..., 2:] < a[..., :2])).any(axis=-1, keepdims=True)
    sides = 1 + np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.where(is_apart, 1, sides)
    common = np.where((sides > 0).all(axis=-1), sides.prod(axis=-1), 0)
    found: Array = np.divide(common, area + other_area - common, out=np.zeros_like(common), where=common > 0)
    return found
