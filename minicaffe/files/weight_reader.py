"""What files of arrays have in common: an array has a name, ``<layer>/<index>``, and is read when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np

from minicaffe.errors import WeightError

Shape = tuple[int, ...]
Reader = TypeVar("Reader", bound="WeightReader")


class WeightReader:
    """``shapes`` has the shape of each array by its name, before any is read.

    Subclasses are one file format each: they fill ``shapes`` and read an array in ``_array``. What is wrong with
    the file is raised as ``error``.
    """

    def __init__(self, path: str | Path, error: type[Exception] = WeightError) -> None:
        self.path, self.error = path, error
        self.shapes: dict[str, Shape] = {}

    def __enter__(self: Reader) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        """Let go of the file."""

    def layers(self) -> dict[str, list[str]]:
        """The names of the layers that have arrays, with the arrays' names in order."""
        found: dict[str, list[tuple[int, str]]] = {}
        for key in self.shapes:
            name, _, index = key.rpartition("/")
            if name and index.isdecimal():
                found.setdefault(name, []).append((int(index), key))
        return {name: [key for _, key in sorted(keys)] for name, keys in found.items()}

    def check(self, key: str, shape: Shape | None, advice: str = "") -> None:
        """Raise ``error`` where the array of that name is missing or not of ``shape`` (None: any).

        ``advice`` is added to the message about another shape.
        """
        if key not in self.shapes:
            raise self.error(f"{self.path}: has no array '{key}'")
        if shape is not None and self.shapes[key] != shape:
            raise self.error(
                f"{self.path}: '{key}' has shape {self.shapes[key]}, the net expects {shape}{advice}"
            )

    def read(self, key: str, shape: Shape | None = None) -> np.ndarray:
        """The array of that name. Raises ``error`` where it is missing, damaged, or not of ``shape``."""
        self.check(key, shape)
        return self._array(key)

    def text(self, key: str) -> str:
        """The text of that name. Raises ``error`` where there is none."""
        raise self.error(f"{self.path}: '{key}' is no text")

    def _array(self, key: str) -> np.ndarray:
        raise NotImplementedError
