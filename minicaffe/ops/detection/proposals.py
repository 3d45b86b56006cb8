"""Proposals: which of the anchors of an image, moved by their offsets, may hold an object.

The anchors lie ``stride`` pixels apart. Moved, and clipped to the image, they are regions. Those smaller than asked
for are left out, or count as scored 0. The best ``before`` go through non-maximum suppression with a ``threshold``,
and of the rest the best ``after`` are proposed.

Faster R-CNN's (Ren et al. 2015, arXiv 1506.01497): ``proposal_layer.py`` in rbgirshick/py-faster-rcnn leaves small
regions out, ``proposal_layer.cpp`` in sanghoon/caffe, branch dev_pvanet, gives them score 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minicaffe.ops.detection import anchors, boxes

Array: TypeAlias = NDArray[Any]  # on the host


@dataclass(frozen=True, eq=False)
class Rules:
    """Which regions to propose: ``anchors`` (A, 4), ``stride`` pixels apart; the best ``before`` suppression with
    ``threshold``, the best ``after`` it, none smaller than ``least`` pixels of the image before it was scaled.

    ``scales``: how many of an image's are read, 1 for both sides or 2, of the height and of the width. ``drops``:
    small regions are left out; else they are scored 0. ``means``, ``stds``: of offsets, (4,).
    """

    anchors: Array
    stride: int
    before: int
    after: int
    threshold: float
    least: float
    scales: int = 2
    drops: bool = False
    means: Array = field(default_factory=lambda: np.zeros(4))
    stds: Array = field(default_factory=lambda: np.ones(4))


def propose(rules: Rules, scores: Array, offsets: Array, size: Array) -> tuple[Array, Array]:
    """One image's regions (R, 4), the best first, and their scores (R,).

    ``scores`` (2 · A, H, W), background first, and ``offsets`` (4 · A, H, W) are those of the anchors. ``size``:
    height, width, scale, and perhaps more.
    """
    (height, width, *scales), (_, rows, columns) = size.reshape(-1), scores.shape
    offsets = np.moveaxis(offsets, 0, -1).reshape(-1, 4)  # by row, column and anchor, as the anchors are
    scores = np.moveaxis(scores[len(rules.anchors) :], 0, -1).reshape(-1)
    offsets = (offsets * rules.stds + rules.means).astype(offsets.dtype)
    placed = anchors.at_each_cell(rules.anchors, rows, columns, rules.stride).astype(offsets.dtype)
    regions = anchors.clip(anchors.decode(offsets, placed), height, width)
    large = _are_large(regions, rules.least, scales[: rules.scales])
    if not rules.drops:
        scores = scores * large
    best = np.argsort(-scores, kind="stable")
    if rules.drops:
        best = best[large[best]]
    best = best[: rules.before]
    kept = boxes.suppress(anchors.with_both_corners(regions[best]), rules.threshold, most=rules.after)
    return regions[best[kept]], scores[best[kept]]


def _are_large(regions: Array, least: float, scales: list[float]) -> Array:
    """(R,): whether both sides are as long as asked for. ``scales``: of both sides, or of height and width."""
    sides, _ = anchors.sides_and_centres(regions)
    asked = np.array([scales[-1], scales[0]], regions.dtype) * regions.dtype.type(least)
    found: Array = (sides >= asked).all(axis=1)
    return found
