"""Detections in rows of 7, as DetectionOutput and YOLO's layers make them:

image, label, confidence, x_min, y_min, x_max, y_max
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.ops.detection import Array

DETECTION = 7


def rows_of_images(found: Sequence[Array], images: int) -> Array:
    """The rows of all images (D, 7); if there is none, a row of −1 for each image, with its number."""
    rows = np.concatenate([np.empty((0, DETECTION)), *found])
    if not len(rows):
        rows = np.full((images, DETECTION), -1.0)
        rows[:, 0] = np.arange(images)
    return rows
