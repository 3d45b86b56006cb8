"""Measured times, and whether they say anything: on a busy machine they scatter, and comparisons are noise."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from minicaffe.device.array import synchronize

NOISE = 0.3  # times whose spread is larger say nothing
FEWEST = 5  # times that have a spread
logger = logging.getLogger("minicaffe")
clock = time.perf_counter


def seconds(call: Callable[[], object]) -> float:
    """The time of a call, with what it leaves to a GPU."""
    start = clock()
    call()
    synchronize()
    return clock() - start


def spread(times: Sequence[float]) -> float:
    """The range of some times without a tenth at either end, as a share of their median; 0 for fewer than five.

    A single hiccup among ten does not count, but two do: a busy machine makes one pass in five take three times as
    long, which the middle half would not show. Of fewer than ten times a part of the last one is left out.
    """
    if len(times) < FEWEST:
        return 0.0
    tenth, last, middle = len(times) / 10, len(times) - 1, median(times)
    low, high = np.interp([tenth, last - tenth], range(len(times)), sorted(times))
    return float(high - low) / middle if middle else 0.0


def warn_of_noise(times: Sequence[float], of_what: str) -> None:
    """Log a warning where the times of one and the same thing, ``of_what``, scatter so much that they are noise."""
    found = spread(times)
    if found > NOISE:
        logger.warning(
            "The times of %s scatter by %.0f %%, so they and their ratios are noise; measure again when nothing "
            "else runs on this machine",
            of_what, 100 * found,
        )  # fmt: skip
