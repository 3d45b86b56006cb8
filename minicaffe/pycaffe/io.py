"""caffe.io: images, the Transformer, and arrays as protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minicaffe.classify.images import load_image, oversample, resize_image
from minicaffe.classify.transformer import Transformer
from minicaffe.pycaffe.proto import caffe_pb2

__all__ = [
    "Transformer",
    "array_to_blobproto",
    "array_to_datum",
    "arraylist_to_blobprotovector_str",
    "blobproto_to_array",
    "blobprotovector_str_to_arraylist",
    "datum_to_array",
    "load_image",
    "oversample",
    "resize_image",
]


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """The data (or the diff) of a BlobProto, in its shape. Raises ValueError if they do not fit."""
    data = np.array(blob.diff if return_diff else blob.data)
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return data.reshape(blob.num, blob.channels, blob.height, blob.width)
    return data.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """A BlobProto of an array, and of a diff of the same shape."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel().tolist())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Arrays as the bytes of a BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend([array_to_blobproto(arr) for arr in arraylist])
    written: bytes = vector.SerializeToString()
    return written


def blobprotovector_str_to_arraylist(data: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(data).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Any:
    """A Datum of an image (K, H, W): bytes if it is uint8, floats otherwise. Raises ValueError."""
    if arr.ndim != 3:
        raise ValueError(f"an image has three axes, (K, H, W); this array has shape {arr.shape}")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel().tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Any) -> np.ndarray:
    """The image (K, H, W) of a Datum, uint8 or float; its label is ``datum.label``."""
    pixels = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    return pixels.reshape(datum.channels, datum.height, datum.width).copy()
