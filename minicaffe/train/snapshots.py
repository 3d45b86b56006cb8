"""Snapshots: all that a run needs to continue, bit for bit, as if it had not stopped.

``<prefix>_iter_<n>.npz`` holds the weights (as ``Net.save`` writes them), ``<prefix>_iter_<n>.solverstate.npz``
the rest: the solver's history, random numbers, positions in the data, recent losses. The state is written
last, and both files appear under their names only when complete: if the state is there, so are its weights.

A state also says which run wrote it and when, so that ``latest`` is what was written last, not the highest
iteration that is left of an older run with the same prefix.

A state that Caffe wrote has the iteration, the history and the weights; the rest starts anew.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.device.array import Array, Device, set_rng_state, to_host
from minicaffe.errors import TrainingError, WriteError, listing
from minicaffe.files.atomic import check_name, reading
from minicaffe.files.npz import NpzReader, save_arrays
from minicaffe.files.state_formats import STATE_KEY
from minicaffe.files.weight_formats import open_weights
from minicaffe.spec.solver import SolverSpec
from minicaffe.train.log import last_run

logger = logging.getLogger("minicaffe")
FORMAT = 1
ARRAYS = ("history", "exchange")  # what a state has besides values for JSON
NOT_UNDERSTOOD = "its contents cannot be understood ({})"
STATE = "a solver state (.solverstate.npz, or Caffe's .solverstate or .solverstate.h5)"


def write(state: Mapping[str, Any], net: Net, prefix: str, with_diffs: bool = False) -> Path:
    """Write a snapshot of a solver's state and its net; return the path of the state file. Raises WriteError."""
    base = start_of_name(prefix, state["iter"])
    weight_file, state_file = Path(f"{base}.npz"), Path(f"{base}.solverstate.npz")
    saved = net.as_saved()
    save_arrays({**saved.arrays(), **saved.extra, **(_diffs(net) if with_diffs else {})}, weight_file)
    arrays = {
        f"{group}/{key}/{i}": array
        for group in ARRAYS
        for key, arrays in state[group].items()
        for i, array in enumerate(arrays)
    }
    meta = {name: value for name, value in state.items() if name not in ARRAYS} | {
        "format": FORMAT,
        "weights": weight_file.name,
        "weights_crc32": _crc32(weight_file),
    }
    save_arrays({**arrays, STATE_KEY: np.array(json.dumps(meta))}, state_file)
    return state_file


def later_than(before: float) -> float:
    """The time in seconds since 1970, but later than ``before``, for clocks may be set back."""
    return max(time.time(), before + 0.001)


def prefix_of(spec: SolverSpec) -> str:
    """How the names of a solver's snapshots begin, as in Caffe.

    ``snapshot_prefix``; if that is a folder, the name of the solver file in it; without a prefix, the path of the
    solver file. "" if the spec has no prefix and does not come from a file.
    """
    file, given = Path(spec.where.file), spec.snapshot_prefix
    if not given:
        return str(file.with_suffix("")) if file.is_file() else ""
    if given.endswith((os.sep, "/")) or Path(given).is_dir():
        return str(Path(given) / (file.stem if file.is_file() else "solver"))
    return given


def check_prefix(prefix: str, iterations: int) -> None:
    """Make the folder of a prefix, and check that snapshots can be written there. Raises WriteError."""
    # a name as long as those of the snapshots
    probe = Path(f"{start_of_name(prefix, iterations)}.solverstate.tmp")
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise WriteError(
            f"{prefix}: snapshots cannot be written there ({error.strerror}); check snapshot_prefix"
        ) from None


def start_of_name(prefix: str, iteration: int) -> Path:
    """``<prefix>_iter_<n>``; its folder is made. Raises WriteError."""
    base = Path(f"{prefix}_iter_{iteration}")
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{base.parent}: cannot be made ({error.strerror}); check snapshot_prefix") from None
    return base


def _crc32(path: Path) -> int:
    with reading(path, TrainingError, "the weights of this state cannot be read ({})"):
        return zlib.crc32(path.read_bytes())


def _diffs(net: Net) -> dict[str, np.ndarray]:
    return {
        f"{layer}/{i}/diff": to_host(blob.diff)
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }


