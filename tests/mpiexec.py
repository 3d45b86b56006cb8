"""The ``mpiexec`` of this environment, for tests that start ranks."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest

from minicaffe.cli.launching import find_mpiexec
from tests import ROOT

MPIEXEC = find_mpiexec()
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or find_spec("mpi4py") is None, reason="needs the extra mpi: mpi4py and mpich"
)


def command(count: int, *words: str) -> list[str]:
    """The command that starts Python with these words as several ranks."""
    return [str(MPIEXEC), "-n", str(count), sys.executable, *words]


def environment(**more: str) -> dict[str, str]:
    """That of this process, for ranks of this checkout, with one thread each."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", **more}
