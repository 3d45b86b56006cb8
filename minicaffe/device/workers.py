"""Work in parts: shared by the cores of a CPU, one launch on a GPU.

NumPy releases the interpreter lock in its loops and in BLAS, so plain threads run at the same time. Parts are
assigned to workers by a fixed rule, so a result never depends on timing. Each worker computes with a BLAS of one
thread (``threadpoolctl``, extra ``cpu``). If that package is missing, or does not know the BLAS, there is one
worker, and BLAS keeps its own threads: slower, with the same results except for the rounding of sums, which depends
on the number of workers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.device.array import Array, module_of, on_cpu

try:
    from threadpoolctl import ThreadpoolController

    _libraries = ThreadpoolController().select(user_api="blas").lib_controllers
except ImportError:
    _libraries = []

# Sizes in elements. With NumPy calls that are too short, the workers wait for each other at the interpreter's lock,
# and waking a worker takes 0.1 ms: so one worker takes small chunks, which stay in its core's cache, and several
# take larger ones, if there is enough work for them at all.
CHUNK = 1 << 18  # of all arrays together
SHARED_CHUNK = 1 << 20
WORTH_SHARING = 1 << 20
BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # what a user may have set
_scratch = threading.local()
logger = logging.getLogger("minicaffe")


def usable_cores() -> frozenset[int]:
    """The cores that this process may use."""
    with contextlib.suppress(AttributeError):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


worker_count = (
    len(usable_cores()) if _libraries else 1
)  # a BLAS that cannot be limited has threads of its own


def share_cores(cores: Sequence[frozenset[int]]) -> None:
    """Leave their part of the cores to other processes of this machine that compute at the same time.

    ``cores`` are those that each may use, this one included. From now on there is one worker for each core that is
    left to this process, at least one, and BLAS has no more threads than that outside workers too: ranks that wait
    for each other's threads are slower than with one thread each. For a program's start, before nets are made.
    """
    global worker_count
    own = usable_cores()
    sharers = sum(not own.isdisjoint(other) for other in cores)
    count = max(1, len(own) // sharers)
    worker_count = min(worker_count, count)
    if not _libraries and sharers > 1 and not any(name in os.environ for name in BLAS_THREADS):
        logger.warning("BLAS uses all cores in each of %d ranks: pip install 'minicaffe[cpu]'", sharers)
    for library in _libraries:
        if library.get_num_threads() > count:
            library.set_num_threads(count)
            getattr(library, "clear_controlling_thread", lambda: None)()


class _OneThread:
    """Keeps BLAS libraries at one thread, from the first ``enter`` of any thread to the last ``leave``."""

    def __init__(self, libraries: Sequence[Any]) -> None:
        self.libraries = libraries
        self.count = 0
        self._before: list[int] = []
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Begin. Several may, one after the other or at the same time."""
        with self._lock:
            if not self.count:
                self._before = [library.get_num_threads() for library in self.libraries]
                self._set([1] * len(self.libraries))
            self.count += 1

    def leave(self) -> None:
        """End one of them; the last restores the numbers of threads."""
        with self._lock:
            self.count -= 1
            if not self.count:
                self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self.libraries, numbers, strict=True):
            library.set_num_threads(number)
            # in newer threadpoolctl only the thread that set a number may set one, until it gives that up
            getattr(library, "clear_controlling_thread", lambda: None)()

    def after_fork(self, count: int) -> None:
        """In a forked child: ``count`` calls were made by the thread that survives."""
        self._lock = threading.Lock()
        if self.count and not count:
            self._set(self._before)
        self.count = count


class _Thread(threading.local):
    """What belongs to one thread: in OpenMP libraries, each calling thread has its own number of threads."""

    def __init__(self) -> None:
        self.blas = _OneThread([lib for lib in _libraries if _is_of_openmp(lib)])
        self.has_one_blas_thread = False


def _is_of_openmp(library: Any) -> bool:
    return getattr(library, "threading_layer", "") == "openmp"


_process_blas = _OneThread([lib for lib in _libraries if not _is_of_openmp(lib)])
_thread = _Thread()


class _Call:
    """One call of a task by a worker: whether it is done, and what it raised."""

    def __init__(self, task: Callable[[int], None]) -> None:
        self.task = task
        self.is_done = False
        self.error: BaseException | None = None
        self._waiting = threading.Lock()
        self._waiting.acquire()

    def finish(self) -> None:
        """Mark it as done (called by the worker)."""
        self.is_done = True
        self._waiting.release()

    def wait(self) -> None:
        """Sleep until it is done."""
        while not self.is_done:
            self._waiting.acquire()


class _Worker:
    """A thread that takes calls from a queue; cheaper than an executor, whose futures cost more than a wake-up."""

    def __init__(self, number: int) -> None:
        self.calls: SimpleQueue[_Call] = SimpleQueue()
        self.number = number
        threading.Thread(target=self._work, name=f"minicaffe-worker-{number}", daemon=True).start()

    def _work(self) -> None:
        _thread.blas.enter()  # and never leaves
        while True:
            call = self.calls.get()
            try:
                call.task(self.number)
            except BaseException as error:
                call.error = error
            call.finish()
            del call


_workers: list[_Worker] = []
_busy = threading.Lock()


