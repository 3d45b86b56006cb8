"""Any source of images -> an LMDB of Datums, as Caffe's convert tools write it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from minicaffe.caffe.messages import message_class
from minicaffe.data.source import Source
from minicaffe.errors import DataError, WriteError
from minicaffe.files import atomic_folder, make_folder, refusal

MAP_SIZE = 1 << 40  # the most that it may grow to: Caffe's; the file has only what is written
AT_ONCE = 1000


def write_lmdb(source: Source, path: str | Path) -> int:
    """Write all images and labels of a source into a new folder; return their number.

    The folder takes its name when all is in it. Raises WriteError where it is there already or cannot be written,
    DataError where a label is no whole number, or the source is damaged.
    """
    lmdb, path = _import_lmdb(), Path(path)
    if path.exists():
        raise WriteError(f"{path}: is there already; remove it, or choose another name")
    temporary = path
    try:
        make_folder(path.parent)
        with atomic_folder(path) as temporary, lmdb.open(str(temporary), map_size=MAP_SIZE) as environment:
            for first in range(0, len(source), AT_ONCE):
                indices = np.arange(first, min(first + AT_ONCE, len(source)))
                with environment.begin(write=True) as transaction:
                    for number, datum in zip(indices, _datums(source, indices), strict=True):
                        transaction.put(b"%08d" % number, datum)
    except OSError as error:
        raise WriteError(refusal(path, error)) from None
    except lmdb.Error as error:
        reason = str(error).replace(str(temporary), str(path))
        raise WriteError(
            f"{path}: cannot be written ({reason}); check the folder, and free some space"
        ) from None
    return len(source)


def _datums(source: Source, indices: np.ndarray) -> list[bytes]:
    images, labels = source.read(indices)
    if labels is None:
        labels = np.zeros(len(indices), np.float32)
    return [_datum(source, image, float(label)) for image, label in zip(images, labels, strict=True)]


def _datum(source: Source, image: np.ndarray, label: float) -> bytes:
    """One image, (K, H, W), as the bytes of a Datum."""
    if not (label.is_integer() and abs(label) < 2**31):
        raise DataError(f"{source.name}: label {label:g}; an LMDB's labels are whole numbers, of 32 bits")
    datum = message_class("Datum")(label=int(label))
    datum.channels, datum.height, datum.width = image.shape
    if image.dtype == np.uint8:
        datum.data = image.tobytes()
    else:
        datum.float_data.extend(image.ravel().tolist())
    return datum.SerializeToString()


def _import_lmdb() -> ModuleType:
    """The package lmdb. Raises DataError, naming the extra to install, where it is not there."""
    try:
        import lmdb
    except ImportError:
        raise DataError("writing an LMDB needs the lmdb package; pip install 'minicaffe[lmdb]'") from None
    return lmdb
