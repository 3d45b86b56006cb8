"""What an annotation file says of one image: the objects on it, by name, with boxes in pixels."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minicaffe.data.annotated.label_map import LabelFinder
from minicaffe.data.augmentation.boxes import COLUMNS
from minicaffe.errors import DataError, named

logger = logging.getLogger("minicaffe")


@dataclass(frozen=True)
class Thing:
    """One object: its name, x_min, y_min, x_max and y_max in pixels, and whether it is difficult to detect.

    A name that is an int is the label itself. ``where`` says where it is named, for errors.
    """

    name: str | int
    corners: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass(frozen=True)
class Annotation:
    """The objects on an image of ``size`` (height, width); None: the annotation does not say its size."""

    things: list[Thing] = field(default_factory=list)
    size: tuple[int, int] | None = None


def box_of(where: str, values: Mapping[str, object]) -> tuple[float, float, float, float]:
    """Four numbers, by the names that errors give them. Raises DataError for what is not a number."""
    numbers = []
    for name, value in values.items():
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"{where}: {name}: expected a number of pixels, got '{named(str(value))}'")
        numbers.append(number)
    x_min, y_min, x_max, y_max = numbers
    return x_min, y_min, x_max, y_max


def boxes_of(annotation: Annotation, size: tuple[int, int], labels: LabelFinder) -> np.ndarray:
    """The boxes (n, 7) of an image, as ``data/augmentation/boxes.py`` has them, with ``labels`` for names.

    Boxes are divided by the size that the annotation tells, else by that of the image, ``size``. Those without an
    area are left out. Objects of a label are numbered from 0 on. Raises DataError for a name without a label, or
    with that of the background.
    """
    height, width = annotation.size or size
    rows, instances = [], dict[int, int]()
    for thing in annotation.things:
        label = labels.of(thing.name, thing.where)
        x_min, y_min, x_max, y_max = thing.corners
        if x_min >= x_max or y_min >= y_max:
            continue
        instance = instances.get(label, 0)
        instances[label] = instance + 1
        corners = (x_min / width, y_min / height, x_max / width, y_max / height)
        rows.append([label, instance, *corners, thing.difficult])
    return np.array(rows, np.float32).reshape(-1, COLUMNS)
