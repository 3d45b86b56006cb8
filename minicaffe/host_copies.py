"""The host's copies of what a blob holds on a GPU, which a script may write (Caffe's SyncedMemory)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicaffe.array import Array, to_host


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
        if what not in self._newer:
            array = to_host(stored())
            self._arrays.setdefault(what, np.empty_like(array))[...] = array
            self._newer.add(what)
        return self._arrays[what]

    def send(self, what: str, stored: Array) -> None:
        """Put into ``stored`` what was written into its copy, if that counts."""
        if what in self._newer:
            self._newer.remove(what)
            stored.set(self._arrays[what])

    def outdate(self, what: str) -> None:
        """Let the device's numbers count, whatever was written into the copy."""
        self._newer.discard(what)
