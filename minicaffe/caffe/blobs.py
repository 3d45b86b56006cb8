"""BlobProto: an array as Caffe's files hold it; older ones have four axes, whatever it is an array of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.errors import DataError

Shape = tuple[int, ...]


def blob_shape(blob: Any) -> Shape:
    """The shape that the message declares. Raises DataError where it has not as many numbers."""
    legacy = is_legacy(blob)
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    count = len(blob.double_data) or len(blob.data)
    if min(shape, default=1) < 0 or math.prod(shape) != count:
        raise DataError(f"{count} numbers do not fit the shape {shape}; the file is damaged")
    return shape


def blob_array(blob: Any) -> np.ndarray:
    """The numbers, float32, in the order of the file."""
    return np.array(blob.double_data if len(blob.double_data) else blob.data, np.float32)


def fill_blob(blob: Any, array: np.ndarray) -> None:
    """Write an array, with its shape, into a message."""
    blob.shape.dim.extend(array.shape)
    blob.data.extend(np.asarray(array, np.float32).ravel().tolist())


def is_legacy(blob: Any) -> bool:
    """Whether the shape is given as num, channels, height and width."""
    return any(blob.HasField(name) for name in ("num", "channels", "height", "width"))


def same_shape(held: Shape, wanted: Shape) -> bool:
    """Whether four old axes are those of ``wanted``: 1s stand before where it has fewer (Blob::ShapeEquals)."""
    return len(held) == 4 and len(wanted) <= 4 and held == (1,) * (4 - len(wanted)) + wanted