def read(
    path: str | Path, like: Mapping[str, Any], params: Mapping[str, Sequence[Blob]]
) -> tuple[dict[str, Any], Path]:
    """Read a ``state_dict`` from a snapshot, and the path of the weights that belong to it.

    ``like`` is the ``state_dict`` of the solver that will load it, and ``params`` the parameters of its net. Raises
    TrainingError if the file is not a solver state, if it is that of another solver type or net, or if its weights
    have changed.
    """
    with NpzReader(path, TrainingError, STATE) as file:
        meta = _read_meta(file)
        if meta["type"] != like["type"]:
            raise TrainingError(
                f"{path}: is a state of solver type {meta['type']:.60}, the spec has {like['type']}"
            )
        history = {
            key: [file.read(f"history/{key}/{i}", array.shape) for i, array in enumerate(arrays)]
            for key, arrays in like["history"].items()
        }
        found = {key.split("/", 1)[1].rpartition("/")[0] for key in file.shapes if key.startswith("history/")}
        _check_same(path, "parameters trained", found, set(history))
        exchange = {
            key: [file.read(f"exchange/{key}/{i}") for i in range(len(arrays))]
            for key, arrays in like["exchange"].items()
            if all(file.shapes.get(f"exchange/{key}/{i}") == array.shape for i, array in enumerate(arrays))
        }
    _check_classes(path, meta.get("class_names", []), like["class_names"])
    if len(meta["test_nets"]) != len(like["test_nets"]):
        raise TrainingError(
            f"{path}: has {len(meta['test_nets'])} test nets, the spec {len(like['test_nets'])}; use the same spec"
        )
    weight_file = Path(path).parent / meta["weights"]
    if _crc32(weight_file) != meta["weights_crc32"]:
        raise TrainingError(
            f"{path}: {weight_file.name} beside it is not of this state (damaged, or written by another run)"
        )
    shapes = {f"{layer}/{i}": blob.shape for layer, blobs in params.items() for i, blob in enumerate(blobs)}
    with NpzReader(weight_file, TrainingError) as file:
        _check_same(path, "parameters", _keys(file), set(shapes))
        for key, shape in shapes.items():
            file.check(key, shape)
    return {"run": "", "saved": 0.0, **meta, "history": history, "exchange": exchange}, weight_file


def understanding(path: str | Path) -> AbstractContextManager[None]:
    """A context in which whatever a layer's ``restore`` raises for a damaged state becomes a TrainingError."""
    return reading(path, TrainingError, NOT_UNDERSTOOD)


def shapes_of(history: Mapping[str, Sequence[Array]]) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of an update rule's arrays, by parameter."""
    return {key: [array.shape for array in arrays] for key, arrays in history.items()}


def check_has_layers(path: str | Path, wanted: set[str]) -> None:
    """Raise TrainingError if a weight file does not have all of these layers: then it is of another net."""
    with open_weights(path) as file:
        missing = wanted - {*file.layers()}
    if missing:
        raise TrainingError(f"{path}: has no weights for layer '{min(missing)}'; it is of another net")


def _check_classes(path: str | Path, held: list[str], now: list[str]) -> None:
    """Raise TrainingError if labels stand for other classes than before: folders were added or removed."""
    if held and now and held != now:
        raise TrainingError(
            f"{path}: was trained on the classes {listing(held)}; the data have {listing(now)}; "
            "bring the folders back, or begin anew with --weights"
        )


def _keys(file: NpzReader) -> set[str]:
    return {key for key in file.shapes if "/" in key and not key.endswith("/diff")}


def _check_same(path: str | Path, what: str, held: set[str], expected: set[str]) -> None:
    if held != expected:
        raise TrainingError(
            f"{path}: is of another net: {what} differ in {', '.join(sorted(held ^ expected)[:4])}"
        )


def _read_meta(file: NpzReader) -> dict[str, Any]:
    if STATE_KEY not in file.shapes:
        raise TrainingError(f"{file.path}: is not a solver state (give the .solverstate.npz of a snapshot)")
    with reading(file.path, TrainingError, NOT_UNDERSTOOD):
        meta: dict[str, Any] = json.loads(file.text(STATE_KEY))
        _check_meta(meta)
        return meta


