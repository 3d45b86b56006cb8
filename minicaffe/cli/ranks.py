"""A process that trains by itself, or as one rank of several: what it shows, and how it ends.

As soon as a process ends with an error, the launcher kills all others. So a rank with an error of its own says so
and ends, without asking the others, who wait for it; and where all have the same error, rank 0 reports it, and all
leave together.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from minicaffe.cli.ending import AFTER_ROOT, BEFORE_MEETING, end_all, wait_for_turn
from minicaffe.cli.supervisor import Supervised
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.device.launch import Launch
from minicaffe.device.mpi import is_mpi_error
from minicaffe.errors import MinicaffeError, joined

logger = logging.getLogger("minicaffe")


class Process:
    """A process by itself, which ends as any program does."""

    def met(self, communicator: Communicator) -> None:
        """The ranks have met: from now on they are at the same place of the program."""

    def show_warnings(self, has_begun: Callable[[], bool]) -> None:
        """From the moment when ``has_begun()`` is true, warnings of this rank are shown."""

    def finish(self, status: int) -> int:
        """The end of a program that has done its work; returns the exit status."""
        return status

    def end(self, status: int, line: str, error: BaseException) -> int:
        """The end after an error, of which ``line`` tells the user, unless it is empty. May not return."""
        if line:
            print(line, file=sys.stderr)
        return status

    def end_with_traceback(self, error: BaseException) -> NoReturn:
        """The end after an error that is a bug."""
        raise error


class Rank(Process):
    """One of several processes that train together, as the launcher says.

    Rank 0 shows what it does. Nets are alike on all ranks, and so is what there is to say while they are made: of
    other ranks only errors are shown until the training has begun. From then on they have data of their own, and
    their warnings are shown too, each with the number of the rank.
    """

    def __init__(self, launch: Launch, supervised: Supervised | None) -> None:
        self.launch, self._supervised = launch, supervised
        self._communicator = ALONE
        self._has_begun: Callable[[], bool] = lambda: False
        if launch.rank:
            logger.addFilter(self._shows)

    def _shows(self, record: logging.LogRecord) -> bool:
        """A log filter, which puts the rank in front."""
        least = logging.WARNING if self._has_begun() else logging.ERROR
        record.msg, record.args = f"rank {self.launch.rank}: {record.getMessage()}", ()
        return record.levelno >= least

    def met(self, communicator: Communicator) -> None:
        self._communicator = communicator
        if self._supervised is not None:
            self._supervised.leave_to_thread()

    def show_warnings(self, has_begun: Callable[[], bool]) -> None:
        self._has_begun = has_begun

    def finish(self, status: int) -> int:
        if self._supervised is not None:
            self._supervised.leave_to_system()
        self._communicator.end()
        return status

    def end(self, status: int, line: str, error: BaseException) -> int:
        if isinstance(error, MinicaffeError) and error.on_every_rank:
            if line and not self.launch.rank:
                print(line, file=sys.stderr, flush=True)
            return self.finish(status)
        if is_mpi_error(error):
            time.sleep(
                AFTER_ROOT
            )  # another rank is gone: its supervisor says so, and the launcher ends this one
        self._wait_for_turn()
        if line:
            print(self._named(line), file=sys.stderr)
        self._leave(status)

    def end_with_traceback(self, error: BaseException) -> NoReturn:
        self._wait_for_turn()
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        print("".join([f"rank {self.launch.rank}:\n", *lines]), end="", file=sys.stderr)
        self._leave(1)

    def _named(self, line: str) -> str:
        """The line with the rank in it, unless it is rank 0 before the ranks have met: then all have the error."""
        if not self.launch.rank and self._communicator is ALONE:
            return line
        kind, colon, rest = line.partition(": ")
        name = f"rank {self.launch.rank}"
        return joined(f"{kind}: {name}: {rest}" if colon else f"{kind}: {name}")

    def _wait_for_turn(self) -> None:
        wait_for_turn(self.launch, BEFORE_MEETING if self._communicator is ALONE else AFTER_ROOT)

    def _leave(self, status: int) -> NoReturn:
        """End at once. Python's end of a program would leave MPI, and there wait for all other ranks."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it
                stream.flush()
        if self._supervised is None:
            end_all(status)
        os._exit(status)
