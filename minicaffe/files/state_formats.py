"""What a solver's saved state is called, and how the state of another program is read to go on from it.

Our own states are .npz archives, written and read in ``train/snapshots.py``. Another program's format enters the
table with ``register_state_format``, as Caffe's do in ``caffe/formats/solverstate.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

OWN_ENDING = ".solverstate.npz"
STATE_KEY = "meta"  # of an array that our states have, and weights do not: it names no layer


class ForeignState(Protocol):
    """What another program's solver has saved. ``current_step`` counts the stepvalues that it has passed."""

    iter: int
    current_step: int

    def history_for(self, shapes: list[tuple[int, ...]], each: int) -> list[list[np.ndarray]]:
        """``each`` arrays for each parameter, of the parameters' ``shapes``. Raises TrainingError."""

    def find_weights(self) -> Path:
        """The weights that the state names. Raises TrainingError."""


StateReader = Callable[[str | Path], ForeignState]
_readers: dict[str, StateReader] = {}


def register_state_format(ending: str, read: StateReader) -> None:
    """Let training go on from the files whose names end so; ``read`` raises TrainingError."""
    _readers[ending] = read


def is_foreign_state(path: str | Path) -> bool:
    """Whether a file is called like the state of another program."""
    return str(path).endswith(tuple(_readers))


def is_state(path: str | Path) -> bool:
    """Whether a file is called like a solver's state, ours or another's."""
    return str(path).endswith((OWN_ENDING, *_readers))


def read_foreign_state(path: str | Path) -> ForeignState:
    """The state in a file that ``is_foreign_state``. Raises TrainingError."""
    return next(read for ending, read in _readers.items() if str(path).endswith(ending))(path)
