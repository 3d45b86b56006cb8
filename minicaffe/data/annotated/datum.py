"""AnnotatedDatum, what SSD's databases hold: an image, and groups of boxes, a group for each label on it.

The messages are those of weiliu89/caffe, branch ssd. Coordinates are in units of the image's sides, so that they
need not change where the image is resized.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.caffe.formats.messages import message_class, parse_message
from minicaffe.data.augmentation.boxes import COLUMNS, CORNERS, DIFFICULT, INSTANCE, LABEL
from minicaffe.errors import DataError

BBOX = 0
WITH_BOXES = (BBOX, 1)  # 1 is MobileNet-YOLO's: boxes, and a mask beside the image
CORNER_NAMES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotated:
    """One image, uint8 (C, H, W), and its boxes (n, 7), as ``boxes.py`` has them.

    ``kind`` is its AnnotationType, None where it has none: then ``label`` is what is known of it. ``mask`` is an
    image file with a class for each pixel, empty where there is none.
    """

    image: np.ndarray
    boxes: np.ndarray
    label: int = 0
    kind: int | None = BBOX
    mask: bytes = b""


def parse_annotated(value: bytes) -> tuple[Any, Any, np.ndarray]:
    """The AnnotatedDatum in ``value``, the Datum in it, and its boxes (n, 7). Raises DataError if there is none."""
    annotated = parse_message("AnnotatedDatum", value)
    if not annotated.HasField("datum"):
        raise DataError("has no image in it; is it a Datum? it must be an AnnotatedDatum")
    return annotated, parse_message("Datum", annotated.datum), _boxes(annotated.annotation_group)


def _boxes(groups: Iterable[bytes]) -> np.ndarray:
    rows = []
    for data in groups:
        group = parse_message("AnnotationGroup", data)
        for annotation in group.annotation:
            one = parse_message("Annotation", annotation)
            box = parse_message("NormalizedBBox", one.bbox)
            corners = [getattr(box, name) for name in CORNER_NAMES]
            rows.append([group.group_label, one.instance_id, *corners, box.difficult])
    boxes = np.array(rows, np.float32).reshape(-1, COLUMNS)
    if not np.isfinite(boxes).all():
        raise DataError("a box has a corner that is not a number")
    return boxes


def annotated_bytes(datum: bytes, boxes: np.ndarray) -> bytes:
    """An AnnotatedDatum of a Datum and its boxes (n, 7), one group for each label, in the order of their first."""
    annotated = message_class("AnnotatedDatum")(datum=datum, type=BBOX)
    for label in dict.fromkeys(boxes[:, LABEL].tolist()):
        group = message_class("AnnotationGroup")(group_label=int(label))
        for row in boxes[boxes[:, LABEL] == label]:
            box = message_class("NormalizedBBox")(difficult=bool(row[DIFFICULT]))
            for name, value in zip(CORNER_NAMES, row[CORNERS].tolist(), strict=True):
                setattr(box, name, value)
            annotation = message_class("Annotation")(
                instance_id=int(row[INSTANCE]), bbox=box.SerializeToString()
            )
            group.annotation.append(annotation.SerializeToString())
        annotated.annotation_group.append(group.SerializeToString())
    written: bytes = annotated.SerializeToString()
    return written
