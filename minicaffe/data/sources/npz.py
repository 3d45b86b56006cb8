"""NPZ: NumPy's own archive, with an array of images and, if they are labelled, one of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicaffe.data.sources.source import BACKENDS, ArraySource, Backend
from minicaffe.errors import DataError
from minicaffe.files.numpy_files import WHOLE, NumpyFile

IMAGE_NAMES = ("data", "images", "x")
LABEL_NAMES = ("label", "labels", "y")


def open_npz(path: Path) -> ArraySource:
    """The images of ``data`` (or ``images``, ``x``) and the labels of ``label`` (or ``labels``, ``y``).

    Raises DataError if the file is damaged, or has no images or not numbers (pickled objects are never loaded).
    """
    with NumpyFile(path, DataError, "not a readable .npz file ({}); write it again") as file:
        if WHOLE in file.headers:
            raise DataError(f"{path}: a single bare array, not an .npz archive; save it with numpy.savez")
        images, labels = _first(file, IMAGE_NAMES), _first(file, LABEL_NAMES)
    if images is None:
        found = ", ".join(file.headers) or "nothing"
        raise DataError(f"{path}: no array named {' or '.join(IMAGE_NAMES)}; it holds {found}")
    return ArraySource(
        str(path),
        images,
        None if labels is None else labels.reshape(-1),
        no_labels=f"no array named {' or '.join(LABEL_NAMES)}",
    )


def _first(file: NumpyFile, names: tuple[str, ...]) -> np.ndarray | None:
    return next((file.numbers(name) for name in names if name in file.headers), None)


BACKENDS["NPZ"] = Backend(
    lambda path: path.name.lower().endswith(".npz"), lambda path, labels, color: open_npz(path)
)
