"""HDF5, as Caffe's HDF5Data reads it: a text file lists .h5 files, with a data set of any shape for each top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import DataError
from minicaffe.files.atomic import unreadable
from minicaffe.files.hdf5 import Hdf5File


class Hdf5Source:
    """Rows of data sets in several files, numbered consecutively in the order of the list.

    One file at a time is in memory, as in Caffe, so it is fast to read one file after the other.
    """

    def __init__(self, path: Path, names: Sequence[str], folder: str | Path = ".") -> None:
        """``names`` are the data sets (the tops). Raises DataError if files are missing, damaged or differ."""
        self.name = str(path)
        self.names = list(names)
        self.files = _listed_files(path, folder)
        shapes = [_shapes(file, self.names) for file in self.files]
        for file, found in zip(self.files, shapes, strict=True):
            if [shape[1:] for shape in found] != [shape[1:] for shape in shapes[0]]:
                raise DataError(f"{file}: rows of shape {found}, unlike {self.files[0]} with {shapes[0]}")
        self.row_shapes = [shape[1:] for shape in shapes[0]]
        self.rows = [found[0][0] for found in shapes]
        self._starts = np.concatenate([[0], np.cumsum(self.rows)])
        self._loaded: tuple[int, list[np.ndarray]] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, indices: np.ndarray) -> list[np.ndarray]:
        """One float32 array (n, …) for each name. Raises DataError."""
        number = np.searchsorted(self._starts, indices, side="right") - 1
        out = [np.empty((len(indices), *shape), np.float32) for shape in self.row_shapes]
        for file in dict.fromkeys(number.tolist()):  # in the order that the batch needs them
            chosen = np.flatnonzero(number == file)
            for target, array in zip(out, self._load(file), strict=True):
                target[chosen] = array[indices[chosen] - self._starts[file]]
        return out

    def _load(self, file: int) -> list[np.ndarray]:
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = file, _read_datasets(self.files[file], self.names)
        return self._loaded[1]

    def close(self) -> None:
        """Drop the file in memory."""
        self._loaded = None


def open_hdf5(source: str | Path, names: Sequence[str], folder: str | Path = ".") -> Hdf5Source:
    """The data sets ``names`` of the .h5 files that the text file ``source`` lists. Raises DataError."""
    return Hdf5Source(find_path(source, lookup_folders(folder), "list of HDF5 files"), names, folder)


def _listed_files(path: Path, folder: str | Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; 'source' is a text file that lists .h5 files") from None
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    places = [*lookup_folders(folder), path.parent]
    files = [find_path(name, places, "HDF5 file") for line in lines if line for name in _names(line, places)]
    if not files:
        raise DataError(f"{path}: lists no files; write the path of one .h5 file per line")
    return files


def _names(line: str, places: Sequence[Path]) -> list[str]:
    """The files that a line names: the whole line if that is a file, otherwise each of its words, as in Caffe."""
    return [line] if any(os.path.exists(place / line) for place in places) else line.split()


def _shapes(file: Path, names: Sequence[str]) -> list[tuple[int, ...]]:
    shapes = []
    with Hdf5File(file, DataError) as h5:
        for name in names:
            shape = h5.shape(name)
            if shape is None:
                raise DataError(f"{file}: no data set '{name}'; it has {', '.join(h5.names()) or 'none'}")
            if not shape or 0 in shape:
                raise DataError(f"{file}: data set '{name}' has shape {shape}; expected rows (n, …)")
            shapes.append(shape)
    if len({shape[0] for shape in shapes}) > 1:
        counts = ", ".join(f"{name} {shape[0]}" for name, shape in zip(names, shapes, strict=True))
        raise DataError(f"{file}: data sets differ in their number of rows: {counts}")
    return shapes


def _read_datasets(file: Path, names: Sequence[str]) -> list[np.ndarray]:
    with Hdf5File(file, DataError) as h5:
        return [h5.read(name) for name in names]
