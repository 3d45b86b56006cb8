"""LMDB, Caffe's usual data base: each value is a Datum, raw pixels or an encoded image, with its label."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minicaffe.caffe.messages import import_protobuf, parse_message
from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.data.source import Images, Source, stack
from minicaffe.errors import DataError, one_line


class LmdbSource(Source):
    """The Datums of an LMDB, numbered in the order of its keys."""

    one_size = "give crop_size in transform_param, or resize them (minicaffe data images --resize-height …)"

    def __init__(self, path: Path, color: bool | None = None) -> None:
        """``color`` is for encoded images, as in ``decode_image``. Raises DataError."""
        self.name = str(path)
        self.color = color
        import_protobuf()
        self._environment = _open_environment(path)
        with self._reading() as reading:
            self.keys = list(reading.cursor().iternext(keys=True, values=False))
        if not self.keys:
            self.close()
            raise DataError(f"{path}: the data base is empty; write it again")

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray]:
        with self._reading(buffers=True) as reading:
            pairs = [self._parse(self.keys[i], reading.get(self.keys[i])) for i in indices]
        return stack([image for image, _ in pairs]), np.array([label for _, label in pairs], np.float32)

    @contextmanager
    def _reading(self, **options: bool) -> Iterator[Any]:
        """A transaction. Raises DataError where the file's pages make no sense."""
        try:
            with self._environment.begin(**options) as transaction:
                yield transaction
        except import_lmdb().Error as error:
            raise DataError(f"{self.name}: the data base is damaged ({error}); write it again") from None

    def _parse(self, key: bytes, value: memoryview) -> tuple[np.ndarray, float]:
        """The pixels (C, h, w) and the label of one Datum."""
        try:
            datum = parse_message("Datum", bytes(value))
            pixels = self._pixels(datum)
        except BAD_IMAGE as error:
            raise self._damaged(key, f"its image cannot be decoded ({one_line(error)})") from None
        except DataError as error:
            raise self._damaged(key, str(error)) from None
        if pixels is None:
            shape = (datum.channels, datum.height, datum.width)
            count = len(datum.data) or len(datum.float_data)
            raise self._damaged(key, f"{count} numbers do not fit channels × height × width {shape}")
        return pixels, float(datum.label)

    def _pixels(self, datum: Any) -> np.ndarray | None:
        """The pixels of a Datum, or None where their count is not that of its shape."""
        if datum.encoded:
            return decode_image(io.BytesIO(datum.data), self.color)
        if datum.data:
            flat = np.frombuffer(datum.data, np.uint8)
        else:
            flat = np.array(datum.float_data, np.float32)
        shape = (datum.channels, datum.height, datum.width)
        fits = min(shape) > 0 and flat.size == shape[0] * shape[1] * shape[2]
        return flat.reshape(shape) if fits else None

    def describe(self, index: int) -> str:
        return f"{self.name}: key {self.keys[index]!r}"

    def _damaged(self, key: bytes, problem: str) -> DataError:
        return DataError(f"{self.name}: key {key!r}: {problem}; write the data base again")

    def close(self) -> None:
        _close_environment(self._environment)


# LMDB forbids that one process opens a data base twice, and a net for training and one for testing may both
# read the same: so they share it, and the last to close it closes it.
_open: dict[str, tuple[Any, int]] = {}


def _open_environment(path: Path) -> Any:
    real = os.path.realpath(path)
    environment, users = _open.get(real, (None, 0))
    if environment is None:
        environment = _open_new(import_lmdb(), real)
    _open[real] = environment, users + 1
    return environment


def _open_new(lmdb: ModuleType, path: str) -> Any:
    data = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    if not os.path.isfile(data):
        raise DataError(f"{path}: no data.mdb in this folder; is it an LMDB?")
    try:
        environment = lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise DataError(f"{path}: not a readable LMDB ({error}); write it again") from None
    # LMDB reads through a memory map: a page that the file no longer has would end the whole process
    claimed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if os.path.getsize(data) < claimed:
        environment.close()
        raise DataError(
            f"{path}: the file ends after {os.path.getsize(data)} of {claimed} bytes; copy it again"
        )
    return environment


def _close_environment(environment: Any) -> None:
    for real, (other, users) in list(_open.items()):
        if other is environment and users > 1:
            _open[real] = environment, users - 1
        elif other is environment:
            del _open[real]
            environment.close()


def import_lmdb(what: str = "reading") -> ModuleType:
    """The package lmdb. Raises DataError, naming the extra to install, where it is not there."""
    try:
        import lmdb
    except ImportError:
        raise DataError(f"{what} an LMDB needs the lmdb package; pip install 'minicaffe[lmdb]'") from None
    return lmdb
