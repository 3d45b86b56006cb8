"""The boxes that a batch's images have, in rows as AnnotatedData makes them.

A row has 8 numbers: the image's number in the batch, the label, the number of the box among those of its label,
x_min, y_min, x_max, y_max as fractions of the image, and whether the box is difficult. Rows of image −1 are none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicaffe.errors import DataError
from minicaffe.ops.detection import Array

ROW = 8


class GroundTruth(NamedTuple):
    """R boxes, those of an image one after the other: images, labels (R,), boxes (R, 4), is_difficult (R,)."""

    images: Array
    labels: Array
    boxes: Array
    is_difficult: Array

    def of(self, image: int) -> slice:
        """Where the boxes of an image are."""
        return slice(*np.searchsorted(self.images, [image, image + 1]))


def ground_truth(rows: Array, classes: int, background: int) -> GroundTruth:
    """The boxes in rows (R, 8), those of an image in their order.

    If there are two classes, a label above 1 counts as 1: any object, as RefineDet's first detector has it. Raises
    DataError for a label that is the background or no class, and for numbers that are not finite.
    """
    if not np.isfinite(rows).all():
        raise DataError("the boxes have a number that is nan or infinite")
    rows = rows[rows[:, 0] >= 0]
    rows = rows[np.argsort(rows[:, 0].astype(np.int64), kind="stable")]
    labels = rows[:, 1].astype(np.int64)
    if classes == 2:
        labels = np.minimum(labels, 1)
    wrong = (labels < 0) | (labels >= classes) | (labels == background)
    if wrong.any():
        besides = f", and {background} is the background" if 0 <= background < classes else ""
        raise DataError(
            f"a box has label {labels[wrong][0]}, but there are {classes} classes, 0 to {classes - 1}{besides}"
        )
    return GroundTruth(rows[:, 0].astype(np.int64), labels, rows[:, 3:7], rows[:, 7] != 0)
