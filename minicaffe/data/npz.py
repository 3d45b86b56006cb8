"""NPZ: NumPy's own archive, with an array of images and, if they are labelled, one of labels."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from minicaffe.data.source import ArraySource
from minicaffe.errors import DataError, one_line
from minicaffe.file_kinds import NPY, NPZ, kind_of
from minicaffe.files import unreadable

IMAGE_NAMES = ("data", "images", "x")
LABEL_NAMES = ("label", "labels", "y")
BAD_ARCHIVE = (ValueError, EOFError, OSError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def load_numpy(path: Path) -> np.ndarray | np.lib.npyio.NpzFile:
    """``numpy.load`` without pickle. Raises one of ``BAD_ARCHIVE`` for damaged and other files."""
    kind = kind_of(path)
    if kind not in (NPZ, NPY):  # NumPy would take it for a pickle, and say how to load that
        raise ValueError("the file is empty" if kind == "empty" else "none of NumPy's files")
    return np.load(path, allow_pickle=False)


def open_npz(path: Path) -> ArraySource:
    """The images of ``data`` (or ``images``, ``x``) and the labels of ``label`` (or ``labels``, ``y``).

    Raises DataError where the file is damaged, has no images, or holds pickled objects (never loaded).
    """
    try:
        archive = load_numpy(path)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: one bare array, not an .npz archive; save with numpy.savez")
        with archive:
            images = _first(archive, IMAGE_NAMES)
            labels = _first(archive, LABEL_NAMES)
            held = ", ".join(archive.files) or "nothing"
    except BAD_ARCHIVE as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(unreadable(path, error)) from None
        raise DataError(f"{path}: not a readable .npz file ({one_line(error)}); write it again") from None
    if images is None:
        raise DataError(f"{path}: no array named {' or '.join(IMAGE_NAMES)}; it holds {held}")
    if images.dtype.kind not in "buif":
        raise DataError(f"{path}: images are of type {images.dtype}; expected numbers")
    if labels is not None and labels.dtype.kind not in "buif":
        raise DataError(f"{path}: labels are of type {labels.dtype}; expected numbers")
    return ArraySource(
        str(path),
        images,
        None if labels is None else labels.reshape(-1),
        no_labels=f"no array named {' or '.join(LABEL_NAMES)}",
    )


def _first(archive: np.lib.npyio.NpzFile, names: tuple[str, ...]) -> np.ndarray | None:
    return next((archive[name] for name in names if name in archive.files), None)
