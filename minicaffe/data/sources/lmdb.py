"""LMDB, Caffe's usual database: each value is a Datum, raw pixels or an encoded image, with its label."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.caffe.formats.messages import import_protobuf, parse_message
from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.data.sources.lmdb_file import LmdbFile
from minicaffe.data.sources.source import BACKENDS, Backend, Images, Source, stack
from minicaffe.errors import DataError, one_line

BOXES = "an LMDB with boxes is read by a layer of type AnnotatedData"


class LmdbSource(Source):
    """The Datums of an LMDB, numbered in the order of its keys."""

    one_size = "give crop_size in transform_param, or resize them (minicaffe data images --resize-height …)"

    def __init__(self, path: Path, color: bool | None = None) -> None:
        """``color`` is for encoded images, as in ``decode_image``. Raises DataError."""
        self.name = str(path)
        self.color = color
        import_protobuf()
        self._file = LmdbFile(path)
        if not len(self._file):
            self.close()
            raise DataError(f"{path}: the database is empty; write it again")

    def __len__(self) -> int:
        return len(self._file)

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray]:
        pairs = [self._parse(*self._file.read(i)) for i in indices]
        self._file.check_unchanged()
        return stack([image for image, _ in pairs]), np.array([label for _, label in pairs], np.float32)

    def _parse(self, key: bytes, value: bytes) -> tuple[np.ndarray, float]:
        """The pixels (C, h, w) and the label of one Datum."""
        try:
            datum = parse_message("Datum", value)
        except DataError as error:
            raise self._damaged(key, str(error)) from None
        return self._pixels_of(key, datum), float(datum.label)

    def _pixels_of(self, key: bytes, datum: Any) -> np.ndarray:
        """The pixels (C, h, w) of the Datum with this key. Raises DataError."""
        try:
            pixels = self._pixels(datum)
        except BAD_IMAGE as error:
            raise self._damaged(key, f"its image cannot be decoded ({one_line(error)})") from None
        if pixels is None:
            shape = (datum.channels, datum.height, datum.width)
            count = len(datum.data) or len(datum.float_data)
            if not (count or any(shape)):
                raise DataError(f"{self.name}: key {key[:100]!r}: no Datum with an image; {BOXES}")
            raise self._damaged(key, f"{count} numbers do not fit channels × height × width {shape}")
        return pixels

    def _pixels(self, datum: Any) -> np.ndarray | None:
        """The pixels of a Datum, or None if their number does not match its shape."""
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
        return f"{self.name}: key {self._file.read(index)[0]!r}"

    def _damaged(self, key: bytes, problem: str) -> DataError:
        self._file.check_unchanged()
        return DataError(f"{self.name}: key {key[:100]!r}: {problem}; write the database again")

    def close(self) -> None:
        self._file.close()


def _is_lmdb(path: Path) -> bool:
    return (path / "data.mdb").exists() if path.is_dir() else path.name.lower().endswith((".mdb", ".lmdb"))


BACKENDS["LMDB"] = Backend(_is_lmdb, lambda path, labels, color: LmdbSource(path, color))
