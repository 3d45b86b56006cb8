"""Ranks that speak MPI: sums of arrays in host memory, and Python objects (mpi4py, extra ``mpi``).

MPI Forum 2021, "MPI: A Message-Passing Interface Standard", version 4.0, chapter 6. mpi4py: Dalcín, Fang 2021 (doi
10.1109/MCSE.2021.3083216).
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import numpy as np

from minicaffe.device.array import Array
from minicaffe.device.communicator import Communicator, Done, Pending
from minicaffe.errors import CommunicatorError, one_line

Value = TypeVar("Value")
SPIN, PAUSE = (
    2e-3,
    2e-4,
)  # seconds: a wait asks without a pause at first, then leaves the core to other threads


class MpiCommunicator(Communicator):
    """All processes that were started together (MPI_COMM_WORLD).

    Raises CommunicatorError if mpi4py is not installed or finds no MPI.
    """

    def __init__(self) -> None:
        try:
            from mpi4py import MPI
        except Exception as error:  # mpi4py raises RuntimeError where there is no library of MPI
            raise CommunicatorError(
                f"several ranks need mpi4py, and it cannot be imported ({one_line(error)}); "
                "pip install 'minicaffe[mpi]'"
            ) from None
        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self._started: list[_Request] = []

    def start_sum(self, array: Array) -> Pending:
        if self.size == 1 or not array.size:
            return Done()
        request = self._comm.Iallreduce(self._mpi.IN_PLACE, whole(array), op=self._mpi.SUM)
        self._started.append(_Request(request, array))
        return self._started[-1]

    def progress(self) -> None:
        """MPI goes on with what was started only while the program calls it."""
        self._started = [request for request in self._started if not request.is_done()]

    def broadcast(self, array: Array) -> None:
        if array.size:
            _Request(self._comm.Ibcast(whole(array), root=0), array).wait()

    def gather(self, value: Value) -> list[Value]:
        self._meet()
        gathered: list[Value] = self._comm.allgather(value)
        return gathered

    def from_root(self, value: Value) -> Value:
        self._meet()
        given: Value = self._comm.bcast(value, root=0)
        return given

    def highest(self, number: int) -> int:
        found = np.array([number])
        _Request(self._comm.Iallreduce(self._mpi.IN_PLACE, found, op=self._mpi.MAX), found).wait()
        return int(found[0])

    def _meet(self) -> None:
        """Wait for the other ranks as ``_Request`` does.

        In a call of MPI that waits, a rank would keep its core busy and hear no Control-C, while rank 0 tests.
        """
        _Request(self._comm.Ibarrier()).wait()

    def abort(self) -> None:
        """End all ranks at once, this one included."""
        self._mpi.COMM_WORLD.Abort(1)

    def end(self) -> None:
        self._meet()
        self._mpi.Finalize()


def whole(array: Array) -> Array:
    """The array as MPI and NCCL take it. Raises ValueError for one with gaps, which they would send as well."""
    if not array.flags.c_contiguous:
        raise ValueError("an array with gaps cannot be sent")
    return array


def is_mpi_error(error: BaseException) -> bool:
    """Whether MPI reports it: mostly that another rank, on another machine, is gone."""
    return type(error).__module__ == "mpi4py.MPI"


class _Request:
    """Something that was started. It keeps its array from being freed."""

    def __init__(self, request: Any, array: np.ndarray | None = None) -> None:
        self._request, self._array = request, array

    def is_done(self) -> bool:
        return bool(self._request.Test())

    def wait(self) -> None:
        latest = time.perf_counter() + SPIN
        while not self._request.Test():
            if time.perf_counter() > latest:
                time.sleep(PAUSE)
