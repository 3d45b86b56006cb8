"""The boxes of a batch as the label that a detector's loss takes: SSD's, or that of MobileNet-YOLO's Caffe."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from minicaffe.data.augmentation.boxes import CORNERS, DIFFICULT, LABEL

logger = logging.getLogger("minicaffe")
MOST_YOLO = 300  # boxes of an image in a label of YOLO


class SsdLabels:
    """A row for each box of the batch, (1, 1, G, 8), or one row of −1 where there is none:

    image, label, instance, x_min, y_min, x_max, y_max, difficult
    """

    def shape(self, images: int, boxes: int) -> tuple[int, ...]:
        """Of a batch of ``images`` with ``boxes`` on them in all."""
        return 1, 1, max(boxes, 1), 8

    def __call__(self, boxes: Sequence[np.ndarray]) -> np.ndarray:
        """The label of a batch, batch axis last: (1, G, 8, 1), from the boxes (n, 7) of each image."""
        images = np.repeat(np.arange(len(boxes), dtype=np.float32), [len(rows) for rows in boxes])
        label = np.column_stack([images, np.concatenate(boxes)])
        return (label if len(label) else np.full((1, 8), -1, np.float32))[None, :, :, None]


class YoloLabels:
    """300 rows for each image, (N, 1, 300, 5), of zeros where there are fewer boxes:

    label − 1, x_centre, y_centre, width, height
    """

    def __init__(self, with_difficult: bool) -> None:
        """``with_difficult``: whether difficult boxes are among them."""
        self.with_difficult = with_difficult
        self._warned = False

    def shape(self, images: int, boxes: int) -> tuple[int, ...]:
        """Of a batch of ``images``."""
        return images, 1, MOST_YOLO, 5

    def __call__(self, boxes: Sequence[np.ndarray]) -> np.ndarray:
        """The label of a batch, batch axis last: (1, 300, 5, N), from the boxes (n, 7) of each image."""
        label = np.zeros((1, MOST_YOLO, 5, len(boxes)), np.float32)
        for n, rows in enumerate(boxes):
            if not self.with_difficult:
                rows = rows[rows[:, DIFFICULT] == 0]
            if len(rows) > MOST_YOLO and not self._warned:
                self._warned = True
                logger.warning("an image with %d boxes: the first %d are in the label", len(rows), MOST_YOLO)
            corners = rows[:MOST_YOLO, CORNERS]
            label[0, : len(corners), 0, n] = rows[:MOST_YOLO, LABEL] - 1
            label[0, : len(corners), 1:3, n] = (corners[:, :2] + corners[:, 2:]) / np.float32(2)
            label[0, : len(corners), 3:, n] = corners[:, 2:] - corners[:, :2]
        return label


Labels = SsdLabels | YoloLabels
