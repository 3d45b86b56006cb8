"""Blobs as scripts for pycaffe expect them: ``data`` and ``diff`` are NumPy arrays that may be written in place.

On a CPU a Blob is that already. On a GPU a ``HostBlob`` stands for it, whose arrays are the blob's copies on the
host; the blob itself sends to the device what was written there, before anything uses its memory (``HostCopies``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.device.array import CPU, Device
from minicaffe.errors import MinicaffeError


class HostBlob:
    """A blob of a GPU, seen from the host; it has what a Blob has."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob

    def __getattr__(self, name: str) -> Any:
        if name == "blob":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.blob, name)

    def __repr__(self) -> str:
        return repr(self.blob)

    @property
    def data(self) -> np.ndarray:
        """The data, (N, C, H, W), to be written in place (``Blob.on_host``)."""
        return self.blob.on_host("data")

    @property
    def diff(self) -> np.ndarray:
        """The gradient, (N, C, H, W)."""
        return self.blob.on_host("diff")


class BlobVec(list[Any]):
    """The parameters of a layer."""

    def __init__(
        self, blobs: Iterable[Blob | HostBlob], add: Callable[[Sequence[int]], Any] | None = None
    ) -> None:
        """``add`` makes one more for a layer that is being set up."""
        super().__init__(blobs)
        self._add = add

    def add_blob(self, *shape: int) -> None:
        """Add a parameter of this shape, zeros. Raises MinicaffeError except in a script's layer."""
        if self._add is None:
            raise MinicaffeError("add_blob: parameters are added in 'setup' of a layer written in Python")
        self.append(self._add(shape))


class HostView:
    """The blobs of one net or layer as a script on the host sees them."""

    def __init__(self, device: Device) -> None:
        self.is_needed = device != CPU
        self._seen: dict[int, HostBlob] = {}

    def of(self, blob: Blob) -> Blob | HostBlob:
        """What represents a blob: the blob itself if the host is the device."""
        return self._seen.setdefault(id(blob), HostBlob(blob)) if self.is_needed else blob

    def of_all(self, blobs: Iterable[Blob]) -> BlobVec:
        """``of`` each of some blobs."""
        return BlobVec(self.of(blob) for blob in blobs)
