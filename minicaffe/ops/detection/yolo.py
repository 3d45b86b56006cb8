"""Boxes of YOLO: each cell of a grid predicts one for each of its anchors, with a centre inside the cell.

    x = (column + a) / W    y = (row + b) / H    w = p_w · exp(c)    h = p_h · exp(d)

for a cell's predictions a and b in [0, 1], c and d, and an anchor p, in fractions of the image (Redmon and Farhadi
2016, arXiv 1612.08242). Of A anchors, a grid of H × W cells and N images, predictions are arrays (A, H, W, N) and
boxes (4, A, H, W, N): x and y of the centre, width and height.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from minicaffe.device.array import Array, module_of
from minicaffe.ops.detection import boxes as corner_boxes
from minicaffe.ops.detection.detection_rows import rows_of_images


def grid_boxes(a: Array, b: Array, c: Array, d: Array, anchors: ArrayLike) -> Array:
    """Boxes (4, A, H, W, N) from predictions (A, H, W, N) and anchors (A, 2): p_w and p_h."""
    xp, (_, height, width, _) = module_of(a), a.shape
    found: Array = xp.empty((4, *a.shape), a.dtype)
    rows, columns = xp.arange(height, dtype=a.dtype), xp.arange(width, dtype=a.dtype)
    xp.divide(a + columns[:, None], width, out=found[0])
    xp.divide(b + rows[:, None, None], height, out=found[1])
    with np.errstate(over="ignore"):
        xp.exp(c, out=found[2])
        xp.exp(d, out=found[3])
    found[2:] *= xp.asarray(anchors, a.dtype).T[:, :, None, None, None]
    return found


def by_image(predictions: Array) -> Array:
    """(N, P, …) from (…, A, H, W, N), with P = H · W · A in this order."""
    *front, anchors, height, width, images = predictions.shape
    ordered = predictions.reshape(math.prod(front), anchors, height, width, images).transpose(4, 2, 3, 1, 0)
    found: Array = ordered.reshape(images, height * width * anchors, *front)
    return found


def detections(
    boxes: np.ndarray, labels: np.ndarray, confidences: np.ndarray, counts: np.ndarray, threshold: float
) -> np.ndarray:
    """The boxes (D, 7) that are left: image, label, confidence, x_min, y_min, x_max, y_max.

    ``boxes`` are (N, P, 4) with centres, the others (N, P); ``counts`` says which boxes count. Of these, the best
    first, a box goes if its overlap with a better one that stays is at least ``threshold``, whatever the labels. If
    no image has one, there is a row of −1 for each, with the image's number.
    """
    found = []
    # the largest overlap with which a box stays is the number before the threshold
    below = np.nextafter(boxes.dtype.type(threshold), -np.inf, dtype=boxes.dtype)
    for image, counting in enumerate(counts):
        centre, size = np.split(boxes[image, counting], 2, axis=-1)
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=-1)
        label, confidence = labels[image, counting], confidences[image, counting]
        order = corner_boxes.best_first(confidence, -np.inf, -1)
        with np.errstate(invalid="ignore"):  # of boxes too large for numbers
            kept = order[corner_boxes.suppress(corners[order], below)]
        number = np.full(len(kept), image)
        found.append(
            np.concatenate([np.stack([number, label[kept], confidence[kept]], axis=1), corners[kept]], 1)
        )
    return rows_of_images(found, len(boxes))
