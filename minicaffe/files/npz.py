"""Weights in an .npz archive: one array ``<layer>/<index>`` for each parameter, and no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.errors import MinicaffeError, WeightError
from minicaffe.files.atomic import atomic_write, reading
from minicaffe.files.kinds import NPZ, kind_of
from minicaffe.files.numpy_files import NumpyFile
from minicaffe.files.weight_reader import WeightReader

Arrays = Mapping[str, np.ndarray]


class NpzReader(WeightReader):
    """An .npz file, opened without trusting it: shapes are known, and checked, before an array is read."""

    def __init__(
        self, path: str | Path, error: type[MinicaffeError] = WeightError, expected: str = "weights"
    ) -> None:
        """``error`` is raised for a file that is no archive, and says what was ``expected``."""
        super().__init__(path, error)
        with reading(path, error, "{}"):
            if (kind := kind_of(path)) != NPZ:
                raise error(f"{path}: is {kind or 'no .npz file'}; expected {expected}")
        self._file = NumpyFile(path, error, "not a readable .npz file ({}); it may be truncated or damaged")
        self.shapes = {name: header.shape for name, header in self._file.headers.items()}

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def text(self, key: str) -> str:
        """The text of that name. Raises ``error`` where it is none."""
        self.check(key, ())
        return self._file.text(key)

    def _array(self, key: str) -> np.ndarray:
        return self._file.numbers(key)


def save_arrays(arrays: Arrays, path: str | Path) -> None:
    """Write arrays under their names, atomically. Raises WriteError."""
    with atomic_write(path) as file:
        np.savez(file, **dict[str, Any](arrays))
