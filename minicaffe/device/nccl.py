"""Ranks with a GPU each: arrays on the GPUs are summed by NCCL, and all else goes by MPI.

    current stream   … backward of conv2 ─┬─ backward of conv1 ───────┬─ update of conv2 …
    side stream                           └─ sum of conv2's gradient ─┘

NCCL works on a stream of its own, and no host waits for it: a sum comes after all that the current stream was asked
for before ``start_sum``, and what the current stream is asked for after ``wait`` comes after the sum. (NVIDIA, NCCL
User Guide, "Creating a Communicator", "Collective Operations" and "CUDA Stream Semantics".)
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple, TypeVar

from minicaffe.device.array import CPU, Array, Device, SideStream, gpu_count, nccl_library, on_cpu
from minicaffe.device.communicator import Communicator, Done, Pending, of_all_ranks
from minicaffe.device.mpi import MpiCommunicator, whole
from minicaffe.errors import CommunicatorError

Value = TypeVar("Value")


class NcclCommunicator(Communicator):
    """The ranks of an MPI communicator, each of which computes on a GPU of its own.

    All of them make it together. Raises CommunicatorError on all ranks if two share a GPU, or one has none or lacks
    NCCL. What NCCL itself raises is a device error (``is_device_error``).
    """

    def __init__(self, ranks: MpiCommunicator, device: Device) -> None:
        check_devices(ranks, device)
        self._nccl = ranks.together(nccl_library)
        self._ranks, self._device = ranks, device
        self.rank, self.size = ranks.rank, ranks.size
        self._side = SideStream(device.index)
        self._started: dict[int, _Started] = {}
        unique = ranks.on_root(self._nccl.get_unique_id)
        with device.entered():
            self._gpus = self._nccl.NcclCommunicator(self.size, unique, self.rank)

    def start_sum(self, array: Array) -> Pending:
        if on_cpu(array):
            return self._ranks.start_sum(array)
        if not array.size:
            return Done()
        return self._start(self._gpus.allReduce, array, self._nccl.NCCL_SUM)

    def broadcast(self, array: Array) -> None:
        if on_cpu(array):
            self._ranks.broadcast(array)
        elif array.size:
            self._start(self._gpus.broadcast, array, 0).wait()

    def _start(self, function: Any, array: Array, choice: int) -> _Started:
        """Launch what NCCL does to an array in place; ``choice`` is the kind of sum, or the rank that gives."""
        memory: Any = whole(array)
        address, kind = memory.data.ptr, self._kind_of(array)
        self._side.follow()
        with self._device.entered():
            function(address, address, array.size, kind, choice, self._side.handle)
        return _Started(self._side, array, self._started)

    def _kind_of(self, array: Array) -> int:
        """NCCL's number for the type of an array's numbers. Raises TypeError."""
        kind = getattr(self._nccl, f"NCCL_{array.dtype.name.upper()}", None)
        if kind is None:
            raise TypeError(f"NCCL sums no numbers of type {array.dtype}")
        return int(kind)

    def progress(self) -> None:
        """NCCL goes on by itself. Raises its error if a link has broken."""
        self._ranks.progress()
        try:
            self._gpus.check_async_error()
        except Exception:
            self._gpus.abort()  # or the GPU would wait for the other ranks for ever, and the program's end for it
            raise

    def gather(self, value: Value) -> list[Value]:
        return self._ranks.gather(value)

    def from_root(self, value: Value) -> Value:
        return self._ranks.from_root(value)

    def highest(self, number: int) -> int:
        return self._ranks.highest(number)

    def end(self) -> None:
        """Leave NCCL and MPI; all ranks do this together."""
        self._gpus.destroy()
        self._ranks.end()


class _Started:
    """Work of NCCL on an array, which stays in memory until the current stream waits for that.

    CuPy would give memory that is let go to whatever the current stream does next, while NCCL still writes there.
    """

    def __init__(self, side: SideStream, array: Array, started: dict[int, _Started]) -> None:
        self._side, self._array, self._started = side, array, started
        self._done = side.mark()
        started[id(self)] = self

    def wait(self) -> None:
        self._side.let_follow(self._done)
        self._started.pop(id(self), None)


class Place(NamedTuple):
    """Where a rank computes; ``gpus`` is how many GPUs it finds."""

    machine: str
    device: str
    address: str
    gpus: int


def check_devices(ranks: Communicator, device: Device) -> None:
    """Raise CommunicatorError on all ranks unless all compute on CPUs, or each on a GPU of its own. Collective."""
    gpus = gpu_count() if device != CPU else 0
    problem = _problem_of(ranks.gather(Place(platform.node(), str(device), device.address, gpus)))
    if problem:
        raise of_all_ranks(CommunicatorError(problem))


def _problem_of(places: list[Place]) -> str:
    """What is wrong with the places of all ranks, or ""."""
    first, taken = places[0], dict[tuple[str, str], int]()
    for rank, place in enumerate(places):
        if bool(place.address) != bool(first.address):
            return (
                f"rank {rank} ({place.machine}) computes on {place.device}, but rank 0 ({first.machine}) on "
                f"{first.device}: either all ranks need a GPU or none; choose --device gpu or cpu"
            )
        other = taken.setdefault((place.machine, place.address), rank)
        if place.address and other != rank:
            shared = f"ranks {other} and {rank} share {place.device}"
            count = sum(p.machine == place.machine for p in places)
            if count > place.gpus:
                ranks = f"{count} ranks on this machine ({place.machine}), but {place.gpus} GPU(s)"
                return f"{ranks}: {shared}; start as many ranks as there are GPUs"
            return f"{shared} ({place.machine}); --device gpu gives each rank of a machine one of its own"
    return ""
