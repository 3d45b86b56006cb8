"""Weights in a .caffemodel: a whole net in protobuf, of any generation, with each layer's arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.caffe.binary import read_message, text_of, unknown_fields
from minicaffe.caffe.blobs import Shape, blob_array, blob_shape, is_legacy
from minicaffe.caffe.schema import schema
from minicaffe.caffe.tree import MAX_NAME
from minicaffe.caffe.upgrade import TYPES_0
from minicaffe.errors import DataError, WeightError
from minicaffe.weight_reader import WeightReader

logger = logging.getLogger("minicaffe")


class CaffemodelReader(WeightReader):
    """A .caffemodel of any generation."""

    def __init__(self, path: str | Path) -> None:
        """Raises WeightError where the file is none; warns of fields that Caffe 1.0 has not."""
        super().__init__(path)
        self._blobs: dict[str, Any] = {}
        unknown = []
        try:
            for layer, kind in _layers(read_message("NetParameter", path, WeightError)):
                name = text_of(layer.name)
                unknown += [f"layer '{name[:MAX_NAME]}': {number}" for number in unknown_fields(layer)]
                for i, blob in enumerate(layer.blobs):
                    self._add(name, i, blob, kind)
        except UnicodeDecodeError:
            raise WeightError(f"{path}: a layer's name or type is not UTF-8; the file is damaged") from None
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            logger.warning(
                "%s: ignored fields that Caffe 1.0 has not, by number: %s%s",
                path,
                ", ".join(unknown[:5]),
                more,
            )

    def _add(self, name: str, index: int, blob: Any, kind: str) -> None:
        try:
            shape = blob_shape(blob)
        except DataError as error:
            raise WeightError(f"{self.path}: layer '{name[:MAX_NAME]}': parameter {index}: {error}") from None
        key = f"{name}/{index}"
        self._blobs[key] = blob
        self.shapes[key] = _modern(shape, index, kind) if is_legacy(blob) else shape

    def _array(self, key: str) -> np.ndarray:
        return blob_array(self._blobs[key]).reshape(self.shapes[key])


def _layers(net: Any) -> Iterator[tuple[Any, str]]:
    """The layer messages of a net, of whatever generation, each with its type (generation 1's name, or today's)."""
    types = {number: name for name, number in schema()["V1LayerParameter"]["type"].values.items()}
    for old in net.layers:
        if old.HasField("layer"):
            yield old.layer, TYPES_0.get(text_of(old.layer.type), "")
        else:
            yield old, types.get(old.type, "")
    for layer in net.layer:
        yield layer, text_of(layer.type).upper()


def _modern(shape: Shape, index: int, kind: str) -> Shape:
    """The shape that a parameter of four old axes has today: (1, 1, N, K) -> (N, K), (1, 1, 1, N) -> (N,)."""
    if index == 0 and kind in ("CONVOLUTION", "DECONVOLUTION"):
        return shape
    if index == 0 and kind in ("INNER_PRODUCT", "INNERPRODUCT"):
        return shape[2:] if shape[:2] == (1, 1) else shape
    return shape[3:] if shape[:3] == (1, 1, 1) else shape
