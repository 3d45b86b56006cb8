"""DetectNet's targets: a grid over the picture, whose cells say which object they lie on, and where its box is.

For a box (x, y, w, h), the coverage is a rectangle of the same middle, smaller by ``scale_cvg`` but

    GRIDBOX_MIN     at least min_cvg_len, if the box has as much        GRIDBOX_MAX     at most max_cvg_len

A cell of s × s pixels, s = ``stride``, which the coverage overlaps has these channels; all others are 0:

    0       1                                       5, 6    1 / w, 1 / h
    1, 2    x, y, from the cell's upper left        7       s² / area of the coverage, without obj_norm at least 1
    3, 4    x + w, y + h, likewise                  8 + k   1 for the object's class

Where boxes overlap, the last one has the cell. Boxes are cut at the picture's border if ``crop_bboxes``. All as in
detectnet_coverage_rectangular.cpp of NVIDIA/caffe, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CHANNELS = 8  # before those of the classes
TINY = np.finfo(np.float32).eps


@dataclass(frozen=True)
class Grid:
    """How boxes become a grid. ``classes``: {class number: index of its channel}; other classes are left out.

    ``limit``: min_cvg_len or max_cvg_len, as ``is_minimum`` says. ``image``: its width and height in pixels.
    """

    stride: int
    scale: float
    limit: float
    is_minimum: bool
    image: tuple[int, int]
    is_normed: bool
    cuts_boxes: bool
    classes: Mapping[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns)."""
        width, height = (int(np.rint(np.float32(side) * np.float32(1 / self.stride))) for side in self.image)
        return CHANNELS + 1 + max(self.classes.values()), height, width

    def fill(self, boxes: np.ndarray, classes: np.ndarray, out: np.ndarray) -> None:
        """Write the grid (channels, rows, columns) of boxes (B, 4), float32, with class numbers (B,)."""
        out.fill(0)
        for box, number in zip(boxes, classes, strict=True):
            if self.cuts_boxes:
                box = _overlap(box, np.array([0, 0, *self.image], np.float32))
            if int(number) in self.classes and box[2] * box[3] >= TINY:
                self._mark(box, self.classes[int(number)], out)

    def _coverage(self, box: np.ndarray) -> np.ndarray:
        """The rectangle of a box on which its cells lie."""
        side, small = box[2:], box[2:] * np.float32(self.scale)
        limit = np.float32(self.limit)
        small = np.minimum(side, np.maximum(limit, small)) if self.is_minimum else np.minimum(limit, small)
        middle = (box[:2] + (box[:2] + side)) * np.float32(0.5)
        first, last = middle - small / 2, middle + small / 2
        return np.concatenate([first, last - first])  # from corner to corner, as there: not quite ``small``

    def _mark(self, box: np.ndarray, channel: int, out: np.ndarray) -> None:
        """Give a box the cells that its coverage overlaps."""
        stride, covered = np.float32(self.stride), self._coverage(box)
        if not covered[2] * covered[3] > 0:
            return
        first, last = covered[:2] / stride, (covered[:2] + covered[2:]) / stride
        columns, rows = (
            np.arange(max(0, math.floor(first[i])), min(math.ceil(last[i]), out.shape[2 - i])) for i in (0, 1)
        )
        overlaps = [
            np.minimum(covered[i] + covered[2 + i], (cells + 1) * stride)
            - np.maximum(covered[i], cells * stride)
            for i, cells in enumerate((columns, rows))
        ]
        share = np.maximum(overlaps[1], 0)[:, None] * np.maximum(overlaps[0], 0) / stride**2
        y, x = (index[share > TINY] for index in np.meshgrid(rows, columns, indexing="ij"))
        left, top = x.astype(np.float32) * stride, y.astype(np.float32) * stride
        out[CHANNELS:, y, x] = 0
        out[CHANNELS + channel, y, x] = 1
        density = stride**2 / (covered[2] * covered[3])
        values = (
            *(1, box[0] - left, box[1] - top, box[0] + box[2] - left, box[1] + box[3] - top),
            *(1 / box[2], 1 / box[3], density if self.is_normed else max(1, density)),
        )
        for index, value in enumerate(values):
            out[index, y, x] = value


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rectangle that two have in common, of zeros if there is none."""
    first = np.maximum(a[:2], b[:2])
    side = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - first
    return np.concatenate([first, side]) if (side > 0).all() else np.zeros(4, np.float32)
