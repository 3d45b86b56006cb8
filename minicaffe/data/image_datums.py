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
        file, is_kept = Path(source.listed.file(index)), source.color is True and source.size is None
        encoded = encoded_image(where, file, image, encoding, is_kept) if is_encoded else b""
        yield key_of(number, source.listed.names[index]), datum_of(where, image, labels, encoded)


def key_of(number: int, name: str) -> bytes:
    """The key of an image: its number in the list that is written, and its name there."""
    return f"{number:08}_{name}".encode("utf-8", "surrogateescape")[:LONGEST_KEY]


def encoded_image(where: str, file: Path, image: np.ndarray, encoding: str | None, is_kept: bool) -> bytes:
    """An image as the bytes of an image file: those of ``file`` if ``is_kept``, nothing in it being changed.

    Raises DataError, which begins with ``where``, if neither the name nor ``encoding`` says which kind of file.
    """
    kind_of_file = KIND_OF_SUFFIX.get(file.suffix.lower())
    kind = encoding or kind_of_file
    if kind is None:
        raise DataError(f"{where}: its name is not a JPEG's or PNG's; give --encode-type png")
    return file.read_bytes() if kind == kind_of_file and is_kept else encode_image(image, kind)
