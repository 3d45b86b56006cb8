"""Hard examples: those priors of an image that a detector learns most from, which are few.

Arrays are of the host, since how many are chosen is not known beforehand. The rules are those of
``MineHardExamples`` in SSD's Caffe (``bbox_util.cpp`` in weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection import Array
from minicaffe.ops.detection.boxes import areas, overlaps

SMALL = 1e-5  # boxes of a smaller area are not chosen in non-maximum suppression


def hardest(losses: Array, eligible: Array, most: int) -> Array:
    """Indices of the ``most`` highest of the losses (P,) that are eligible (P,); of equal ones the first."""
    candidates = np.flatnonzero(eligible)
    return candidates[np.argsort(-losses[candidates], kind="stable")[:most]]


def hardest_apart(
    losses: Array, eligible: Array, most: int, boxes: Array, threshold: float, top_k: int
) -> Array:
    """As ``hardest``, of boxes (P, 4) that overlap none with a higher loss by more than ``threshold``.

    Only the ``top_k`` highest losses are looked at (−1: all).
    """
    order = hardest(losses, eligible, int(eligible.sum()) if top_k < 0 else top_k)
    order = order[areas(boxes[order]) >= SMALL]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        kept.append(int(order[0]))
        order = order[1:][~(overlaps(boxes[order[0]], boxes[order[1:]]) > threshold)]
    return np.array(kept, np.int64)
