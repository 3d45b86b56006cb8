"""Caffe's solver states, .solverstate (protobuf) and .solverstate.h5.

A state has the iteration, the name of the weights that go with it, and the history: one array for each
parameter of the net (AdaDelta and Adam: all first ones, then all second ones), trained or not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicaffe.caffe.formats.binary import read_message, text_of, unknown_numbers
from minicaffe.caffe.formats.blobs import blob_array, blob_shape, fill_blob, same_shape
from minicaffe.caffe.formats.messages import message_class
from minicaffe.errors import DataError, TrainingError
from minicaffe.files.atomic import atomic_write
from minicaffe.files.hdf5 import Hdf5File, write_h5
from minicaffe.files.state_formats import register_state_format


@dataclass
class CaffeState:
    """What a solver of Caffe has saved. ``current_step`` counts the stepvalues of a multistep policy passed."""

    path: Path
    iter: int
    learned_net: str
    current_step: int
    history: list[np.ndarray]

    def history_for(self, shapes: list[tuple[int, ...]], each: int) -> list[list[np.ndarray]]:
        """``each`` arrays for each parameter, of the parameters' ``shapes``. Raises TrainingError."""
        if len(self.history) != each * len(shapes):
            raise TrainingError(
                f"{self.path}: has {len(self.history)} history arrays; this solver has {each * len(shapes)}, "
                f"{each} for each parameter: it is of another net, or of another solver type"
            )
        return [
            [self._fitted(self.history[i + k * len(shapes)], shape, i) for k in range(each)]
            for i, shape in enumerate(shapes)
        ]

    def _fitted(self, array: np.ndarray, shape: tuple[int, ...], index: int) -> np.ndarray:
        if array.shape != shape and not same_shape(array.shape, shape):
            raise TrainingError(
                f"{self.path}: the history of parameter {index} has shape {array.shape}, the net's {shape}"
            )
        return array.reshape(shape)

    def find_weights(self) -> Path:
        """The weights that the state names: where it says, or beside it. Raises TrainingError."""
        if not self.learned_net:
            raise TrainingError(
                f"{self.path}: names no weights; give them (--weights, or restore(…, weights=…))"
            )
        for place in (Path(self.learned_net), self.path.parent / Path(self.learned_net).name):
            if os.path.isfile(place):  # which takes a name that no file can have for one that is not there
                return place
        raise TrainingError(
            f"{self.path}: its weights, '{self.learned_net}', are neither there nor beside it; "
            "give them (--weights, or restore(…, weights=…))"
        )


def read_state(path: str | Path) -> CaffeState:
    """A .solverstate or .solverstate.h5 file. Raises TrainingError where it is none."""
    state = _read_h5(Path(path)) if str(path).endswith(".h5") else _read_binary(Path(path))
    if state.iter < 0:
        raise TrainingError(f"{path}: iteration {state.iter}; the file is damaged")
    return state


def _read_binary(path: Path) -> CaffeState:
    message = read_message("SolverState", path, TrainingError)
    unknown = [*unknown_numbers(message)][:1]
    if unknown or not message.HasField("iter"):
        problem = f"has an unknown field, number {unknown[0]}" if unknown else "has no iteration"
        raise TrainingError(f"{path}: not a solver state of Caffe ({problem})")
    try:
        history = [blob_array(blob).reshape(blob_shape(blob)) for blob in message.history]
        return CaffeState(path, message.iter, text_of(message.learned_net), message.current_step, history)
    except UnicodeDecodeError:
        raise TrainingError(f"{path}: the name of its weights is not UTF-8; the file is damaged") from None
    except DataError as error:
        raise TrainingError(f"{path}: {error}") from None


def _read_h5(path: Path) -> CaffeState:
    with Hdf5File(path, TrainingError, "not a solver state of Caffe ({})") as file:
        iteration, step = (file.whole_number(field) for field in ("iter", "current_step"))
        history = [file.read(f"history/{i}") for i in range(len(file.names("history")))]
        return CaffeState(path, iteration, file.text("learned_net"), step, history)


def write_state(state: CaffeState) -> None:
    """Write a state to its ``path``: .solverstate, or .solverstate.h5. Raises WriteError."""
    if str(state.path).endswith(".h5"):
        return write_h5(state.path, _h5_arrays(state))
    message = message_class("SolverState")(
        iter=state.iter, learned_net=state.learned_net, current_step=state.current_step
    )
    for array in state.history:
        fill_blob(message.history.add(), array)
    with atomic_write(state.path) as file:
        file.write(message.SerializeToString())


def _h5_arrays(state: CaffeState) -> dict[str, np.ndarray]:
    name = state.learned_net.encode()
    return {
        "iter": np.array([state.iter], np.int32),
        "current_step": np.array([state.current_step], np.int32),
        "learned_net": np.array(name, f"S{len(name) + 1}"),  # Caffe reads it up to its zero byte
        **{f"history/{i}": array for i, array in enumerate(state.history)},
    }


register_state_format(".solverstate", read_state)
register_state_format(".solverstate.h5", read_state)