def _forget_workers() -> None:
    """Threads do not survive in a forked child: it starts its own."""
    global _busy
    _workers.clear()
    _busy = threading.Lock()
    _process_blas.after_fork(_thread.blas.count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


class _OneBlasThread:
    """What ``one_blas_thread`` returns to a thread that is not inside one."""

    def __enter__(self) -> None:
        _process_blas.enter()
        _thread.blas.enter()
        _thread.has_one_blas_thread = True

    def __exit__(self, *exception: object) -> None:
        _thread.has_one_blas_thread = False
        _thread.blas.leave()
        _process_blas.leave()


def one_blas_thread() -> contextlib.AbstractContextManager[None]:
    """A context in which BLAS uses one thread; afterwards the caller's own setting is restored.

    It may be nested, which costs nothing (a net enters it once for a whole pass), and entered by several threads:
    the setting belongs to the process, and is restored when the last of them leaves.
    """
    return contextlib.nullcontext() if _thread.has_one_blas_thread else _OneBlasThread()


def run(task: Callable[[int], None], workers: int) -> None:
    """Call ``task(0)`` … ``task(workers - 1)`` at the same time; raise what any of them raised.

    If the workers are busy (a net runs in another thread), the calls are made one after the other.
    """
    if workers <= 1 or not _busy.acquire(blocking=False):
        for index in range(workers):
            task(index)
        return
    calls = []
    try:
        while len(_workers) < workers - 1:
            _workers.append(_Worker(len(_workers) + 1))
        try:
            for worker in _workers[: workers - 1]:
                calls.append(_Call(task))
                worker.calls.put(calls[-1])
            task(0)
        finally:
            _wait_for(calls)
    finally:
        _busy.release()
    for call in calls:
        if call.error is not None:
            raise call.error


def _wait_for(calls: list[_Call]) -> None:
    """Wait until all are done. A Control-C in the meantime is raised afterwards, so no call goes on unnoticed."""
    interrupt = None
    for call in calls:
        while not call.is_done:
            try:
                call.wait()
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt


Item = TypeVar("Item")


def share(task: Callable[[Item, int], None], items: Sequence[Item], workers: int) -> None:
    """Call ``task(item, worker)`` for all items. Workers take them in turns: worker 0 the first, and so on.

    A worker for which there is no item is not woken.
    """

    def take_turns(worker: int) -> None:
        for item in items[worker::workers]:
            task(item, worker)

    run(take_turns, min(workers, len(items)))


def share_products(task: Callable[[Item, int], None], items: Sequence[Item], workers: int) -> None:
    """As ``share``, for tasks that multiply matrices: each uses a BLAS of one thread."""
    with one_blas_thread():
        share(task, items, workers)


Calls = list[Callable[[], object]]  # prepared: all arguments are known, all views are made


def make(calls: Calls) -> None:
    """Make the calls, one after the other."""
    for call in calls:
        call()


def together(shares: Sequence[Calls]) -> None:
    """Make calls that may multiply matrices: each worker its share."""
    with one_blas_thread():
        run(lambda worker: make(shares[worker]), len(shares))


def cut(length: int, parts: int) -> list[slice]:
    """Consecutive slices of nearly the same size that cover a length."""
    return [slice(length * i // parts, length * (i + 1) // parts) for i in range(parts)]


def scratch(
    like: Array, shape: tuple[int, ...], slot: int = 0, dtype: DTypeLike | None = None, worker: int = 0
) -> Array:
    """An uninitialised array on the device of ``like``, and of its type, if no other is given. This thread reuses
    its memory: it is valid until the next ``scratch`` with the same slot.

    ``worker`` is the one that will use it, if this thread prepares its work.
    """
    number = like.dtype if dtype is None else np.dtype(dtype)
    if not on_cpu(like):
        fresh: Array = module_of(like).empty(shape, number)
        return fresh
    buffers = _scratch.__dict__.setdefault("buffers", {})
    nbytes = math.prod(shape) * number.itemsize
    place = slot, worker
    if place not in buffers or buffers[place].nbytes < nbytes:
        buffers[place] = np.empty(nbytes, np.uint8)
    reused: Array = buffers[place][:nbytes].view(number).reshape(shape)
    return reused


def filled(like: np.ndarray, length: int, value: float) -> np.ndarray:
    """(length,) of one number, of the type of ``like``, to be read only. This thread keeps it."""
    kept = _scratch.__dict__.setdefault("filled", {})
    key = like.dtype, float(value)
    if key not in kept or len(kept[key]) < length:
        kept[key] = np.full(length, value, like.dtype)
    numbers: np.ndarray = kept[key][:length]
    return numbers


def _in_chunks(function: Callable[..., None], arrays: tuple[Array, ...], length: int, worth: int) -> None:
    """Call ``function`` on slices of the arrays, cut into nearly equal chunks, which the workers take in turns."""
    size = max(a.size for a in arrays)
    workers = min(worker_count, length) if size >= worth else 1
    chunks = -(-sum(a.size for a in arrays) // (CHUNK if workers == 1 else SHARED_CHUNK))
    chunks = min(length, -(-chunks // workers) * workers)

    share(lambda own, worker: function(*[a[own] for a in arrays]), cut(length, chunks), workers)


def elementwise(function: Callable[..., None], *arrays: Array) -> None:
    """Call ``function(*arrays)``, which treats every element alike, in chunks on all workers.

    The arrays are contiguous and have the same number of elements; the function gets flat slices of them.
    """
    if not on_cpu(arrays[0]) or arrays[0].size <= CHUNK:
        function(*arrays)
        return
    _in_chunks(function, tuple(a.reshape(-1) for a in arrays), arrays[0].size, WORTH_SHARING)


def channelwise(function: Callable[..., None], *arrays: Array) -> None:
    """Call ``function(*arrays)``, which treats every channel (leading index) alike, on all workers.

    The function gets slices of whole channels; it is assumed to make several passes over them.
    """
    channels = arrays[0].shape[0] if arrays[0].ndim else 1
    if not on_cpu(arrays[0]) or channels <= 1:
        function(*arrays)
        return
    _in_chunks(function, arrays, channels, WORTH_SHARING // 2)
