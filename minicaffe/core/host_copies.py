"""Copies on the host of a blob's arrays on a GPU, which a script may write into (Caffe's SyncedMemory)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicaffe.device.array import Array, to_host


class HostCopies:
    """Copies of one blob's "data" and "diff"; either may be newer than the device's array.

    A caller that has fetched a copy may write into it until the device next uses the blob: then the copy is sent
    there first. Fetching again returns the same array with the device's current values.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._newer: set[str] = set()

    def fetch(self, what: str, stored: Callable[[], Array]) -> np.ndarray:
        """The up-to-date copy of ``stored()``. From now on the copy counts, not the device's array."""
        if not self.is_newer(what):
            array: Any = stored()  # a cupy.ndarray
            copy = self._arrays.get(what)
            self._arrays[what] = to_host(array) if copy is None else array.get(out=copy)
            self._newer.add(what)
        return self._arrays[what]

    def is_newer(self, what: str) -> bool:
        """Whether the copy counts, not the device's array."""
        return what in self._newer

    def send(self, what: str, stored: Array) -> None:
        """Send the copy to the device's array ``stored``, which counts from now on."""
        self._newer.remove(what)
        array: Any = stored  # a cupy.ndarray
        array.set(self._arrays[what])

    def outdate(self, what: str) -> None:
        """Let the device's array count, whatever was written into the copy."""
        self._newer.discard(what)
