"""How long a step of many ranks takes, from one of few: what ``distributed.py model`` and ``slow`` compute with.

A recorded step is a list of events: so much work of this rank, then a sum is started, or waited for. To predict the
step on another link, the same work is done again, and sums take as long as that link needs for them:

    work      │■■■■■ start 1 ■■■■■ start 2 ■■■■■■■ wait 1 ■ wait 2 ■■│
    link      │            └──── 1 ────┘└───────── 2 ─────────┘      │
                                                         ▲ not hidden

The link carries one sum after the other, in the order in which they are started. All ranks are alike, and start
theirs at the same time: what slow ranks cost the others is not in it.

A sum of n bytes over N ranks takes the shorter of these times, with the latency α of a message and the time β of a
byte. ⌈log₂ N⌉ messages of all n bytes are sent by recursive doubling; the other, which halves and gathers, sends
twice as many, that are shorter:

    ⌈log₂ N⌉ · (α + n·β)        2 · ⌈log₂ N⌉ · α + 2 · (N − 1)/N · n·β

Thakur, Rabenseifner and Gropp 2005 (doi 10.1177/1094342005051521), section 4.5; adding up is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from minicaffe.device.communicator import Communicator, Pending

Value = TypeVar("Value")
SMALL = 8  # bytes of a number on which ranks agree


@dataclass(frozen=True)
class Link:
    """What connects a rank with the others: seconds before a message arrives, and bits a second."""

    latency: float
    rate: float

    def seconds_of_sum(self, size: int, ranks: int) -> float:
        """How long a sum of ``size`` bytes over all ranks takes."""
        if ranks == 1:
            return 0.0
        rounds, sending = math.ceil(math.log2(ranks)), 8 * size / self.rate
        doubling = rounds * (self.latency + sending)
        return min(doubling, 2 * rounds * self.latency + 2 * (ranks - 1) / ranks * sending)


@dataclass(frozen=True)
class Event:
    """``work`` seconds, then sum ``number`` of ``size`` bytes is started, or waited for; or the step ends."""

    work: float
    kind: str  # start, wait, end
    number: int = 0
    size: int = 0


def scaled(step: Sequence[Event], factor: float) -> list[Event]:
    """The same step, with work that takes ``factor`` times as long."""
    return [replace(event, work=event.work * factor) for event in step]


def seconds_of(step: Sequence[Event], seconds_of_sum: Callable[[int], float]) -> tuple[float, float]:
    """How long a recorded step takes if sums take so long; and how many of these seconds are waits."""
    now = free = waited = 0.0
    arrives: dict[int, float] = {}
    for event in step:
        now += event.work
        if event.kind == "start":
            free = max(free, now) + seconds_of_sum(event.size)
            arrives[event.number] = free
        elif event.kind == "wait":
            waited += max(0.0, arrives[event.number] - now)
            now = max(now, arrives[event.number])
    return now, waited


class Recorder(Communicator):
    """Writes down when this rank starts sums and waits for them; ``real``, if there is one, carries them out.

    Without a real one it stands for two ranks, and what it calls sums are the numbers of this one.
    """

    def __init__(self, real: Communicator | None = None) -> None:
        self._real = real or Communicator()
        self.rank, self.size = (real.rank, real.size) if real else (0, 2)
        self._is_alone = real is None
        self._events: list[Event] = []
        self._last, self._number = time.perf_counter(), 0

    @contextmanager
    def recording(self) -> Iterator[list[Event]]:
        """A list that has all events until the context ends."""
        self._events, self._number, self._last = [], 0, time.perf_counter()
        yield self._events
        self._add("end", 0)

    def _add(self, kind: str, number: int, size: int = 0) -> None:
        now = time.perf_counter()
        self._events.append(Event(now - self._last, kind, number, size))
        self._last = time.perf_counter()

    def _start(self, size: int) -> int:
        self._number += 1
        self._add("start", self._number, size)
        return self._number

    def start_sum(self, array: Any) -> Pending:
        number = self._start(array.nbytes)
        return _Watched(self._real.start_sum(array), lambda wait: self._wait(number, wait))

    def _wait(self, number: int, wait: Callable[[], Value]) -> Value:
        self._add("wait", number)
        value = wait()
        self._last = time.perf_counter()  # the wait is no work of this rank
        return value

    def highest(self, number: int) -> int:
        return self._wait(self._start(SMALL), lambda: self._real.highest(number))

    def broadcast(self, array: Any) -> None:
        self._real.broadcast(array)

    def progress(self) -> None:
        self._real.progress()

    def gather(self, value: Value) -> list[Value]:
        return [value, value] if self._is_alone else self._real.gather(value)

    def from_root(self, value: Value) -> Value:
        return self._real.from_root(value)


class _Watched:
    """A ``Pending`` that tells when it is waited for."""

    def __init__(self, pending: Pending, watch: Callable[[Callable[[], None]], None]) -> None:
        self._pending, self._watch = pending, watch

    def wait(self) -> None:
        self._watch(self._pending.wait)


class Slow(Communicator):
    """A communicator whose sums arrive as late as if a link of ``rate`` bits a second carried them."""

    def __init__(self, real: Communicator, rate: float, latency: float = 0.0) -> None:
        self._real, self._link = real, Link(latency, rate)
        self.rank, self.size = real.rank, real.size
        self._free = 0.0

    def start_sum(self, array: np.ndarray) -> Pending:
        self._free = max(self._free, time.perf_counter()) + self._link.seconds_of_sum(array.nbytes, self.size)
        return _Late(self._real.start_sum(array), self._free)

    def broadcast(self, array: np.ndarray) -> None:
        self._real.broadcast(array)

    def progress(self) -> None:
        self._real.progress()

    def gather(self, value: Value) -> list[Value]:
        return self._real.gather(value)

    def from_root(self, value: Value) -> Value:
        return self._real.from_root(value)

    def highest(self, number: int) -> int:
        return self._real.highest(number)


class _Late:
    """A ``Pending`` that does not end before a time."""

    def __init__(self, pending: Pending, until: float) -> None:
        self._pending, self._until = pending, until

    def wait(self) -> None:
        self._pending.wait()
        time.sleep(max(0.0, self._until - time.perf_counter()))
