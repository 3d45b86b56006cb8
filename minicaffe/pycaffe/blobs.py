"""Blobs as pycaffe's scripts take them: ``data`` and ``diff`` are NumPy arrays that may be written in place.

On a CPU a Blob is that already. On a GPU a ``HostBlob`` stands for it (Caffe's SyncedMemory): what a script may
have written on the host is sent to the device before a net runs, and fetched again when it is next asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minicaffe.array import CPU, Device, to_host
from minicaffe.blob import Blob


class HostBlob:
    """A blob of a GPU, seen from the host; it has what a Blob has."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self._arrays: dict[str, np.ndarray] = {}
        self._on_host: set[str] = set()  # which of data and diff the script may have written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blob, name)

    @property
    def data(self) -> np.ndarray:
        """The data, (N, C, H, W); what is written into it counts from the next run on."""
        return self._fetch("data")

    @property
    def diff(self) -> np.ndarray:
        """The gradient, (N, C, H, W)."""
        return self._fetch("diff")

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape."""
        self.send()
        self.blob.reshape(*shape)

    def _fetch(self, what: str) -> np.ndarray:
        if what not in self._on_host:
            array = to_host(getattr(self.blob, what))
            held = self._arrays.get(what)
            if held is not None and held.shape == array.shape:
                held[...] = array
            else:
                self._arrays[what] = np.array(array)
            self._on_host.add(what)
        return self._arrays[what]

    def send(self) -> None:
        """Bring the device up to date."""
        for what in self._on_host:
            array = self._arrays[what]
            if array.shape == self.blob.shape:
                getattr(self.blob, what)[...] = self.blob.device.put(array, self.blob.dtype)
        self._on_host.clear()


class HostView:
    """The blobs of one net or layer as a script on the host sees them."""

    def __init__(self, device: Device) -> None:
        self.is_needed = device != CPU
        self._seen: dict[int, HostBlob] = {}

    def of(self, blob: Blob) -> Blob | HostBlob:
        """What stands for a blob: the blob itself where the host is the device."""
        if not self.is_needed:
            return blob
        return self._seen.setdefault(id(blob), HostBlob(blob))

    def of_all(self, blobs: Iterable[Blob]) -> list[Blob | HostBlob]:
        """``of`` each of some blobs."""
        return [self.of(blob) for blob in blobs]

    def send(self) -> None:
        """Send to the device what the script may have written, before the net reads it."""
        for blob in self._seen.values():
            blob.send()