def _check_meta(meta: dict[str, Any]) -> None:
    """Raise an error of any type unless everything that ``read`` uses is there and has the right type."""
    kinds = {
        "format": int,
        "type": str,
        "iter": int,
        "seed": int,
        "weights": str,
        "losses": list,
        "test_nets": list,
        "weights_crc32": int,
    }
    for name, kind in kinds.items():
        if type(meta[name]) is not kind:
            raise ValueError(f"'{name}' is {meta[name]!r:.60}")
    names = meta.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("'class_names' are no names")
    if meta["format"] != FORMAT or not 0 <= meta["iter"] < 2**31:
        raise ValueError(f"format {meta['format']}, iteration {meta['iter']}")
    if Path(meta["weights"]).name != meta["weights"] or len(meta["weights"]) > 255:
        raise ValueError("it names weights outside its folder")
    run, saved = meta.get("run", ""), meta.get("saved", 0.0)  # missing in states of earlier versions
    if not (isinstance(run, str) and isinstance(saved, float) and np.isfinite(saved)):
        raise ValueError(f"run {run!r}, saved {saved!r}")
    check_name(meta["weights"])
    if not all(type(loss) in (int, float) for loss in meta["losses"]):
        raise ValueError("'losses' are not numbers")
    others = meta.get("ranks", [])
    if not isinstance(others, list):
        raise ValueError("'ranks' is no list")
    for state in (meta, meta["net"], *others, *meta["test_nets"]):
        if type(state["seed"]) is not int or not 0 <= state["seed"] < 2**64:
            raise ValueError(f"'seed' is {state['seed']!r:.60}")
    for state in (meta["net"], *others, *meta["test_nets"]):
        if not isinstance(state["layers"], dict):
            raise ValueError("a net's state is incomplete")
        if not all(isinstance(held, dict) for held in state["layers"].values()):
            raise ValueError("a layer's state is incomplete")
        if state["rng"] is not None:
            set_rng_state(Device().rng(0), state["rng"])


def latest(prefix: str) -> Path:
    """The last state of the run that was started last with a prefix; broken states are skipped, with a warning.

    The log says which run that is; without a log it is the state that was written last. Raises TrainingError if
    there is none.
    """
    found = [(path, meta) for path in _states(prefix) if (meta := _meta_of(path)) is not None]
    found.sort(key=lambda item: (item[1].get("saved", 0.0), item[1]["iter"]), reverse=True)
    run = last_run(prefix)
    mine = [(path, meta) for path, meta in found if run is None or meta.get("run", "") == run]
    for path, meta in mine:
        problem = _problem_of(path, meta)
        if not problem:
            return path
        logger.warning("%s: passed over: %s", path, problem)
    if found and not mine:
        raise TrainingError(
            f"{prefix}: the run that was started last has left no snapshot; {found[0][0]} is of one before it: "
            "name that to go on from there"
        )
    whole = "whole " if mine else ""
    raise TrainingError(f"no {whole}snapshot '{prefix}_iter_*.solverstate.npz' to resume from")


def _states(prefix: str) -> list[Path]:
    folder, stem = Path(prefix).parent, Path(prefix).name
    pattern = re.compile(re.escape(stem) + r"_iter_\d+\.solverstate\.npz")
    return [p for p in folder.iterdir() if pattern.fullmatch(p.name)] if folder.is_dir() else []


def _meta_of(path: Path) -> dict[str, Any] | None:
    """What a state says about itself; None, with a warning, if the file is not a state."""
    try:
        with NpzReader(path, TrainingError, STATE) as file:
            return _read_meta(file)
    except TrainingError as error:
        logger.warning("passed over: %s", error)
        return None


def _problem_of(path: Path, meta: dict[str, Any]) -> str:
    """Why a training cannot continue from a state; "" if it can."""
    weight_file = path.parent / meta["weights"]
    try:
        if _crc32(weight_file) != meta["weights_crc32"]:
            return f"{weight_file.name} beside it is not of this state"
        with NpzReader(weight_file, TrainingError) as file:
            broken = [key for key in _keys(file) if not np.isfinite(file.read(key)).all()]
    except TrainingError as error:
        return str(error)
    return f"its weights are not finite ({min(broken)})" if broken else ""
