"""Boxes (x_min, y_min, x_max, y_max): offsets from priors and back, their overlap, and non-maximum suppression.

P boxes are arrays (…, P, 4) on the host, since the size of the results is not known beforehand.
The formulas are those of SSD's Caffe (``bbox_util.cpp`` in weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection import Array


def decode_corner(offsets: Array, priors: Array) -> Array:
    """CORNER: each corner is the prior's, moved by the offset."""
    decoded: Array = priors + offsets
    return decoded


def decode_corner_size(offsets: Array, priors: Array) -> Array:
    """CORNER_SIZE: each corner is the prior's, moved by the offset in units of the prior's size."""
    size = priors[..., 2:] - priors[..., :2]
    decoded: Array = priors + offsets * np.concatenate([size, size], axis=-1)
    return decoded


def decode_center_size(offsets: Array, priors: Array) -> Array:
    """CENTER_SIZE: the centre is moved in units of the prior's size, which grows by a factor of exp(offset)."""
    size = priors[..., 2:] - priors[..., :2]
    centre = (priors[..., :2] + priors[..., 2:]) / 2 + offsets[..., :2] * size
    half = np.exp(offsets[..., 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


DECODERS = {
    "CORNER": decode_corner,
    "CENTER_SIZE": decode_center_size,
    "CORNER_SIZE": decode_corner_size,
}


def decode(code_type: str, locations: Array, priors: Array, variances: Array | None) -> Array:
    """The boxes that locations of priors stand for: offsets, or offsets divided by variances if these are given."""
    offsets = locations if variances is None else locations * variances
    return DECODERS[code_type](offsets, priors)


def encode_corner(boxes: Array, priors: Array) -> Array:
    """CORNER: how far each corner is from the prior's."""
    offsets: Array = boxes - priors
    return offsets


def encode_corner_size(boxes: Array, priors: Array) -> Array:
    """CORNER_SIZE: how far each corner is from the prior's, in units of the prior's size."""
    size = priors[..., 2:] - priors[..., :2]
    offsets: Array = (boxes - priors) / np.concatenate([size, size], axis=-1)
    return offsets


def encode_center_size(boxes: Array, priors: Array) -> Array:
    """CENTER_SIZE: how far the centre is off, in units of the prior's size, and the log of the ratio of sizes."""
    size, prior_size = boxes[..., 2:] - boxes[..., :2], priors[..., 2:] - priors[..., :2]
    centre, prior_centre = ((some[..., :2] + some[..., 2:]) / 2 for some in (boxes, priors))
    return np.concatenate([(centre - prior_centre) / prior_size, np.log(size / prior_size)], axis=-1)


ENCODERS = {
    "CORNER": encode_corner,
    "CENTER_SIZE": encode_center_size,
    "CORNER_SIZE": encode_corner_size,
}


def areas(boxes: Array) -> Array:
    """Width · height; 0 for a box with its corners in the wrong order."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.where((width < 0) | (height < 0), 0, width * height)


def intersections(some: Array, others: Array) -> Array:
    """The area that boxes (…, 4) have in common with others (…, 4), of shapes that go together."""
    width, height = (
        np.minimum(some[..., axis + 2], others[..., axis + 2])
        - np.maximum(some[..., axis], others[..., axis])
        for axis in (0, 1)
    )
    return np.where((width > 0) & (height > 0), width * height, 0)


def overlaps(some: Array, others: Array) -> Array:
    """Intersection over union of boxes (…, 4) with others (…, 4), of shapes that go together."""
    common = intersections(some, others)
    union = areas(some) + areas(others) - common
    found: Array = np.divide(common, union, out=np.zeros_like(union), where=common > 0)
    return found


def best_first(scores: Array, threshold: float, most: int) -> Array:
    """Indices of the scores above the threshold, highest first, equal ones in order; at most ``most`` (−1: all)."""
    above = np.flatnonzero(scores > threshold)
    order = above[np.argsort(-scores[above], kind="stable")]
    return order if most < 0 else order[:most]


def suppress(boxes: Array, threshold: float, eta: float = 1.0, most: int = -1) -> Array:
    """Of boxes (P, 4), best first, the indices of those that overlap no kept one by more than ``threshold``.

    At most ``most`` are kept (−1: all).
    With ``eta`` below 1 the threshold is multiplied by it for each box that is kept, while it is above 0.5. The
    loop is over the boxes that are kept.
    """
    kept: list[int] = []
    highest = np.zeros(len(boxes), boxes.dtype)  # overlap of each box with those kept so far
    place = 0
    while True:
        fitting = highest[place:] <= threshold
        if len(kept) == most or not fitting.any():
            return np.array(kept, np.int64)
        place += int(fitting.argmax())
        kept.append(place)
        rest = slice(place + 1, None)
        np.maximum(highest[rest], overlaps(boxes[place], boxes[rest]), out=highest[rest])
        place += 1
        if eta < 1 and threshold > 0.5:
            threshold *= eta
