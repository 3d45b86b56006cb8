"""Long work in a notebook, or in IPython, shows its progress in the cell, without any set-up of logging.

The lines are those of the log, as the command line shows them. Between them one line says how far a training is,
and how much time is left. Where a logging is set up, for INFO, it is that which shows the log, and nothing happens
here; in a plain script nothing is shown, as Python's libraries have it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from minicaffe.train.progress import duration

logger = logging.getLogger("minicaffe")


@contextmanager
def shown_in_notebook() -> Iterator[None]:
    """In this block, or in the function that this decorates, a notebook shows the log if nothing else does."""
    if not _is_needed():
        yield
        return
    cell, level, propagates = CellOutput(), logger.level, logger.propagate
    logger.addHandler(cell)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # where other handlers take warnings alone: see ``emit``
    try:
        yield
    finally:
        logger.removeHandler(cell)
        logger.setLevel(level)
        logger.propagate = propagates
        cell.clear()


def show_how_far(iteration: int, last: int) -> None:
    """Say in the cell, every other second, how far a training is that ends at iteration ``last``."""
    for handler in logger.handlers:
        if isinstance(handler, CellOutput):
            handler.tick(iteration, last)


def _is_needed() -> bool:
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return False
    is_shown = logger.isEnabledFor(logging.INFO) and logger.hasHandlers()
    is_silenced = logger.level > logging.INFO or logger.disabled
    return not (is_shown or is_silenced)


class CellOutput(logging.Handler):
    """Prints the lines of the log, and below the last one a line that is written over and over."""

    EVERY = 1.0  # seconds between two versions of that line

    def __init__(self) -> None:
        super().__init__()
        self._width = 0  # of the line that is to be written over
        self._last = self._first = -1
        self._begun = self._said = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message; but what other handlers show as ever is left to them."""
        self.clear()
        root = logging.getLogger()
        if root.handlers and record.levelno >= root.level:
            root.callHandlers(record)
        else:
            print(record.getMessage(), flush=True)

    def tick(self, iteration: int, last: int) -> None:
        """Show the iteration and the time left, unless that was done less than a second ago."""
        now = time.perf_counter()
        if last != self._last:
            self._last, self._first, self._begun, self._said = last, iteration, now, now
        if now - self._said < self.EVERY or iteration == self._first:
            return
        self._said = now
        speed = (iteration - self._first) / (now - self._begun)
        self.clear()
        text = f"Iteration {iteration} of {last} ({speed:.4g} iter/s, {duration((last - iteration) / speed)} left)"
        print(text, end="", flush=True)
        self._width = len(text)

    def clear(self) -> None:
        """Take the line about the progress away."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", flush=True)
            self._width = 0
