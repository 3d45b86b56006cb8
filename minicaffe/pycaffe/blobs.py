"""Blobs as pycaffe's scripts take them: ``data`` and ``diff`` are NumPy arrays that may be written in place.

On a CPU a Blob is that already. On a GPU a ``HostBlob`` stands for it (Caffe's SyncedMemory): what a script may
have written on the host is sent to the device before anything runs there, and fetched when it is next asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minicaffe.array import CPU, Device, to_host
from minicaffe.blob import Blob

STORED = {"data": "stored", "diff": "stored_diff"}


class HostBlob:
    """A blob of a GPU, seen from the host; it has what a Blob has."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blob, name)

    @property
    def data(self) -> np.ndarray:
        """The data, (N, C, H, W); what is written into it counts from the next run on."""
        return self._view("data")

    @property
    def diff(self) -> np.ndarray:
        """The gradient, (N, C, H, W)."""
        return self._view("diff")

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape."""
        send_written()
        self.blob.reshape(*shape)

    def _view(self, what: str) -> np.ndarray:
        owner = self.blob.memory_of(what)
        stored = _memories.setdefault(owner, _Memory()).fetch(owner, what)
        return self.blob.logical(stored.reshape(self.blob.stored_shape))


class _Memory:
    """The host's copies of what one blob owns."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.on_host: set[str] = set()  # which of data and diff the script may have written since

    def fetch(self, owner: Blob, what: str) -> np.ndarray:
        """The array as it lies in memory, up to date; from now on the host's copy is the one that counts."""
        if what not in self.on_host:
            array, held = to_host(getattr(owner, STORED[what])), self.arrays.get(what)
            if held is None or held.shape != array.shape:
                self.arrays[what] = np.array(array)
            else:
                held[...] = array
            self.on_host.add(what)
        return self.arrays[what]

    def send(self, owner: Blob) -> None:
        for what in self.on_host:
            stored = getattr(owner, STORED[what])
            if (
                stored.shape == self.arrays[what].shape
            ):  # else the blob was reshaped, and its numbers are gone
                stored[...] = owner.device.put(self.arrays[what])
        self.on_host.clear()


_memories: WeakKeyDictionary[Blob, _Memory] = WeakKeyDictionary()


def send_written() -> None:
    """Send to the device what scripts may have written, before anything runs there."""
    for owner, memory in list(_memories.items()):
        memory.send(owner)


class HostView:
    """The blobs of one net or layer as a script on the host sees them."""

    def __init__(self, device: Device) -> None:
        self.is_needed = device != CPU
        self._seen: dict[int, HostBlob] = {}

    def of(self, blob: Blob) -> Blob | HostBlob:
        """What stands for a blob: the blob itself where the host is the device."""
        return self._seen.setdefault(id(blob), HostBlob(blob)) if self.is_needed else blob

    def of_all(self, blobs: Iterable[Blob]) -> list[Blob | HostBlob]:
        """``of`` each of some blobs."""
        return [self.of(blob) for blob in blobs]
