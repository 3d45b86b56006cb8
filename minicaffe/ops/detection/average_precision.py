"""Average precision: how well scores tell true detections from false ones, as one number.

D detections of one class, with the highest score first, give D points: of the first i, precision is the share that
is true, and recall is the number of true ones divided by the number of boxes that are to be found.

    11point       (1 / 11) · Σ over r = 0, 0.1, …, 1 of the highest precision at a recall of r or more: VOC 2007
    MaxIntegral   Σ (recallᵢ − recallᵢ₋₁) · the highest precision at point i − 1 or later: VOC 2012, ILSVRC
    Integral      Σ (recallᵢ − recallᵢ₋₁) · precisionᵢ

This is ``ComputeAP`` of SSD's Caffe (``bbox_util.cpp`` in weiliu89/caffe, branch ssd). Recall and precision are
float32, so that a recall of 7 / 10 is less than 0.7, as it is there.

Of several classes, detections and the numbers of boxes to be found are rows of 5, as DetectionEvaluate makes them:

    −1, class, boxes to be found, −1, −1                    one or more for each class
    image, label, confidence, is true (1 or 0), is false    one for each detection

A detection that is neither true nor false does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from minicaffe.ops.detection import Array

SMALL = 1e-6  # a smaller step in recall is none


def eleven_points(precision: Array, recall: Array) -> float:
    """The mean of the highest precision at a recall of 0, 0.1, …, 1 or more."""
    recall = recall.astype(np.float64)  # before it is compared: see above
    best = [precision[recall >= r / 10].max(initial=0) for r in range(11)]
    return float(np.mean(best))


def max_integral(precision: Array, recall: Array) -> float:
    """The integral of the highest precision at a point or later."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(recall[0] * best[0] + (_steps(recall[:-1], recall[1:]) * best[:-1]).sum())


def integral(precision: Array, recall: Array) -> float:
    """The integral of precision over recall."""
    before = np.concatenate([[0], recall[:-1]])
    return float((_steps(before, recall) * precision).sum())


def _steps(before: Array, after: Array) -> Array:
    step = after.astype(np.float64) - before
    return np.where(step > SMALL, step, 0)


VERSIONS: dict[str, Callable[[Array, Array], float]] = {
    "11point": eleven_points,
    "MaxIntegral": max_integral,
    "Integral": integral,
}


def average_precision(scores: Array, is_true: Array, to_find: int, version: str) -> float:
    """The average precision of detections with these scores (D,), of which some are true (D,).

    ``to_find`` is the number of boxes to be found. 0 if there is none, or no detection. Of equal scores the first
    counts as higher.
    """
    if not len(scores) or not to_find:
        return 0.0
    found = np.cumsum(is_true[np.argsort(-scores, kind="stable")]).astype(np.float32)
    precision = found / np.arange(1, len(scores) + 1, dtype=np.float32)
    return VERSIONS[version](precision, found / np.float32(to_find))


def precision_by_class(rows: Array, version: str) -> dict[int, float]:
    """The average precision of each class, from the rows (D, 5) of all batches."""
    is_count = rows[:, 0] == -1
    judged = rows[~is_count & (rows[:, 3:] != 0).any(axis=1)]
    precisions = {}
    for label in np.unique(rows[is_count, 1]):
        to_find = rows[is_count & (rows[:, 1] == label), 2].sum()
        own = judged[judged[:, 1] == label]
        precisions[int(label)] = average_precision(own[:, 2], own[:, 3] != 0, int(to_find), version)
    return precisions


def mean_precision(precisions: Mapping[int, float]) -> float:
    """The mean over all classes, also of those that no image has: 0 counts as theirs, as in SSD's Caffe."""
    return sum(precisions.values()) / max(1, len(precisions))
