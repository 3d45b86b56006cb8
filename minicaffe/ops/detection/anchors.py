"""Anchors: boxes of given sizes and shapes at each cell of a feature map, and other boxes described by them.

Boxes (x1, y1, x2, y2) are in pixels of the net's input. Both corners belong to a box, so it is x2 − x1 + 1
wide. Arrays are on the host.

The formulas are those of Faster R-CNN (Ren et al. 2015, arXiv 1506.01497; ``generate_anchors.py`` and
``bbox_transform.py`` in rbgirshick/py-faster-rcnn, ``proposal_layer.cpp`` in sanghoon/caffe, branch
dev_pvanet).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minicaffe.ops.detection import Array


def round_half_up(values: Array) -> Array:
    """The nearest whole numbers of positive ones, as C++ code rounds that adds a half and cuts off."""
    return np.floor(values + 0.5)


def anchors_of(
    base_size: int,
    ratios: Sequence[float],
    scales: Sequence[float],
    rounded: Callable[[Array], Array] = round_half_up,
) -> Array:
    """One cell's anchors (A, 4): those of the first ratio (height / width) at all scales, then of the next.

    Each has the centre of the box (0, 0, base_size − 1, base_size − 1), and is a box of about the same area with
    whole numbers as sides, times the scale.
    """
    ratio = np.array(ratios, np.float64)
    width = rounded(np.sqrt(base_size**2 / ratio))
    sides = (
        np.stack([width, rounded(width * ratio)], axis=-1)[:, None] * np.array(scales, np.float64)[:, None]
    )
    centre, half = (base_size - 1) / 2, (sides.reshape(-1, 2) - 1) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def at_each_cell(anchors: Array, height: int, width: int, stride: float) -> Array:
    """The anchors (A, 4) at all cells, row after row: (H · W · A, 4)."""
    y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
    moved: Array = np.stack([x, y, x, y], axis=-1)[:, :, None] + anchors
    return moved.reshape(-1, 4)


def sides_and_centres(boxes: Array) -> tuple[Array, Array]:
    """Width and height, and the centre, of boxes (…, 4): each (…, 2)."""
    sides: Array = boxes[..., 2:] - boxes[..., :2] + boxes.dtype.type(1)
    return sides, boxes[..., :2] + sides * boxes.dtype.type(0.5)


def decode(offsets: Array, anchors: Array) -> Array:
    """Boxes (…, 4): centres moved in units of the anchor's sides, and sides grown by a factor of exp(offset).

    Like Faster R-CNN's, they reach from half a side before the centre to half a side after it; one pixel more than
    ``encode`` would have it.
    """
    sides, centres = sides_and_centres(anchors)
    centres = offsets[..., :2] * sides + centres
    with np.errstate(over="ignore"):
        half = np.exp(offsets[..., 2:]) * sides * offsets.dtype.type(0.5)
    return np.concatenate([centres - half, centres + half], axis=-1)


def encode(boxes: Array, anchors: Array) -> Array:
    """The offsets (…, 4) of boxes from anchors."""
    (sides, centres), (from_sides, from_centres) = sides_and_centres(boxes), sides_and_centres(anchors)
    return np.concatenate([(centres - from_centres) / from_sides, np.log(sides / from_sides)], axis=-1)


def clip(boxes: Array, height: float, width: float) -> Array:
    """Boxes (…, 4) cut off at the borders of an image."""
    last = np.array([width, height, width, height], boxes.dtype) - boxes.dtype.type(1)
    clipped: Array = np.maximum(np.minimum(boxes, last), boxes.dtype.type(0))
    return clipped


def with_both_corners(boxes: Array) -> Array:
    """The same boxes (…, 4) for functions to which a box is x2 − x1 wide."""
    both: Array = boxes + np.array([0, 0, 1, 1], boxes.dtype)
    return both


def overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of each of boxes (P, 4) with each of others (G, 4): (P, G)."""
    (sides, _), (other_sides, _) = sides_and_centres(boxes), sides_and_centres(others)
    common = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2]) + 1
    area = np.maximum(common, 0).prod(axis=2)
    overlap: Array = area / (sides.prod(axis=1)[:, None] + other_sides.prod(axis=1) - area)
    return overlap
