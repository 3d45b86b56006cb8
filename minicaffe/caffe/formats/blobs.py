"""BlobProto: an array in Caffe's files. In older files every array has four axes.

NVIDIA's Caffe (0.16 and later), and OpenCV for models of 16 bits, write ``raw_data``: the bytes of the numbers, in
the type ``raw_data_type``, lowest byte first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.caffe.formats.schema import schema
from minicaffe.errors import DataError

Shape = tuple[int, ...]
RAW_TYPES = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}
PACKED_DATA = b"\x2a"  # how BlobProto's field 5, ``data``, begins


def blob_shape(blob: Any) -> Shape:
    """The shape that the message declares. Raises DataError where its numbers are not as many."""
    legacy = is_legacy(blob)
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    numbers = _numbers(blob)
    count = len(numbers)
    if min(shape, default=1) < 0 or math.prod(shape) != count:
        raise DataError(f"{count} numbers do not fit the shape {shape}; the file is damaged")
    return shape


def blob_array(blob: Any) -> np.ndarray:
    """The numbers, float32, in the order of the file."""
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite
        return np.array(_numbers(blob), np.float32)


def _numbers(blob: Any) -> Sequence[float] | np.ndarray:
    """The numbers as the file has them. Raises DataError for bytes that are no numbers."""
    if not blob.raw_data:
        numbers: Sequence[float] = blob.double_data if len(blob.double_data) else blob.data
        return numbers
    names = {number: name for name, number in schema()["BlobProto"]["raw_data_type"].values.items()}
    kind = names.get(blob.raw_data_type, str(blob.raw_data_type))
    if kind not in RAW_TYPES:
        raise DataError(f"raw_data of type {kind}; {', '.join(RAW_TYPES)} are read")
    size = np.dtype(RAW_TYPES[kind]).itemsize
    if len(blob.raw_data) % size:
        raise DataError(
            f"{len(blob.raw_data)} bytes of raw_data are no {kind}s of {size}; the file is damaged"
        )
    return np.frombuffer(blob.raw_data, RAW_TYPES[kind])


def fill_blob(blob: Any, array: np.ndarray) -> None:
    """Write an array, with its shape, into a message, as float32.

    One number without axes has the four old ones, which Caffe takes too: OpenCV reads no shape without axes.
    """
    if array.ndim:
        blob.shape.dim.extend(array.shape)
    else:
        blob.num = blob.channels = blob.height = blob.width = 1
    numbers = np.ascontiguousarray(array, "<f4").tobytes()
    if numbers:  # as protobuf writes them, at once: one by one, they would take 28 bytes each on the way
        blob.MergeFromString(PACKED_DATA + _varint(len(numbers)) + numbers)


def _varint(value: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    groups = []
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def is_legacy(blob: Any) -> bool:
    """Whether the shape is given as num, channels, height and width."""
    return any(blob.HasField(name) for name in ("num", "channels", "height", "width"))


def same_shape(held: Shape, wanted: Shape) -> bool:
    """Whether the four axes of an older file are those of ``wanted``, with 1s before them (Blob::ShapeEquals)."""
    return held == (1,) * (4 - len(wanted)) + wanted
