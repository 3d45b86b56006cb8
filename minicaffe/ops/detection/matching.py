"""Which box of an image each prior has to find, as SSD trains (Liu et al. 2016, arXiv 1512.02325, section 2.2).

P priors and G boxes of one image are arrays (P, 4) and (G, 4) on the host. A match is the index of a box, NONE (−1)
or IGNORED (−2): an ignored prior counts neither as matched nor as background. The rules are those of ``MatchBBox``
in SSD's Caffe (``bbox_util.cpp`` in weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection import Array
from minicaffe.ops.detection.boxes import overlaps

NONE, IGNORED = -1, -2
LEAST = 1e-6  # an overlap up to this is none


def match(priors: Array, boxes: Array, threshold: float | None, ignore_outside: bool) -> tuple[Array, Array]:
    """Matches (P,), and the highest overlap of each prior with any of the boxes (P,).

    First each box gets a prior of its own: the pair with the highest overlap, then the highest of the rest, and so
    on; of equal ones the first prior, then the first box. Then every other prior gets the box that it overlaps
    most, if by ``threshold`` or more (None: no further ones). ``ignore_outside``: priors that reach out of the
    image, the unit square, are ignored.
    """
    matches = np.full(len(priors), NONE)
    overlap = overlaps(boxes[:, None], priors)  # (G, P)
    overlap[~(overlap > LEAST)] = 0
    if ignore_outside and len(boxes):
        outside = ((priors < 0) | (priors > 1)).any(axis=1)
        matches[outside] = IGNORED
        overlap[:, outside] = 0
    highest = overlap.max(axis=0, initial=0)
    _give_each_box_its_best(overlap, matches)
    if threshold is not None and len(boxes):
        more = (matches == NONE) & (highest >= threshold) & (highest > 0)
        matches[more] = overlap[:, more].argmax(axis=0)
    return matches, highest


def _give_each_box_its_best(overlap: Array, matches: Array) -> None:
    """Match each box with one prior, by overlaps (G, P); the loop is over the boxes."""
    if not overlap.size:
        return
    free, boxes = overlap.copy(), np.arange(len(overlap))
    best = free.argmax(axis=1)  # the first prior that overlaps each box most
    for _ in boxes:
        box = free[boxes, best].argmax()
        prior = best[box]
        if not free[box, prior] > 0:
            return
        matches[prior] = box
        free[box], free[:, prior] = 0, 0
        lost = best == prior
        best[lost] = free[lost].argmax(axis=1)
