"""The boxes of one image, and where they lie on a part of it.

Boxes are rows of float32, (n, 7):

    label, instance, x_min, y_min, x_max, y_max, difficult

with corners in units of the image's width and height, from 0 to 1. A view is a box (4,): the part of an image that
is looked at, which may reach beyond its border. All is computed in float32, as in ``bbox_util.cpp`` of
weiliu89/caffe, branch ssd.
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection.boxes import areas, intersections
from minicaffe.spec.fields import Enum, Float, Message

COLUMNS = 7
LABEL, INSTANCE, DIFFICULT = 0, 1, 6
CORNERS = slice(2, 6)
WHOLE = np.array([0, 0, 1, 1], np.float32)  # the view of all of an image


class EmitConstraint(Message):
    """Which boxes remain on a part of an image: those whose centre is there, or that overlap it enough.

    ``emit_overlap``: the least part of a box that lies in the view.
    """

    emit_type = Enum("CENTER", "MIN_OVERLAP", default="CENTER")
    emit_overlap = Float(0.0)

    def met_by(self, corners: np.ndarray, view: np.ndarray) -> np.ndarray:
        """Whether each of (n, 4) remains in a view: (n,)."""
        if self.emit_type == "MIN_OVERLAP":
            return coverage(corners, view) > np.float32(self.emit_overlap)
        centres = (corners[:, :2] + corners[:, 2:]) / np.float32(2)
        is_inside: np.ndarray = ((centres >= view[:2]) & (centres <= view[2:])).all(axis=1)
        return is_inside


def coverage(corners: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The part of each box (…, 4) that another covers, 0 … 1."""
    common = intersections(corners, by)
    covered: np.ndarray = np.divide(common, areas(corners), out=np.zeros_like(common), where=common > 0)
    return covered


def seen_from(view: np.ndarray, rows: np.ndarray, constraint: EmitConstraint | None) -> np.ndarray:
    """The boxes that are in a view and meet the constraint, in units of the view, cut off at its border: (k, 7)."""
    corners = rows[:, CORNERS]
    remains = (corners[:, :2] < view[2:]).all(axis=1) & (corners[:, 2:] > view[:2]).all(axis=1)
    if constraint is not None:
        remains &= constraint.met_by(corners, view)
    rows = rows[remains]
    size = view[2:] - view[:2]
    rows[:, CORNERS] = ((rows[:, CORNERS] - np.tile(view[:2], 2)) / np.tile(size, 2)).clip(0, 1)
    return rows[areas(rows[:, CORNERS]) > 0]


def mirrored(rows: np.ndarray) -> np.ndarray:
    """The boxes on an image whose left and right are exchanged."""
    rows = rows.copy()
    rows[:, [2, 4]] = np.float32(1) - rows[:, [4, 2]]
    return rows
