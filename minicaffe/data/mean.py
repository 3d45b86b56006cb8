"""The mean image that is subtracted from every image: Caffe's .binaryproto, or NumPy's .npy and .npz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicaffe.caffe.blobs import blob_array, blob_shape, fill_blob
from minicaffe.caffe.messages import message_class, parse_message
from minicaffe.data.npz import BAD_ARCHIVE, load_numpy
from minicaffe.data.source import Source
from minicaffe.errors import DataError, one_line
from minicaffe.files import atomic_write, unreadable

AT_ONCE = 16


def load_mean(path: Path) -> np.ndarray:
    """The mean image, float32 (C, H, W). Raises DataError where the file is not one."""
    mean = _load_blob(path) if path.suffix == ".binaryproto" else _load_numpy(path)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.size == 0:
        raise DataError(f"{path}: a mean image of shape {mean.shape}; expected (C, H, W)")
    if mean.dtype.kind not in "buif":
        raise DataError(f"{path}: a mean image of type {mean.dtype}; expected numbers")
    mean = np.ascontiguousarray(mean, np.float32)
    if not np.isfinite(mean).all():
        raise DataError(f"{path}: a mean image with nan or infinite values; make it again")
    return mean


def _load_blob(path: Path) -> np.ndarray:
    try:
        blob = parse_message("BlobProto", path.read_bytes())
        return blob_array(blob).reshape(blob_shape(blob))
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _load_numpy(path: Path) -> np.ndarray:
    try:
        loaded = load_numpy(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            return archive["mean" if len(archive.files) != 1 else archive.files[0]]
    except BAD_ARCHIVE as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(unreadable(path, error)) from None
        problem = one_line(error)
        raise DataError(f"{path}: not a mean image ({problem}); use .binaryproto, .npy or .npz") from None


def mean_of(source: Source, step: Callable[[int], object]) -> np.ndarray:
    """The mean of all images of a source, float32 (C, H, W). ``step`` is called with how many come next.

    Raises DataError that names one of another size.
    """
    total: np.ndarray | None = None
    for first in range(0, len(source), AT_ONCE):
        indices = np.arange(first, min(first + AT_ONCE, len(source)))
        step(len(indices))
        images, _ = source.read(indices)
        total = np.zeros(images[0].shape) if total is None else total
        for index, image in zip(indices, images, strict=True):
            if image.shape != total.shape:
                size, others = (" × ".join(map(str, shape)) for shape in (image.shape, total.shape))
                raise DataError(
                    f"{source.describe(int(index))}: {size}, and others {others}; {source.one_size}"
                )
            total += image
    return (total / len(source)).astype(np.float32)


def save_mean(mean: np.ndarray, path: Path) -> None:
    """Write a mean image, (C, H, W), as its file's ending says, atomically. Raises DataError or WriteError."""
    if path.suffix not in (".binaryproto", ".npz", ".npy"):
        raise DataError(f"{path}: a mean image's name ends in .binaryproto, .npz or .npy")
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            np.savez(file, mean=mean)
        elif path.suffix == ".npy":
            np.save(file, mean)
        else:
            blob = message_class("BlobProto")()
            fill_blob(blob, mean[None])
            file.write(blob.SerializeToString())
