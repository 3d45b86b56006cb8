"""What the double counts, and who is asking.

The rules of CuPy are there for the package's code. Tests may mix NumPy and device arrays, since they compare and
set values all the time: what the double refuses to the package it converts for them, and counts apart. Tests that
are to run on a real GPU are refused it too (``tests_may_mix``).
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

import minicaffe

PACKAGE = os.path.dirname(minicaffe.__file__) + os.sep
DOUBLE = os.path.dirname(__file__) + os.sep
# Libraries convert on behalf of whoever called them: np.asarray(a) is Python code of NumPy in places.
LIBRARIES = (DOUBLE, "<", *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")))


tests_may_mix = True


@dataclass
class Counts:
    """How often something happened. ``places``: file and line where the host waited, or a product took a copy."""

    host_reads: int = 0
    copies_to_device: int = 0
    launches: int = 0
    product_copies: int = 0
    synchronizations: int = 0
    of_tests: int = 0
    places: list[str] = field(default_factory=list)

    @property
    def waits(self) -> int:
        """How often the host waited for the device."""
        return self.host_reads + self.synchronizations


_of_thread = threading.local()


@contextmanager
def counting() -> Iterator[Counts]:
    """The counts of what this thread does in the block; a thread that makes data may wait while a net computes."""
    active = _of_thread.__dict__.setdefault("active", [])
    active.append(Counts())
    try:
        yield active[-1]
    finally:
        active.pop()


def count(what: str) -> None:
    """One more of them."""
    for counts in getattr(_of_thread, "active", ()):
        setattr(counts, what, getattr(counts, what) + 1)
        if what in ("host_reads", "synchronizations", "product_copies"):
            counts.places.append(f"{what} at %s:%d" % _caller())


def _caller() -> tuple[str, int]:
    """File and line of the nearest frame that is neither in a library nor in the double."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE) or not file.startswith(LIBRARIES):
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0


def asked_by_package() -> bool:
    """Whether the package asks, or a test that is held to its rules."""
    return not tests_may_mix or _caller()[0].startswith(PACKAGE)


def refuse_to_package(error: Exception) -> None:
    """Raise what CuPy raises if the package asks; count the conversion if a test does."""
    if asked_by_package():
        raise error
    count("of_tests")


def check_dtype(dtype: object) -> np.dtype:
    """The dtype, if CuPy has it. Raises ValueError."""
    dtype = np.dtype(dtype)
    if dtype.char not in "?bBhHiIlLqQefdFD":
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype
