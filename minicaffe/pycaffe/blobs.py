"""Blobs as pycaffe's scripts take them: ``data`` and ``diff`` are NumPy arrays that may be written in place.

On a CPU a Blob is that already. On a GPU a ``HostBlob`` stands for it, whose arrays are the blob's copies on the
host; the blob itself sends to the device what was written there, before anything uses its memory (``HostCopies``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minicaffe.array import CPU, Device
from minicaffe.blob import Blob


class HostBlob:
    """A blob of a GPU, seen from the host; it has what a Blob has."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blob, name)

    @property
    def data(self) -> np.ndarray:
        """The data, (N, C, H, W); what is written into it counts from the next run on."""
        return self.blob.on_host("data")

    @property
    def diff(self) -> np.ndarray:
        """The gradient, (N, C, H, W)."""
        return self.blob.on_host("diff")


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
