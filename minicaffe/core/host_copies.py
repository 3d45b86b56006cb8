"""The host's copies of what a blob holds on a GPU, which a script may write (Caffe's SyncedMemory)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicaffe.device.array import Array, to_host


class HostCopies:
    """Copies of one blob's "data" and "diff", each of which may be newer than what the device holds.

    Who has fetched a copy may write into it until the device uses its own memory: what was written goes there
    first. Fetched again, the copy is the same array, with what the device has made of it.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._newer: set[str] = set()

    def fetch(self, what: str, stored: Callable[[], Array]) -> np.ndarray:
        """The copy of ``stored()``, in its shape, up to date; from now on the copy is the one that counts."""
        if not self.is_newer(what):
            array: Any = stored()  # a cupy.ndarray
            copy = self._arrays.get(what)
            self._arrays[what] = to_host(array) if copy is None else array.get(out=copy)
            self._newer.add(what)
        return self._arrays[what]

    def is_newer(self, what: str) -> bool:
        """Whether the copy is the one that counts."""
        return what in self._newer

    def send(self, what: str, stored: Array) -> None:
        """Put into ``stored`` what was written into its copy; from now on that counts."""
        self._newer.remove(what)
        array: Any = stored  # a cupy.ndarray
        array.set(self._arrays[what])

    def outdate(self, what: str) -> None:
        """Let the device's numbers count, whatever was written into the copy."""
        self._newer.discard(what)
