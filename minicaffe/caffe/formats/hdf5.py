"""Caffe's weights in HDF5, .caffemodel.h5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicaffe.errors import WeightError
from minicaffe.files.hdf5 import Hdf5File, write_h5
from minicaffe.files.weight_formats import SavedNet, WeightFormat, register_weight_format
from minicaffe.files.weight_reader import WeightReader


def write_weights(net: SavedNet, path: str | Path) -> None:
    """Write a net's parameters as a .caffemodel.h5, atomically. Raises WriteError."""
    write_h5(path, {f"data/{name}": array for name, array in net.arrays().items()})


class Hdf5WeightReader(WeightReader):
    """The data sets ``data/<layer>/<index>``; a parameter that layers share has one, under its owner."""

    def __init__(self, path: str | Path) -> None:
        """Raises WeightError where the file is none, or h5py is not installed."""
        super().__init__(path)
        self._file = Hdf5File(path, WeightError, "not weights of Caffe ({})")
        try:
            found = self._file.shapes("data")
        except WeightError:
            self._file.close()
            raise
        self.shapes = {name: shape for name, shape in found.items() if _is_parameter(name)}

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def _array(self, key: str) -> np.ndarray:
        return self._file.read(f"data/{key}")


def _is_parameter(name: str) -> bool:
    layer, _, index = name.rpartition("/")
    return bool(layer) and index.isdecimal()


register_weight_format(
    WeightFormat(".h5", (b"\x89HDF",), Hdf5WeightReader, write_weights, name=".caffemodel.h5")
)
