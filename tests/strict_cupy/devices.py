"""The doubles of ``cupy.cuda``, ``cupy.RawKernel`` and ``cupyx.empty_pinned``."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tests.strict_cupy.arrays import ndarray
from tests.strict_cupy.memory import memory_of, pinned, used_bytes
from tests.strict_cupy.names import RECORD, checked_methods
from tests.strict_cupy.order import DEVICES, Order, here, host, host_waits, order_of, orders
from tests.strict_cupy.rules import count
from tests.strict_cupy.signatures import Parameter, parameters

_streams: WeakValueDictionary[int, Stream] = WeakValueDictionary()


@checked_methods("cuda.Stream")
class Stream:
    """A queue of work on the device that was current when it was made; the null stream is on each."""

    null: Stream
    _numbers = itertools.count(1)

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        if not null and not non_blocking:
            raise NotImplementedError("streams that wait for the null stream: only non_blocking=True here")
        number = 0 if null else next(self._numbers)
        self._order = None if null else Order(f"stream {number}", here.device)
        self.ptr = 16 * number  # CUDA keeps 1 and 2 for itself
        _streams[self.ptr] = self

    def synchronize(self):
        count("synchronizations")
        host_waits(order_of(self))

    def __enter__(self) -> Stream:
        device = order_of(self).device
        if device != here.device:  # check_stream_device_match in CuPy's cuda/stream.pyx
            raise RuntimeError(
                f"The device that the stream is created on ({device}) is different from the current device "
                f"({here.device})"
            )
        here.left.append((device, _current_stream()))
        here.streams[device] = self
        return self

    def __exit__(self, *exc: object) -> None:
        device, here.streams[device] = here.left.pop()

    def wait_event(self, event):
        order_of(self).learn(event._moment)

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event


def order_at(address: int) -> Order:
    """That of the stream with this ``ptr``."""
    stream = _streams.get(address)
    if stream is None:
        raise _runtime_error(f"InvalidResourceHandle: no stream is at {address:#x}")
    return order_of(stream)


def _current_stream(device_id: int = -1) -> Stream:
    return here.streams.get(here.device if device_id == -1 else device_id, Stream.null)


@checked_methods("cuda.Event")
class Event:
    """A moment in a stream of the device that was current when it was made."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self._device = here.device
        self._moment: dict[Order, int] = {}

    def record(self, stream=None):
        order = order_of(stream)
        if self._device != order.device:
            raise _runtime_error("InvalidResourceHandle: an event of another device")
        self._moment = order.moment()

    def synchronize(self):
        count("synchronizations")
        host.learn(self._moment)


@checked_methods("cuda.Device")
class Device:
    """One of two devices; ``use``, or to enter it, makes it this thread's current one."""

    def __init__(self, device=None):
        self.id = here.device if device is None else int(device)

    @property
    def pci_bus_id(self):
        return f"0000:{16 * (self.id + 1):02X}:00.0"

    def use(self):
        if not 0 <= self.id < DEVICES:
            raise _runtime_error("InvalidDevice: invalid device ordinal")
        here.device = self.id

    def synchronize(self):
        count("synchronizations")
        for order in [order for order in orders if order.device == self.id]:
            host_waits(order)

    def __enter__(self) -> Device:
        here.left.append(here.device)
        self.use()
        return self

    def __exit__(self, *exc: object) -> None:
        here.device = here.left.pop()


Stream.null = Stream(null=True)


@checked_methods("RawKernel")
class RawKernel:
    """A CUDA kernel, run on the CPU by ``cuda_on_cpu.py``.

    It refuses what a kernel would take for something else: arrays that are not contiguous, Python's numbers, whose
    type the source does not know, and arrays and numbers of another type than the source says.
    """

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        if not isinstance(code, str) or not isinstance(name, str) or not isinstance(options, tuple):
            raise TypeError("code and name must be str, options a tuple")
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self._compiled: Callable[..., None] | None = None
        self._parameters: list[Parameter] | None = None

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        from tests.cuda import cuda_on_cpu

        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")
        if shared_mem or stream is not None:
            raise NotImplementedError("no dynamic shared memory here, and no stream but the current one")
        if self._parameters is None:
            self._parameters = parameters(self.code, self.name)
        if len(args) != len(self._parameters):
            raise TypeError(
                f"kernel {self.name}: {len(args)} arguments for {len(self._parameters)} parameters"
            )
        passed = tuple(map(self._passed, args, self._parameters))
        if self._compiled is None:
            self._compiled = cuda_on_cpu.compile_kernel(self.code, self.name, self.options)
        count("launches")
        self._compiled(grid, block, passed)

    def _passed(self, argument: Any, parameter: Parameter) -> Any:
        is_array = isinstance(argument, ndarray)
        if not is_array and not isinstance(argument, (np.int32, np.int64, np.float32, np.float64)):
            raise TypeError(
                f"kernel {self.name}: an argument is a {type(argument)}; pass an array on the device, or a number "
                "as np.int32, np.int64, np.float32 or np.float64"
            )
        if is_array != parameter.is_pointer or argument.dtype != parameter.dtype:
            kind = "an array" if is_array else "a number"
            raise TypeError(f"kernel {self.name}: {kind} of {argument.dtype} is passed as '{parameter.text}'")
        if not is_array:
            return argument
        if not argument.flags.c_contiguous:
            raise ValueError(f"kernel {self.name}: an array of strides {argument.strides} is not contiguous")
        return memory_of(argument, writes=parameter.is_written)


@checked_methods("cuda.MemoryPool")
class MemoryPool:
    """The current device's memory. What CuPy keeps for later is not counted here: there is none."""

    def total_bytes(self):
        return self.used_bytes()

    def used_bytes(self):
        return used_bytes[here.device]

    def free_all_blocks(self, stream=None):
        """There are none."""


def _properties(device: int) -> dict[str, Any]:
    return {
        "name": b"the double of a GPU",
        "totalGlobalMem": 8 << 30,
        "multiProcessorCount": 4,
        "warpSize": 32,
    }


def empty_pinned(shape, dtype=float, order="C"):
    """An array of the host whose memory the device can read by itself."""
    return pinned(np.empty(shape, dtype, order))


def _runtime_error(text: str) -> Exception:
    return errors["cuda.runtime.CUDARuntimeError"](f"cudaError{text}")


errors = {
    name: type(name.rpartition(".")[2], (getattr(builtins, base),), {"__module__": module})
    for name, (module, base) in RECORD["errors"].items()
}
functions = {
    "get_current_stream": _current_stream,
    "runtime.driverGetVersion": lambda: 12080,
    "runtime.getDeviceCount": lambda: DEVICES,
    "runtime.getDeviceProperties": _properties,
}
