"""The double of ``cupy.cuda.nccl``: sums and broadcasts between ranks, which are threads, or processes of MPI.

NCCL takes addresses, counts and numbers for types as they are. Here an address has to be that of an array on the
rank's device, and the rest has to fit that array. All ranks have to ask for the same, in the same order. What NCCL
reads and writes, it does in the stream that it is given: see ``memory.py``.

NCCL returns before the other ranks have come. The double waits for them, and ends with an error if they do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tests import thread_ranks
from tests.strict_cupy.devices import errors, order_at
from tests.strict_cupy.memory import at_address
from tests.strict_cupy.names import RECORD, checked_methods
from tests.strict_cupy.order import here
from tests.strict_cupy.rules import count as note

ID_BYTES = 128
numbers = {name.rpartition(".")[2]: value for name, value in RECORD["numbers"].items()}
DTYPES = {value: np.dtype(name[5:].lower()) for name, value in numbers.items() if name != "NCCL_SUM"}
_given_out: set[bytes] = set()


def get_unique_id():
    """What the ranks that are to work together have in common."""
    _given_out.add(unique := os.urandom(ID_BYTES))
    return unique


@checked_methods("cuda.nccl.NcclCommunicator")
class NcclCommunicator:
    """One of ``ndev`` ranks, for the device that is current when it is made."""

    def __init__(self, ndev, commId, rank, config=None):
        if not isinstance(commId, bytes) or len(commId) != ID_BYTES:
            raise ValueError(f"commId length {len(commId)} != {ID_BYTES}.")
        self._device, self._rank = here.device, rank
        self._gather = _gather(ndev)
        found = self._gather((commId, commId in _given_out, self._device))
        ids, are_known, devices = zip(*found, strict=True)
        if len(devices) != ndev or found[rank][2] != self._device:
            raise _error("INVALID_ARGUMENT: another number of ranks, or another rank")
        if len(set(ids)) > 1 or not any(are_known):
            raise _error("INVALID_ARGUMENT: an id that rank 0 has not made for all ranks")
        if len(set(devices)) < ndev:
            raise _error("INVALID_USAGE: two ranks have the same GPU")

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        if op != numbers["NCCL_SUM"]:
            raise NotImplementedError("no reductions here but sums")
        source = self._use(sendbuf, count, datatype, stream, writes=sendbuf == recvbuf)
        target = source if sendbuf == recvbuf else self._use(recvbuf, count, datatype, stream, writes=True)
        total, *others = self._exchange(("allReduce", count, datatype, op), source.copy())
        for other in others:
            total = total + other
        target[...] = total

    def broadcast(self, sendbuff, recvbuff, count, datatype, root, stream):
        is_root = self._rank == root
        source = self._use(sendbuff, count, datatype, stream, writes=False) if is_root else None
        target = self._use(recvbuff, count, datatype, stream, writes=True)
        given = self._exchange(
            ("broadcast", count, datatype, root), source.copy() if source is not None else None
        )
        target[...] = given[root]

    def check_async_error(self):
        """There is none."""
        self._check_is_alive()

    def destroy(self):
        self._gather = None

    def abort(self):
        self._gather = None

    def _check_is_alive(self):
        if self._gather is None:
            raise _error("INVALID_ARGUMENT: a communicator that was destroyed")

    def _use(self, address: int, count: int, datatype: int, stream: int, writes: bool) -> np.ndarray:
        """The memory at an address, read or written in a stream, as it lies there."""
        self._check_is_alive()
        home, memory = at_address(address)
        order = order_at(stream)
        if not self._device == here.device == home.device == order.device:
            raise RuntimeError(
                f"rank {self._rank} is on device {self._device}, but the current one is {here.device}, that of "
                f"the array {home.device} and that of the stream {order.device}"
            )
        if (memory.dtype, memory.size) != (DTYPES[datatype], count):
            raise TypeError(
                f"{count} numbers of {DTYPES[datatype]} are not the {memory.size} of {memory.dtype} there"
            )
        home.add(order, writes)
        return memory

    def _exchange(self, what: Any, memory: Any) -> list[Any]:
        note("launches")
        asked, given = zip(*self._gather((what, memory)), strict=True)
        if len(set(asked)) > 1:
            raise _error(f"INVALID_USAGE: ranks ask for different things: {asked}")
        return list(given)


def _gather(size: int) -> Callable[[Any], list[Any]]:
    """What gives a value to all ranks, and returns what all have given."""
    if size == 1:
        return lambda value: [value]
    ranks = getattr(thread_ranks.here, "communicator", None)
    if ranks is not None:
        return ranks.gather
    from mpi4py import MPI

    return MPI.COMM_WORLD.Dup().allgather


def _error(text: str) -> Exception:
    return errors["cuda.nccl.NcclError"](f"NCCL_ERROR_{text}")
