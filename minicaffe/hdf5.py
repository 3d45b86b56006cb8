"""HDF5 files, opened and written by the extra ``hdf5`` (h5py), with errors of one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minicaffe.errors import MinicaffeError, WriteError, one_line
from minicaffe.file_kinds import HDF5, kind_of
from minicaffe.files import atomic_write


def open_h5(path: str | Path, error: type[MinicaffeError]) -> Any:
    """An HDF5 file, opened to read. Raises ``error``, also where h5py is not installed."""
    h5py = import_h5py(path, error)
    try:
        return h5py.File(path, "r")
    except OSError as problem:
        if kind := _other_kind(path):
            raise error(f"{path}: is {kind}, not an HDF5 file") from None
        raise error(f"{path}: not a readable HDF5 file ({one_line(problem)})") from None


def _other_kind(path: str | Path) -> str:
    """What the file is, where it can be read and is none of HDF5; or ""."""
    try:
        kind = kind_of(path)
    except OSError:
        return ""
    return kind if kind != HDF5 else ""


def import_h5py(where: object, error: type[MinicaffeError]) -> ModuleType:
    """The package h5py. Raises ``error``, which begins with ``where``, if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise error(f"{where}: HDF5 files need the h5py package; pip install 'minicaffe[hdf5]'") from None
    return h5py


def write_h5(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write data sets by their names (``a/b`` is b in the group a), atomically. Raises WriteError."""
    h5py = import_h5py(path, WriteError)
    with atomic_write(path) as file, h5py.File(file, "w") as archive:
        for name, array in arrays.items():
            archive[name] = array
