"""Sends batches to the device: the thread that makes them also sends them, so that the net need not wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minicaffe.device.array import Device, HostTransfer, Transfer


class Upload:
    """``make_batch``, with its arrays sent to a device; a batch is one transfer for each array.

    ``slots`` consecutive batches may be in use at a time, as in ``Prefetcher``.
    """

    def __init__(self, make_batch: Callable[[int], Sequence[np.ndarray]], device: Device, slots: int) -> None:
        self.make_batch, self.device = make_batch, device
        self._ring: list[list[HostTransfer | Transfer]] = [[] for _ in range(slots)]

    def __call__(self, number: int) -> list[HostTransfer | Transfer]:
        """Make batch ``number`` and send it. Raises what ``make_batch`` raises."""
        arrays = self.make_batch(number)
        transfers = self._ring[number % len(self._ring)]
        while len(transfers) < len(arrays):
            transfers.append(self.device.transfer())
        for transfer, array in zip(transfers, arrays, strict=True):
            transfer.send(array)
        return transfers
