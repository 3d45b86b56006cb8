"""The doubles of ``cupy.cuda``, ``cupy.RawKernel`` and ``cupyx.empty_pinned``.

The null stream's work is done at once. Work in a stream of its own is done as late as it may be: when an event
after it, or the stream, is waited for. So what reads too early reads what was there before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from strict_cupy.arrays import ndarray, on_current_device
from strict_cupy.names import RECORD, checked_methods
from strict_cupy.rules import count, current_device, make_current

DEVICES = 2


class Work:
    """Something to be done once, by whoever waits for it."""

    def __init__(self, task: Callable[[], None]) -> None:
        self._task: Callable[[], None] | None = task
        self._lock = threading.Lock()

    def finish(self) -> None:
        """Do it, unless it is done."""
        with self._lock:
            if self._task is not None:
                self._task()
            self._task = None


@checked_methods("cuda.Stream")
class Stream:
    """A queue of work."""

    null: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.work: list[Work] = []

    def do(self, task: Callable[[], None]) -> None:
        """Put something at the end of the queue."""
        if self is Stream.null:
            task()
        else:
            self.work = [*self.work[-8:], Work(task)]

    def synchronize(self):
        count("synchronizations")
        for work in self.work:
            work.finish()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        """Memory is not given out by streams here."""

    def wait_event(self, event):
        for work in event.work:
            work.finish()

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event


@checked_methods("cuda.Event")
class Event:
    """A place in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.work: list[Work] = []

    def record(self, stream=None):
        self.work = (Stream.null if stream is None else stream).work

    def synchronize(self):
        count("synchronizations")
        for work in self.work:
            work.finish()


Stream.null = Stream(null=True)


@checked_methods("cuda.Device")
class Device:
    """One of two devices; ``use``, or to enter it, makes it this thread's."""

    def __init__(self, device=0):
        self.id = int(device)
        if self.id not in range(DEVICES):
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._before = []

    def use(self):
        make_current(self.id)

    def synchronize(self):
        count("synchronizations")

    def __enter__(self) -> Device:
        self._before.append(current_device())
        make_current(self.id)
        return self

    def __exit__(self, *exc: object) -> None:
        make_current(self._before.pop())


@checked_methods("RawKernel")
class RawKernel:
    """A CUDA kernel, run on the CPU by ``cuda_on_cpu.py``.

    It refuses what a kernel would take for something else: arrays that are not contiguous, and Python's numbers,
    whose type the source does not know.
    """

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc"):
        if not isinstance(code, str) or not isinstance(name, str) or not isinstance(options, tuple):
            raise TypeError("code and name must be str, options a tuple")
        self.code, self.name, self.options, self.backend = code, name, options, backend
        self._compiled: Callable[..., None] | None = None

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        import cuda_on_cpu

        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")
        if shared_mem:
            raise NotImplementedError("the double has no dynamic shared memory")
        passed = tuple(self._passed(a) for a in args)
        if self._compiled is None:
            self._compiled = cuda_on_cpu.compile_kernel(self.code, self.name, self.options)
        count("launches")
        self._compiled(grid, block, passed)

    def _passed(self, argument: Any) -> Any:
        if isinstance(argument, ndarray):
            on_current_device(argument)
            if not argument.flags.c_contiguous:
                raise ValueError(
                    f"kernel {self.name}: an array of strides {argument.strides} is not contiguous"
                )
            return argument._memory
        if isinstance(argument, (np.int32, np.int64, np.float32, np.float64)):
            return argument
        raise TypeError(
            f"kernel {self.name}: an argument is a {type(argument)}; pass an array on the device, or a number as "
            "np.int32, np.int64, np.float32 or np.float64"
        )


@checked_methods("cuda.MemoryPool")
class MemoryPool:
    """The device's memory that CuPy keeps for later: here, none."""

    def total_bytes(self):
        return 0

    def used_bytes(self):
        return 0

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
    return np.empty(shape, dtype, order)


errors = {
    name: type(name.rpartition(".")[2], ({"RuntimeError": RuntimeError, "Exception": Exception}[base],), {})
    for name, base in RECORD["errors"].items()
}
functions = {
    "get_current_stream": lambda device_id=-1: Stream.null,
    "runtime.driverGetVersion": lambda: 12080,
    "runtime.getDeviceCount": lambda: DEVICES,
    "runtime.getDeviceProperties": _properties,
}
