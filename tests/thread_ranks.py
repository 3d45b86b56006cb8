"""Ranks that are threads of one process: what several ranks do together, tested without MPI.

    ranks = ThreadRanks(3)
    found = ranks.run(lambda communicator: communicator.gather(communicator.rank))    # 3 × [0, 1, 2]

Sums are added up in the order of the ranks. Where ranks ask for different things at a time, all of them fail.
"""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from minicaffe.device.communicator import Communicator

PATIENCE = 20  # seconds
here = threading.local()  # ``communicator``: the rank that this thread is


class RanksError(AssertionError):
    """Ranks did not do the same."""


class ThreadRanks:
    """``size`` ranks. ``calls`` lists what they did together: ("sum", the array's shape and type), ("gather",) …"""

    def __init__(self, size):
        self.size = size
        self.communicators = [ThreadCommunicator(self, rank) for rank in range(size)]
        self.calls = []
        self.failed = None  # why the ranks cannot go on
        self.changed = threading.Condition()
        self._given = []  # for each call, what each rank gave

    def run(self, function):
        """What ``function(communicator)`` returns on each rank, each in a thread of its own.

        Raises the first error; the other ranks no longer wait for the one that has it.
        """

        def on(communicator):
            here.communicator = communicator
            try:
                return function(communicator)
            except BaseException as error:
                self.fail(error)
                raise

        with ThreadPoolExecutor(self.size) as pool:
            found = [pool.submit(on, communicator) for communicator in self.communicators]
        errors = [error for future in found if (error := future.exception()) is not None]
        if errors:
            raise next((error for error in errors if not isinstance(error, RanksError)), errors[0])
        return [future.result() for future in found]

    def fail(self, error):
        """End all waiting."""
        with self.changed:
            self.failed = self.failed or error
            self.changed.notify_all()

    def give(self, rank, number, call, value, finish):
        """A rank's part in call ``number``. The last that comes calls ``finish`` with what all of them gave."""
        with self.changed:
            while len(self._given) <= number:
                self._given.append({})
                self.calls.append(call)
            given = self._given[number]
            if self.calls[number] == call:
                given[rank] = value
            else:
                problem = f"call {number} of rank {rank} is {call}, but another's is {self.calls[number]}"
                self.failed = self.failed or RanksError(problem)
            if len(given) == self.size:
                finish([given[r] for r in range(self.size)])
            self.changed.notify_all()

    def wait(self, number):
        """Wait until all have taken part in this call; return what they gave."""
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while len(self._given[number]) < self.size:
                if self.failed is not None:
                    raise RanksError(f"another rank failed: {self.failed}") from self.failed
                if not self.changed.wait(deadline - time.monotonic()):
                    missing = set(range(self.size)) - self._given[number].keys()
                    raise RanksError(f"ranks {sorted(missing)} do not come to {self.calls[number]}")
            return [self._given[number][rank] for rank in range(self.size)]


class ThreadCommunicator(Communicator):
    """One of the ``ThreadRanks``."""

    def __init__(self, ranks, rank):
        self._ranks, self.rank, self.size = ranks, rank, ranks.size
        self._number = 0

    def _start(self, call, value, finish=lambda given: None):
        number, self._number = self._number, self._number + 1
        self._ranks.give(self.rank, number, call, value, finish)
        return number

    def _all(self, kind, value):
        return [pickle.loads(each) for each in self._ranks.wait(self._start((kind,), pickle.dumps(value)))]

    def start_sum(self, array):
        given = array.copy()
        number = self._start(("sum", *described(array)), given, add_up)
        array[...] = np.nan  # nobody reads it before ``wait``
        return Started(self._ranks, number, array, given)

    def broadcast(self, array):
        self._ranks.wait(self._start(("broadcast", *described(array)), array, copy_first))

    def gather(self, value):
        return self._all("gather", value)

    def from_root(self, value):
        return self._all("from_root", value)[0]

    def highest(self, number):
        return max(self._all("highest", number))

    def end(self):
        """There is nothing to leave."""


class Started:
    """A sum that was started."""

    def __init__(self, ranks, number, array, given):
        self._ranks, self._number = ranks, number
        self._array, self._given = array, given

    def wait(self):
        self._ranks.wait(self._number)
        self._array[...] = self._given


def described(array):
    """The shape and type of an array that can be sent."""
    assert array.flags.c_contiguous, "an array with gaps cannot be sent"
    return array.shape, str(array.dtype)


def add_up(arrays):
    """Overwrite all arrays with their sum."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    for array in arrays:
        array[...] = total


def copy_first(arrays):
    """Overwrite all arrays with the first."""
    for array in arrays[1:]:
        array[...] = arrays[0]
