"""Writes any source of images as an LMDB of Datums, like Caffe's convert tools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np

from minicaffe.caffe.formats.messages import message_class
from minicaffe.data.sources.source import Source
from minicaffe.errors import DataError, WriteError
from minicaffe.files.atomic import atomic_folder, check_name, make_folder, refusal

MAP_SIZE = 1 << 40  # the most that the file may grow to, as in Caffe; it takes only the space it needs
AT_ONCE = 100


def write_lmdb(source: Source, path: str | Path) -> int:
    """Write all images and labels of a source into a new folder; return their number.

    Raises what ``write_datums`` raises, and DataError if a label is not a whole number or the source is damaged.
    """
    return write_datums(_datums(source), path)


def write_datums(datums: Iterable[tuple[bytes, bytes]], path: str | Path) -> int:
    """Write keys and Datums into a new folder; return their number.

    The folder gets its name once it is complete. Raises WriteError if it exists already or cannot be written, and
    DataError if there is nothing to write.
    """
    lmdb, path = _import_lmdb(), Path(path)
    if os.path.exists(path):
        raise WriteError(f"{path}: already exists; remove it, or choose another name")
    temporary, count, datums = path, 0, iter(datums)
    try:
        check_name(path)
        make_folder(path.parent)
        with atomic_folder(path) as temporary, lmdb.open(str(temporary), map_size=MAP_SIZE) as environment:
            while some := list(islice(datums, AT_ONCE)):
                with environment.begin(write=True) as transaction:
                    for key, datum in some:
                        transaction.put(key, datum)
                count += len(some)
            if not count:
                raise DataError(f"{path}: no image could be read; nothing is written")
    except OSError as error:
        raise WriteError(refusal(path, error)) from None
    except lmdb.Error as error:
        reason = str(error).replace(str(temporary), str(path))
        raise WriteError(
            f"{path}: cannot be written ({reason}); check the folder, and free some space"
        ) from None
    return count


def _datums(source: Source) -> Iterator[tuple[bytes, bytes]]:
    for first in range(0, len(source), AT_ONCE):
        indices = np.arange(first, min(first + AT_ONCE, len(source)))
        images, labels = source.read(indices)
        for n, index in enumerate(indices):
            yield (
                b"%08d" % index,
                datum_of(source.name, images[n], None if labels is None else labels[n : n + 1]),
            )


def datum_of(where: str, image: np.ndarray, labels: np.ndarray | None, encoded: bytes = b"") -> bytes:
    """One image, (K, H, W), as the bytes of a Datum; ``encoded`` is its file, to be stored instead of pixels.

    ``labels`` is (1,), or None for label 0. Raises DataError, which begins with ``where``, for other labels.
    """
    label = 0.0 if labels is None else labels[0]
    if np.ndim(label):
        raise DataError(f"{where}: {np.size(label)} labels; an LMDB has one for each image")
    if not (float(label).is_integer() and abs(label) < 2**31):
        raise DataError(f"{where}: label {label:g}; an LMDB's labels are 32-bit whole numbers")
    datum = message_class("Datum")(label=int(label))
    datum.channels, datum.height, datum.width = image.shape
    if encoded:
        datum.data, datum.encoded = encoded, True
    elif image.dtype == np.uint8:
        datum.data = image.tobytes()
    else:
        datum.float_data.extend(image.ravel().tolist())
    written: bytes = datum.SerializeToString()
    return written


def _import_lmdb() -> ModuleType:
    """The package lmdb. Raises DataError, naming the extra to install, if it is missing."""
    try:
        import lmdb
    except ImportError:
        raise DataError("writing an LMDB needs the lmdb package; pip install 'minicaffe[lmdb]'") from None
    package: ModuleType = lmdb
    return package
