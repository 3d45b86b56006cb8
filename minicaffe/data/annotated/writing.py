"""Images with annotations -> the AnnotatedDatums of an LMDB, with the keys that SSD's convert_annoset gives."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from minicaffe.data.annotated.annotation import Annotation, boxes_of
from minicaffe.data.annotated.datum import annotated_bytes
from minicaffe.data.annotated.label_map import LabelFinder
from minicaffe.data.annotated.listed import AnnotatedFiles
from minicaffe.data.augmentation.boxes import CORNERS
from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.data.image_datums import encoded_image, key_of
from minicaffe.data.resize import resize
from minicaffe.data.sources.lmdb_writer import datum_of
from minicaffe.errors import DataError, named, one_line

logger = logging.getLogger("minicaffe")
NO_CLASS = np.array([-1], np.float32)  # an image with boxes has no label of its own


def annotated_datums(
    found: AnnotatedFiles,
    order: np.ndarray,
    labels: LabelFinder,
    before_each: Callable[[], None],
    *,
    color: bool = True,
    size: tuple[int, int] | None = None,
    is_one_size: bool = False,
    is_encoded: bool = False,
    encoding: str | None = None,
) -> Iterator[tuple[bytes, bytes]]:
    """The key and the AnnotatedDatum of each image, in the order of these indices.

    ``labels``: for the names of objects. ``size``: (height, width) to resize to. ``is_one_size``: an image of
    another size than the first is an error. ``is_encoded``: as a JPEG or PNG, as ``encoding`` says (None: as the
    file is). An image that cannot be read is named and left out. Raises DataError.
    """
    shape: tuple[int, ...] | None = None
    odd = Counter[str]()
    for number, index in enumerate(order):
        before_each()
        file, name, annotation = found.files[index], found.names[index], found.annotations[index]
        try:
            image = decode_image(file, color)
        except BAD_IMAGE as error:
            logger.warning("%s: cannot be read (%s); it is left out", named(str(file)), one_line(error))
            continue
        boxes = boxes_of(annotation, (image.shape[1], image.shape[2]), labels)
        odd.update(_oddities(annotation, boxes, image.shape[1:]))
        if size:
            image = resize(image.transpose(1, 2, 0), *size).transpose(2, 0, 1)
        shape = shape or image.shape
        if is_one_size and image.shape != shape:
            sizes, first = (" × ".join(map(str, sides)) for sides in (image.shape, shape))
            raise DataError(f"{named(str(file))}: {sizes}, but the first is {first}; give --resize-height, …")
        kept = color and size is None
        encoded = encoded_image(named(str(file)), file, image, encoding, kept) if is_encoded else b""
        datum = datum_of(str(file), image, NO_CLASS, encoded)
        yield key_of(number, name), annotated_bytes(datum, boxes)
    for problem, count in odd.items():
        logger.warning("%s: %s", problem, f"{count:,}")


def _oddities(annotation: Annotation, boxes: np.ndarray, size: tuple[int, ...]) -> Iterator[str]:
    """What is worth a warning about an image, once for each time."""
    if annotation.size not in (None, size):
        yield "images whose size is not that in the annotation, by which boxes are divided"
    for _ in range(len(annotation.things) - len(boxes)):
        yield "boxes without an area, which are left out"
    is_beyond = ((boxes[:, CORNERS] < 0) | (boxes[:, CORNERS] > 1)).any(axis=1)
    x_min, y_min, x_max, y_max = boxes[:, CORNERS].T
    is_outside = (x_max <= 0) | (y_max <= 0) | (x_min >= 1) | (y_min >= 1)
    for _ in range(int((is_beyond & ~is_outside).sum())):
        yield "boxes that reach beyond their image, where they will be cut off"
    for _ in range(int(is_outside.sum())):
        yield "boxes that lie outside their image, of which nothing will be left"
