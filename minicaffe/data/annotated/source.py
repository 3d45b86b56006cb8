"""An LMDB of AnnotatedDatums: images with boxes."""

from __future__ import annotations

import numpy as np

from minicaffe.data.annotated.datum import Annotated, parse_annotated
from minicaffe.data.sources.lmdb import LmdbSource
from minicaffe.data.sources.source import Images, stack
from minicaffe.errors import DataError


class AnnotatedSource(LmdbSource):
    """The AnnotatedDatums of an LMDB, numbered in the order of its keys."""

    one_size = "give resize_param in transform_param"

    def read_annotated(self, indices: np.ndarray) -> list[Annotated]:
        """The images at ``indices`` with their boxes. Raises DataError for damaged ones."""
        found = [self._annotated(*self._file.read(i)) for i in indices]
        self._file.check_unchanged()
        return found

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray]:
        found = self.read_annotated(indices)
        return stack([one.image for one in found]), np.array([one.label for one in found], np.float32)

    def _annotated(self, key: bytes, value: bytes) -> Annotated:
        try:
            message, datum, boxes = parse_annotated(value)
        except DataError as error:
            raise self._damaged(key, str(error)) from None
        kind = message.type if message.HasField("type") else None
        return Annotated(self._pixels_of(key, datum), boxes, datum.label, kind, datum.seg_label)
