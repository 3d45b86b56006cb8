"""The program ``minicaffe``: it runs one command, and this file alone says how a command ends.

The exit status is 0; 1 if a check found something wrong, or nobody reads the output any more (``| head``); 2 for an
error that the user can fix, in a spec or in a layer of theirs, reported in one line that begins with "error:"; 130
after Ctrl-C. Any other error is a bug, and shows its traceback. A training that Ctrl-C stops at the end of an
iteration has done what it was told: 0 (``--sigint_effect``). How one of several ranks ends is in ``ranks.py``.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from minicaffe.cli.caffe_flags import as_ours
from minicaffe.cli.ending import BEFORE_MEETING, end_all, wait_for_turn
from minicaffe.cli.flags import trusting
from minicaffe.cli.parser import make_parser
from minicaffe.cli.ranks import Process
from minicaffe.device import array
from minicaffe.device.launch import launch_of
from minicaffe.device.mpi import is_mpi_error
from minicaffe.errors import INTERRUPTED, USER_ERROR, MinicaffeError, one_line, report
from minicaffe.layers.python import place_in_own

if TYPE_CHECKING:
    TextHandler = logging.StreamHandler[TextIO]
else:
    TextHandler = logging.StreamHandler  # which takes no type before Python 3.11

OK, OUTPUT_CLOSED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status."""
    _prepare_streams()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Output(sys.stdout)], force=True)
    warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, where a training diverges: that is reported
    try:
        args = make_parser().parse_args(as_ours(sys.argv[1:] if argv is None else argv))
        process: Process = args.begin(args)
        args.process = process
    except (MinicaffeError, OSError) as error:  # the system may refuse a process
        wait_for_turn(launch_of(), BEFORE_MEETING)
        report(error)
        end_all(USER_ERROR)
        return USER_ERROR
    try:
        with trusting(args):
            status: int | None = args.function(args)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        line = f"interrupted: {one_line(stop)}" if stop.args else "interrupted"
        return process.end(INTERRUPTED, line, stop)
    except BrokenPipeError as error:
        _drop(sys.stdout)
        return process.end(OUTPUT_CLOSED, "", error)
    except Exception as error:
        problem = _problem_of(error)
        if args.debug or problem is None:
            process.end_with_traceback(error)
        return process.end(USER_ERROR, f"error: {one_line(problem)}", error)
    except SystemExit as stop:  # of a layer of the user
        process.end_with_traceback(stop)
    return process.finish(status or OK)


def _problem_of(error: Exception) -> str | None:
    """What the user is told of an error; None for a bug."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {one_line(error)}"
    if isinstance(error, (MinicaffeError, OSError)):
        return one_line(error)
    if is_mpi_error(error):
        return f"the ranks have lost each other ({one_line(error)}); go on with --snapshot latest"
    if array.is_device_error(error):
        return f"the GPU failed ({one_line(error)}); try --device cpu, or see docs/gpu.md"
    if place := place_in_own(error):
        return f"{place}: {type(error).__name__}: {one_line(error)} (--debug shows the traceback)"
    return None


def _prepare_streams() -> None:
    """Let stdout and stderr accept any text, even if one was closed or its encoding lacks a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (it stays open)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Output(TextHandler):
    """Progress on stdout; if it cannot be written (``| head``, a full disk), the command ends.

    But a training goes on when its terminal goes away: SIGHUP has been handled, and the rest is not shown.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.is_terminal = stream.isatty()  # a terminal that is gone says that it is not one

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if self.is_terminal and isinstance(error, OSError) and error.errno == errno.EIO:
            for stream in (sys.stdout, sys.stderr):
                _drop(stream)
        elif isinstance(error, OSError):
            raise
        else:
            super().handleError(record)


def _drop(stream: TextIO) -> None:
    """Discard whatever is written to a stream from now on."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
