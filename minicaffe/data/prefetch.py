"""Prefetcher: a thread that makes the next few batches while the net computes on the current one."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

DEPTH = 4  # Caffe's default: batches made ahead
EXIT_TIMEOUT = 60  # seconds that the program, when it ends, waits for a batch in progress
INTERRUPT_TIMEOUT = 5  # the same, from Control-C on

Batch = TypeVar("Batch")


class _Failure:
    """An error on its way from the thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Queue(Generic[Batch]):
    """What thread and consumer share: the batches made but not yet taken, in order."""

    def __init__(self, make_batch: Callable[[int], Batch], depth: int) -> None:
        self.make_batch = make_batch
        self.depth = depth
        self.ready: deque[tuple[int, Batch | _Failure]] = deque()
        self.changed = threading.Condition()
        self.stopped = False
        self.process = os.getpid()

    def work(self, number: int) -> None:
        """The thread's work: make batches from ``number`` on, until stopped or until one fails."""
        while self._wait_for_room():
            batch: Batch | _Failure
            try:
                batch = self.make_batch(number)
            except BaseException as error:
                batch = _Failure(error)
            with self.changed:
                self.ready.append((number, batch))
                self.changed.notify_all()
            if isinstance(batch, _Failure):
                return
            number += 1

    def _wait_for_room(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.ready) < self.depth)
            return not self.stopped

    def take(self) -> tuple[int, Batch | _Failure] | None:
        """Wait for a batch and return its number and itself, or its _Failure; None if stopped with none left."""
        with self.changed:
            self.changed.wait_for(lambda: bool(self.ready) or self.stopped)
            if not self.ready:
                return None
            numbered = self.ready.popleft()
            self.changed.notify_all()
            return numbered

    def stop(self) -> None:
        if self.process != os.getpid():  # a forked child has no such thread, and the lock may be held forever
            return
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


_is_exiting = threading.Event()  # set once the program ends: no thread may start any more


class _Thread(threading.Thread):
    """A daemon: the interpreter would wait forever for any other thread before it calls ``_end_threads``."""

    def __init__(self, queue: _Queue[Any], number: int) -> None:
        super().__init__(target=queue.work, args=(number,), name="minicaffe-prefetch", daemon=True)
        self.queue = queue


def _end_threads() -> None:
    """End all threads, at the end of the program.

    A thread that is still running when the interpreter shuts down is cut off anywhere: inside a C++ library, which
    then aborts the process, or while it holds a lock that others wait for.
    """
    _is_exiting.set()
    threads = [thread for thread in threading.enumerate() if isinstance(thread, _Thread)]
    for thread in threads:
        thread.queue.stop()
    latest = time.monotonic() + EXIT_TIMEOUT
    for thread in threads:
        while thread.is_alive() and time.monotonic() < latest:
            try:
                thread.join(latest - time.monotonic())
            except KeyboardInterrupt:
                latest = min(latest, time.monotonic() + INTERRUPT_TIMEOUT)


class Prefetcher(Generic[Batch]):
    """Gives batches 0, 1, 2, … of ``make_batch`` in order; up to ``depth`` of them are made ahead.

    ``make_batch`` may reuse buffers: at most ``slots`` consecutive batches are in use at a time, and what ``next``
    returned is the caller's until the following ``next``. It must not refer to the owner of the prefetcher, so that
    dropping the owner ends the thread.

    The thread starts at the first ``next``. It ends with ``close``, with the prefetcher, or with the program, which
    waits for the batch in progress. In a forked child, which has no such thread, ``next`` starts a new one at the
    same batch.
    """

    def __init__(self, make_batch: Callable[[int], Batch], depth: int = DEPTH) -> None:
        self.make_batch = make_batch
        self.depth = depth
        self.number = 0  # of the batch that ``next`` will give
        self._thread: threading.Thread | None = None
        self._queue = _Queue(make_batch, depth)
        self._stop: Callable[[], Any] = lambda: None

    @property
    def slots(self) -> int:
        """How many batches are in use at a time."""
        return slots_for(self.depth)

    def next(self) -> Batch:
        """The next batch. Raises what ``make_batch`` raised; the following ``next`` then tries that batch again."""
        if _is_exiting.is_set():
            return self._make_at_exit()
        if self._thread is None or self._queue.process != os.getpid():
            self._start()
        taken = self._queue.take()
        if taken is None:  # another thread has closed it, or the program is ending
            self.close()
            return self.next()
        number, batch = taken
        if number != self.number:  # Control-C struck after a batch was taken, and lost it: make it again
            self.close()
            return self.next()
        if isinstance(batch, _Failure):
            self.close()
            raise batch.error
        self.number += 1
        return batch

    def _make_at_exit(self) -> Batch:
        """The next batch, for functions that ``atexit`` calls. Daemon threads, which would be cut off, end here."""
        if threading.current_thread() is not threading.main_thread():
            raise SystemExit
        batch = self.make_batch(self.number)
        self.number += 1
        return batch

    def seek(self, number: int) -> None:
        """Make batch ``number`` the one that the following ``next`` returns."""
        self.close()
        self.number = number

    def close(self) -> None:
        """End the thread and wait for it. A following ``next`` would start another."""
        if self._thread is not None and self._queue.process == os.getpid():
            self._stop()
            self._thread.join()
        self._thread = None

    def _start(self) -> None:
        self._queue = _Queue(self.make_batch, self.depth)
        self._thread = thread = _Thread(self._queue, self.number)
        self._stop = weakref.finalize(self, self._queue.stop)
        atexit.unregister(_end_threads)
        atexit.register(_end_threads)  # last in, first out: so before the libraries that the thread uses
        thread.start()


def slots_for(depth: int) -> int:
    """Batches in use at a time: one at the consumer, one in progress, ``depth`` between them."""
    return depth + 2
