"""Prefetcher: a thread that makes the next few batches while the net computes on this one."""

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
LAST_BATCH = 60  # seconds that the end of the program waits for a batch in the making, and leaves it then
IMPATIENT = 5  # the same, from Control-C on

Batch = TypeVar("Batch")


class _Failure:
    """An error on its way from the thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Line(Generic[Batch]):
    """What thread and consumer share: the batches made and not yet taken, in order."""

    def __init__(self, make_batch: Callable[[int], Batch], depth: int) -> None:
        self.make_batch = make_batch
        self.depth = depth
        self.ready: deque[tuple[int, Batch | _Failure]] = deque()
        self.changed = threading.Condition()
        self.stopped = False
        self.process = os.getpid()

    def work(self, number: int) -> None:
        """The thread: make batches from ``number`` on until stopped, or until one fails."""
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
        """The number of a batch, and the batch or its _Failure; waits for it. None: stopped, and none is left."""
        with self.changed:
            self.changed.wait_for(lambda: bool(self.ready) or self.stopped)
            if not self.ready:
                return None
            numbered = self.ready.popleft()
            self.changed.notify_all()
            return numbered

    def stop(self) -> None:
        if self.process != os.getpid():  # a forked child has no such thread, and perhaps a lock held for ever
            return
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


_is_ending = threading.Event()  # the program, so that no thread may start any more


class _Thread(threading.Thread):
    """A daemon, since the interpreter would wait for ever for another kind before it calls ``_end_all``."""

    def __init__(self, line: _Line[Any], number: int) -> None:
        super().__init__(target=line.work, args=(number,), name="minicaffe-prefetch", daemon=True)
        self.line = line


def _end_all() -> None:
    """At the end of the program: end all threads.

    One that runs when the interpreter goes is cut off anywhere: in a C++ library, which aborts the process, or with
    a lock that others wait for.
    """
    _is_ending.set()
    threads = [thread for thread in threading.enumerate() if isinstance(thread, _Thread)]
    for thread in threads:
        thread.line.stop()
    latest = time.monotonic() + LAST_BATCH
    for thread in threads:
        while thread.is_alive() and time.monotonic() < latest:
            try:
                thread.join(latest - time.monotonic())
            except KeyboardInterrupt:
                latest = min(latest, time.monotonic() + IMPATIENT)


class Prefetcher(Generic[Batch]):
    """Gives batches 0, 1, 2, … of ``make_batch`` in order; up to ``depth`` of them are made ahead.

    ``make_batch`` may reuse buffers: at most ``slots`` batches in a row are in use at a time, and what
    ``next`` gave is the caller's until the following ``next``. It must not refer to the owner of the
    prefetcher, so that dropping the owner ends the thread.

    The thread starts at the first ``next``, and ends with ``close``, with the prefetcher, or with the program, that
    waits for the batch in the making. In a forked child, which has no such thread, ``next`` starts a new one at the
    same batch.
    """

    def __init__(self, make_batch: Callable[[int], Batch], depth: int = DEPTH) -> None:
        self.make_batch = make_batch
        self.depth = depth
        self.number = 0  # of the batch that ``next`` will give
        self._thread: threading.Thread | None = None
        self._line = _Line(make_batch, depth)
        self._stop: Callable[[], Any] = lambda: None

    @property
    def slots(self) -> int:
        """How many batches are in use at a time."""
        return slots_for(self.depth)

    def next(self) -> Batch:
        """The next batch. Raises what ``make_batch`` raised; another ``next`` then tries the batch again."""
        if _is_ending.is_set():
            return self._make_last()
        if self._thread is None or self._line.process != os.getpid():
            self._start()
        taken = self._line.take()
        if taken is None:  # another thread has closed it, or the program ends
            self.close()
            return self.next()
        number, batch = taken
        if number != self.number:  # control-C struck after a batch was taken, and lost it: make it again
            self.close()
            return self.next()
        if isinstance(batch, _Failure):
            self.close()
            raise batch.error
        self.number += 1
        return batch

    def _make_last(self) -> Batch:
        """The next batch, for what ``atexit`` calls. Daemons, which the interpreter would cut off, end here."""
        if threading.current_thread() is not threading.main_thread():
            raise SystemExit
        batch = self.make_batch(self.number)
        self.number += 1
        return batch

    def seek(self, number: int) -> None:
        """Let the following ``next`` give batch ``number``."""
        self.close()
        self.number = number

    def close(self) -> None:
        """End the thread and wait until it has ended. A following ``next`` would start another."""
        if self._thread is not None and self._line.process == os.getpid():
            self._stop()
            self._thread.join()
        self._thread = None

    def _start(self) -> None:
        self._line = _Line(self.make_batch, self.depth)
        self._thread = thread = _Thread(self._line, self.number)
        self._stop = weakref.finalize(self, self._line.stop)
        atexit.unregister(_end_all)
        atexit.register(_end_all)  # last in, first out: before what the libraries that it reads with do then
        thread.start()


def slots_for(depth: int) -> int:
    """Batches in use at a time: one at the consumer, one in the making, ``depth`` between them."""
    return depth + 2
