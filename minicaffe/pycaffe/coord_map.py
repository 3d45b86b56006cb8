"""Crop layers for a NetSpec that align one blob with another (``caffe/formats/coordinates.py``)."""

from __future__ import annotations

import numpy as np

from minicaffe.caffe.formats.coordinates import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    inverse,
)
from minicaffe.pycaffe.net_spec import Top, layers

__all__ = [
    "AxisMismatchException",
    "UndefinedMapException",
    "compose",
    "coord_map",
    "coord_map_from_to",
    "crop",
    "inverse",
]


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that aligns ``top_from`` with ``top_to``. Raises AssertionError if they do not fit."""
    axis, a, b = coord_map_from_to(top_from, top_to)
    assert np.all(a == 1), f"scale mismatch on crop (a = {a})"
    assert np.all(b <= 0), f"cannot crop negative offset (b = {b})"
    assert np.all(np.round(b) == b), f"cannot crop noninteger offset (b = {b})"
    offset = [round(-float(value)) for value in np.atleast_1d(b)]
    cropped: Top = layers.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
    return cropped
