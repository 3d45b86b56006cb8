"""Caffe's files in HDF5: .caffemodel.h5, and what .solverstate.h5 is read with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.array import to_host
from minicaffe.blob import Blob
from minicaffe.errors import WeightError, one_line
from minicaffe.hdf5 import open_h5, write_h5
from minicaffe.weight_reader import WeightReader

BAD_H5 = (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError)
MAX_RATIO = 1000  # numbers are not compressed better than this; a larger size is declared, not there


def write_weights(params: Mapping[str, list[Blob]], path: str | Path) -> None:
    """Write a net's parameters as a .caffemodel.h5, atomically. Raises WriteError."""
    arrays = {
        f"data/{name}/{i}": to_host(blob.data)
        for name, blobs in params.items()
        for i, blob in enumerate(blobs)
    }
    write_h5(path, arrays)


def read_array(data_set: Any) -> np.ndarray:
    """The numbers of a data set, as float32. Raises what ``BAD_H5`` lists where it is none, or damaged."""
    stored = data_set.id.get_storage_size()
    if data_set.nbytes > MAX_RATIO * max(stored, 4096):
        raise ValueError(f"declares {data_set.shape} numbers, but has {stored} bytes")
    return np.asarray(data_set[...], np.float32)


class Hdf5WeightReader(WeightReader):
    """The data sets ``data/<layer>/<index>``; a parameter that layers share has one, under its owner."""

    def __init__(self, path: str | Path) -> None:
        """Raises WeightError where the file is none, or h5py is not installed."""
        super().__init__(path)
        self._file = open_h5(path, WeightError)
        try:
            self._file["data"].visititems(self._add)
        except BAD_H5 as error:
            self._file.close()
            raise WeightError(f"{path}: not weights of Caffe ({one_line(error)})") from None

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _add(self, name: str, item: Any) -> None:
        layer, _, index = name.rpartition("/")
        if layer and index.isdecimal() and hasattr(item, "dtype"):
            self.shapes[name] = tuple(item.shape)

    def _array(self, key: str) -> np.ndarray:
        try:
            return read_array(self._file["data"][key])
        except BAD_H5 as error:
            raise WeightError(f"{self.path}: '{key}' cannot be read ({one_line(error)})") from None
