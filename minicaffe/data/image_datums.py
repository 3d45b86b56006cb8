"""Image files -> the Datums of an LMDB, with the keys that Caffe's convert_imageset gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from minicaffe.data.decode import encode_image
from minicaffe.data.sources.image_list import ImageListSource
from minicaffe.data.sources.lmdb_writer import datum_of
from minicaffe.errors import DataError

logger = logging.getLogger("minicaffe")
KIND_OF_SUFFIX = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}
LONGEST_KEY = 511  # bytes, in an LMDB


def image_datums(
    source: ImageListSource,
    order: np.ndarray,
    before_each: Callable[[], None],
    *,
    is_one_size: bool = False,
    is_encoded: bool = False,
    encoding: str | None = None,
) -> Iterator[tuple[bytes, bytes]]:
    """The key and the Datum of each image, in the order of these indices.

    ``is_one_size``: an image of another size than the first is an error. ``is_encoded``: a Datum holds a JPEG or
    PNG instead of pixels, as ``encoding`` says ("jpg", "png"; None: as the file is). An image that cannot be read
    is named and left out, as in Caffe. Raises DataError.
    """
    shape: tuple[int, ...] | None = None
    for number, index in enumerate(order):
        before_each()
        try:
            images, labels = source.read(np.array([index]))
        except DataError as error:
            logger.warning("%s", error)
            continue
        image = images[0]
        shape = shape or image.shape
        where = source.describe(index)
        if is_one_size and image.shape != shape:
            size, first = (" × ".join(map(str, sizes)) for sizes in (image.shape, shape))
            raise DataError(f"{where}: {size}, but the first is {first}; give --resize-height, …")
        encoded = _encoded(source, index, image, encoding) if is_encoded else b""
        key = f"{number:08}_{source.listed.names[index]}".encode("utf-8", "surrogateescape")[:LONGEST_KEY]
        yield key, datum_of(where, image, labels, encoded)


def _encoded(source: ImageListSource, index: int, image: np.ndarray, encoding: str | None) -> bytes:
    """An image as the bytes of an image file: those of its file if nothing was changed."""
    file = Path(source.listed.file(index))
    kind_of_file = KIND_OF_SUFFIX.get(file.suffix.lower())
    kind = encoding or kind_of_file
    if kind is None:
        raise DataError(
            f"{source.describe(index)}: its name is not a JPEG's or PNG's; give --encode-type png"
        )
    if kind == kind_of_file and source.color and source.size is None:
        return file.read_bytes()
    return encode_image(image, kind)
