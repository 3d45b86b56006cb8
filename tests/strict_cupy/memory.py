"""Memory that a GPU uses: on which device it lies, and whose turn it is.

What is launched takes arrays of the current device alone. (For those of another one, CuPy warns that it is slow, or
raises ValueError, as the machine has it: ``_check_peer_access`` in its ``_core/_kernel.pyx``.)

Two uses of the same memory, of which one is a write, are a race unless one is told to wait for the other, and raise
RuntimeError. CuPy does not look: such a program computes with wrong numbers now and then.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from typing import Any

import numpy as np

from tests.strict_cupy.order import DEVICES, Order, here, host, order_of


class Uses:
    """The last write of some memory, and the last read of each order since then."""

    __slots__ = ("_read", "_written")

    def __init__(self, order: Order) -> None:
        self._written = (order, order.time)
        self._read: dict[Order, int] = {}

    def add(self, order: Order, writes: bool) -> None:
        """One more use. Raises RuntimeError where it is a race."""
        if self._written[0] is not order:
            self._check(order, writes, *self._written, "written")
        if not writes:
            self._read[order] = order.time
            return
        for reader, time in self._read.items():
            self._check(order, writes, reader, time, "read")
        self._written = (order, order.time)
        self._read.clear()

    def _check(self, order: Order, writes: bool, other: Order, time: int, done: str) -> None:
        if not order.comes_after(other, time):
            raise RuntimeError(
                f"race: {order.name} {'writes' if writes else 'reads'} memory that {other.name} has {done}, and "
                "nothing makes it wait for that"
            )


class Allocation(Uses):
    """A piece of device memory, from the pool of the stream that is current.

    What is let go goes back there, and is given out again to that same stream. It does not wait for another stream
    that may be using it still (``_Arena`` in CuPy's ``cuda/memory.pyx``).
    """

    __slots__ = ("__weakref__", "_pool", "device", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self._pool = order_of()
        super().__init__(self._pool)
        if _free[self._pool]:
            self._written, self._read = _free[self._pool].pop()
        self.device, self.nbytes = here.device, nbytes
        with _lock:
            used_bytes[self.device] += nbytes

    @classmethod
    def written(cls, nbytes: int) -> Allocation:
        """One that what was just launched has written."""
        home = cls(nbytes)
        home.add(home._pool, writes=True)
        return home

    def __del__(self) -> None:
        with _lock:
            used_bytes[self.device] -= self.nbytes
        if {self._written[0], *self._read} != {self._pool}:
            _free[self._pool].append((self._written, self._read))


class Pinned(np.ndarray):
    """Page-locked memory of the host: a GPU reads it by itself, and the host must not write it meanwhile.

    Its items are assigned to, which is watched; NumPy refuses to write it in any other way.
    """

    uses: Uses | None = None

    def __array_finalize__(self, base: Any) -> None:
        self.uses = getattr(base, "uses", None)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.uses.add(host, writes=True)
        memory = self.view(np.ndarray)
        memory.flags.writeable = True
        memory[index] = value


def pinned(memory: np.ndarray) -> Pinned:
    """New memory of the host as pinned memory."""
    array = memory.view(Pinned)
    array.uses = Uses(host)
    array.flags.writeable = False
    return array


def check_device(array: Any) -> None:
    """Raise RuntimeError for an array of another device than the current one."""
    if array._home.device != here.device:
        raise RuntimeError(f"an array of device {array._home.device} is used on device {here.device}")


def memory_of(array: Any, writes: bool = False) -> np.ndarray:
    """The memory of an array, for a kernel in the current stream. Raises RuntimeError."""
    check_device(array)
    array._home.add(order_of(), writes)
    return array._memory


def address_of(array: Any) -> int:
    """The address of an array on the device, as CUDA's libraries take it."""
    home, memory = array._home, array._memory
    address = memory.ctypes.data
    _at[address] = weakref.ref(home, lambda _: _at.pop(address, None)), memory
    return address


def at_address(address: int) -> tuple[Allocation, np.ndarray]:
    """Where the array of this address is, and its numbers as they lie there. Raises RuntimeError."""
    home, memory = _at.get(address, (lambda: None, None))
    if home() is None:
        raise RuntimeError(f"no array is at address {address:#x}, or not any more")
    flat = memory.reshape(-1, order="A")
    if not np.shares_memory(flat, memory):
        raise RuntimeError(f"the array at {address:#x} has gaps")
    return home(), flat


_at: dict[int, Any] = {}
_lock = threading.RLock()
used_bytes = [0] * DEVICES
_free: dict[Order, list[Any]] = defaultdict(list)
