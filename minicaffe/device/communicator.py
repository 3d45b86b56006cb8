"""Communicators: what the processes that train one net together, the ranks, say to each other.

Rank 0 … N − 1 of N ranks run the same program on data of their own. What they do together is collective: all of
them ask for it, in the same order.

    Communicator        one process by itself: nothing is sent
    MpiCommunicator     arrays in host memory, by MPI (``mpi.py``)
    NcclCommunicator    arrays on GPUs, by NCCL, and all else by MPI (``nccl.py``)

``launch.communicator()`` finds the one that this process was started for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from minicaffe.device.array import Array
from minicaffe.errors import MinicaffeError

Value = TypeVar("Value")
Error = TypeVar("Error", bound=MinicaffeError)


class Pending(Protocol):
    """Something collective that was started."""

    def wait(self) -> None:
        """Return once the result is there, or on a GPU: once all that follows comes after it."""


class Done:
    """A ``Pending`` for what is done already."""

    def wait(self) -> None:
        """Return at once."""


class Communicator:
    """One process by itself, and what ranks can do together.

    ``rank`` is this one's number, ``size`` how many there are. Arrays are contiguous, and on the device of the net.
    """

    rank = 0
    size = 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}: rank {self.rank} of {self.size}"

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, which tests, shows and saves for all."""
        return self.rank == 0

    def start_sum(self, array: Array) -> Pending:
        """Begin to overwrite an array, the same shape everywhere, with its sum over all ranks.

        The array is neither read nor written before ``wait`` has returned.
        """
        return Done()

    def sum(self, array: Array) -> Array:
        """Overwrite an array with its sum over all ranks, and return it."""
        self.start_sum(array).wait()
        return array

    def broadcast(self, array: Array) -> None:
        """Overwrite an array with that of rank 0."""

    def progress(self) -> None:
        """Let what was started go on, where nothing does this beside the program."""

    def gather(self, value: Value) -> list[Value]:
        """The Python objects that all ranks give, in the order of the ranks; every rank gets them all."""
        return [value]

    def from_root(self, value: Value) -> Value:
        """The Python object that rank 0 gives."""
        return value

    def highest(self, number: int) -> int:
        """The highest of the numbers that the ranks give."""
        return number

    def end(self) -> None:
        """Leave the other ranks; all do this together, at the end of the program."""

    def together(self, function: Callable[[], Value]) -> Value:
        """Call a function, which does nothing collective, on every rank; return what it returns here.

        If it raises a MinicaffeError on any rank, all raise that of the first such rank.
        """
        value: Any = None
        problem: MinicaffeError | None = None
        try:
            value = function()
        except MinicaffeError as error:
            problem = error
        problems = self.gather(problem)
        raise_first(problems)
        return value  # type: ignore[no-any-return]

    def on_root(self, function: Callable[[], Value]) -> Value:
        """Call a function on rank 0 alone; all return what it returned, or raise the MinicaffeError it raised."""
        value: Any = None
        problem: MinicaffeError | None = None
        if self.is_root:
            try:
                value = function()
            except MinicaffeError as error:
                problem = error
        value, problem = self.from_root((value, problem))
        raise_first([problem])
        return value  # type: ignore[no-any-return]


ALONE = Communicator()


def raise_first(problems: list[MinicaffeError | None]) -> None:
    """Raise the first error of those that the ranks had, on all of them; it names its rank unless all have it."""
    found = [(rank, problem) for rank, problem in enumerate(problems) if problem is not None]
    if not found:
        return
    rank, problem = found[0]
    is_of_all = len(found) == len(problems) and all(str(other) == str(problem) for _, other in found)
    raise of_all_ranks(problem if is_of_all else type(problem)(f"rank {rank}: {problem}"))


def of_all_ranks(error: Error) -> Error:
    """Mark an error as one that all ranks raise."""
    error.on_every_rank = True
    return error
