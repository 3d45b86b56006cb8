"""Source: labelled images that are read by number; the table of their formats; where files are looked up."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from minicaffe.errors import DataError

Images = np.ndarray | list[np.ndarray]  # (n, C, H, W), or n arrays (C, h, w) if sizes differ


class Source:
    """Random access to n labelled images. Subclasses are one file format each.

    ``name`` is the file that errors name. ``no_labels`` says why there are no labels, if there are none;
    ``one_size`` says how to bring all images to one size.
    """

    name: str = ""
    no_labels: str = ""
    one_size: str = "give crop_size in transform_param"

    def __len__(self) -> int:
        """The number of images, at least 1."""
        raise NotImplementedError

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray | None]:
        """The images at ``indices``, uint8 or float32 (n, C, H, W), and their labels, float32 (n,), (n, L) or None.

        Images of differing sizes come as a list of arrays (C, h, w). Raises DataError for damaged ones.
        """
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """What errors call an image: its file, or its key."""
        return f"{self.name}: image {index}"

    def shared_with(self, other: Source) -> int:
        """How many of its images another source has too, going by their names."""
        return len(self) if type(self) is type(other) and self.name == other.name else 0

    def close(self) -> None:
        """Close open files."""


class ArraySource(Source):
    """A source that is one array in memory; for the IDX and NPZ formats."""

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray | None, no_labels: str = "") -> None:
        """``images``: (n, H, W), (n, C, H, W) or vectors (n, D), of any number type; ``labels``: (n,).

        Raises DataError if there are no images, or not one label for each.
        """
        if images.ndim not in (2, 3, 4):
            raise DataError(f"{name}: images have shape {images.shape}; expected (n, C, H, W) or (n, H, W)")
        if images.size == 0:
            raise DataError(f"{name}: holds no images (shape {images.shape})")
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{name}: {len(images)} images, but {len(labels)} labels; give one for each image"
            )
        self.name = name
        self.images = as_pixels(_with_four_axes(images))
        self.labels = None if labels is None else np.ascontiguousarray(labels, np.float32)
        self.no_labels = no_labels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.images[indices], None if self.labels is None else self.labels[indices]


def _with_four_axes(images: np.ndarray) -> np.ndarray:
    """(n, H, W) -> (n, 1, H, W): one channel; (n, D) -> (n, D, 1, 1): a vector is D channels of one pixel."""
    return images[:, None] if images.ndim == 3 else images.reshape(*images.shape, *(1,) * (4 - images.ndim))


def as_pixels(images: np.ndarray) -> np.ndarray:
    """The images unchanged if they are bytes, otherwise as float32 in the machine's byte order."""
    return images if images.dtype == np.uint8 else np.ascontiguousarray(images, np.float32)


def stack(images: list[np.ndarray]) -> Images:
    """One array (n, C, H, W) if all images have the same shape and type, otherwise the list unchanged."""
    alike = len({(image.shape, image.dtype) for image in images}) == 1
    return np.stack(images) if alike else images


def find_path(path: str | Path, folders: Sequence[str | Path], what: str = "data file") -> Path:
    """The first of ``folders`` / ``path`` that exists. Raises DataError saying where it was looked for.

    Devices and pipes are refused: a spec could name one that never ends.
    """
    candidates = list(dict.fromkeys(Path(folder) / path for folder in folders))
    for candidate in candidates:
        if os.path.isfile(candidate) or os.path.isdir(candidate):  # False for invalid names
            return candidate
        if os.path.exists(candidate):
            raise DataError(f"{path}: a device or a pipe, but a {what} is expected; check the path")
    if Path(path).is_absolute():
        raise DataError(f"{path}: no such {what}; {_fix(path)}")
    places = " and in ".join(dict.fromkeys(str(Path(folder).resolve()) for folder in folders))
    raise DataError(f"{path}: no such {what} (looked in {places}); {_fix(path)}")


def lookup_folders(folder: str | Path) -> list[Path]:
    """Where a relative path is looked up: beside the spec file first, then in the working directory."""
    return [Path(folder or "."), Path(".")]


def _fix(path: str | Path) -> str:
    parts = Path(path).parts
    for name in ("mnist", "cifar10"):
        if ("data", name) in pairwise(parts):
            return f"get it with 'minicaffe data get {name}'"
    return "check the path"


@dataclass(frozen=True)
class Backend:
    """A format that a Data layer reads. The file of the format enters it in ``BACKENDS``.

    ``recognises`` tells whether a path has the format, by its name or, for a folder, by its contents; formats for
    which that ``is_guess`` are asked last. ``open`` gets the path, the path of a label file or None, and ``color``
    (``decode_image``).
    """

    recognises: Callable[[Path], bool]
    open: Callable[[Path, Path | None, bool | None], Source]
    is_guess: bool = False


BACKENDS: dict[str, Backend] = {}
