"""The mean image that is subtracted from every image: Caffe's .binaryproto, or NumPy's .npy and .npz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from minicaffe.caffe.formats.blobs import blob_array, blob_shape, fill_blob
from minicaffe.caffe.formats.messages import message_class, parse_message
from minicaffe.data.sources.source import Source
from minicaffe.errors import DataError
from minicaffe.files.atomic import atomic_write, reading
from minicaffe.files.numpy_files import NumpyFile

AT_ONCE = 16


def load_mean(path: Path) -> np.ndarray:
    """The mean image, float32 (C, H, W). Raises DataError if the file is not one."""
    mean = load_array(path, "mean image", "mean")
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.size == 0:
        raise DataError(
            f"{path}: a mean image of shape {mean.shape}; expected (C, H, W){four_axes_hint(mean.shape)}"
        )
    mean = np.ascontiguousarray(mean, np.float32)
    if not np.isfinite(mean).all():
        raise DataError(f"{path}: a mean image with nan or infinite values; make it again")
    return mean


def four_axes_hint(shape: tuple[int, ...]) -> str:
    """What to do with a mean that has four axes, like a blob: "; … give mean[0]"; "" for any other."""
    return "; it has four axes, like a blob: give mean[0]" if len(shape) == 4 else ""


def load_array(path: Path, what: str, name: str) -> np.ndarray:
    """The numbers of a .binaryproto, an .npy, or an .npz (the array ``name``, or the only one).

    Raises DataError, which says that the file is not a ``what``, if it is damaged or none of these.
    """
    problem = f"not a {what} ({{}}); use .binaryproto, .npy or .npz"
    if path.suffix == ".binaryproto":
        with reading(path, DataError, problem):
            return _of_blob(path)
    with NumpyFile(path, DataError, problem) as file:
        names = [*file.headers]
        chosen = names[0] if len(names) == 1 else name
        if chosen not in names:
            raise DataError(f"{path}: no array named '{name}'; it holds {', '.join(names) or 'nothing'}")
        return file.numbers(chosen)


def _of_blob(path: Path) -> np.ndarray:
    try:
        blob = parse_message("BlobProto", path.read_bytes())
        return blob_array(blob).reshape(blob_shape(blob))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def mean_of(source: Source, step: Callable[[int], object]) -> np.ndarray:
    """The mean of all images of a source, float32 (C, H, W). ``step`` is told how many images come next.

    Raises DataError naming an image of another size.
    """
    total = np.zeros(())
    for first in range(0, len(source), AT_ONCE):
        indices = np.arange(first, min(first + AT_ONCE, len(source)))
        step(len(indices))
        images, _ = source.read(indices)
        total = np.zeros(images[0].shape) if first == 0 else total
        for index, image in zip(indices, images, strict=True):
            if image.shape != total.shape:
                size, others = (" × ".join(map(str, shape)) for shape in (image.shape, total.shape))
                raise DataError(
                    f"{source.describe(int(index))}: {size}, but others are {others}; {source.one_size}"
                )
            total += image
    mean: np.ndarray = total / len(source)
    return mean.astype(np.float32)


def save_mean(mean: np.ndarray, path: Path) -> None:
    """Write a mean image, (C, H, W), as its file's ending says, atomically. Raises DataError or WriteError."""
    if path.suffix not in (".binaryproto", ".npz", ".npy"):
        raise DataError(f"{path}: the name of a mean image must end in .binaryproto, .npz or .npy")
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            np.savez(file, mean=mean)
        elif path.suffix == ".npy":
            np.save(file, mean)
        else:
            blob = message_class("BlobProto")()
            fill_blob(blob, mean[None])
            blob.ClearField("shape")  # Caffe's own files have the four fields below, and scripts read them
            blob.num, blob.channels, blob.height, blob.width = 1, *mean.shape
            file.write(blob.SerializeToString())
