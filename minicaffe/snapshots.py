"""Snapshots: all that a run needs to go on, bit for bit, as if it had not stopped.

``<prefix>_iter_<n>.npz`` holds the weights (as ``Net.save`` writes them), ``<prefix>_iter_<n>.solverstate.npz``
the rest: the solver's history, random numbers, positions in the data, recent losses. The state is written
last, and both appear under their names only when whole: a state that is there has its weights.

A state that Caffe wrote has the iteration, the history and the weights; the rest starts anew.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicaffe import weights
from minicaffe.array import Device, set_rng_state, to_host
from minicaffe.caffe import solverstate
from minicaffe.errors import MinicaffeError, TrainingError, WriteError
from minicaffe.files import check_name, reading

if TYPE_CHECKING:
    from minicaffe.net import Net
    from minicaffe.solver import Solver

logger = logging.getLogger("minicaffe")
FORMAT = 1
NOT_UNDERSTOOD = "its contents cannot be understood ({})"
STATE = "a solver state (.solverstate.npz, or Caffe's .solverstate or .solverstate.h5)"


def save(solver: Solver, prefix: str) -> Path:
    """Write a snapshot; return the path of its state. Raises WriteError."""
    base = start_of_name(prefix, solver.iter)
    weight_file, state_file = Path(f"{base}.npz"), Path(f"{base}.solverstate.npz")
    extra = _diffs(solver) if solver.spec.snapshot_diff else None
    weights.save(solver.net.params, weight_file, extra)
    arrays = {
        f"history/{key}/{i}": to_host(array)
        for key, history in solver.history.items()
        for i, array in enumerate(history)
    }
    meta = {
        "format": FORMAT,
        "weights_crc32": _crc32(weight_file),
        "type": solver.spec.type,
        "iter": solver.iter,
        "seed": solver.seed,
        "weights": weight_file.name,
        "losses": [float(loss) for loss in solver.losses],
        "net": solver.net.state_dict(),
        "test_nets": [net.state_dict() for net in solver.test_nets],
    }
    weights.save_arrays({**arrays, weights.STATE_KEY: np.array(json.dumps(meta))}, state_file)
    return state_file


def start_of_name(prefix: str, iteration: int) -> Path:
    """``<prefix>_iter_<n>``, in a folder that is there. Raises WriteError."""
    base = Path(f"{prefix}_iter_{iteration}")
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{base.parent}: cannot be made ({error.strerror}); check snapshot_prefix") from None
    return base


def _crc32(path: Path) -> int:
    with reading(path, TrainingError, "the weights of this state cannot be read ({})"):
        return zlib.crc32(path.read_bytes())


def _diffs(solver: Solver) -> dict[str, np.ndarray]:
    return {
        f"{layer}/{i}/diff": to_host(blob.diff)
        for layer, blobs in solver.net.params.items()
        for i, blob in enumerate(blobs)
    }


def restore(solver: Solver, path: str | Path, weight_file: str | Path | None = None) -> None:
    """Bring a solver to where a snapshot was written; nothing changes unless all of it fits.

    ``weight_file`` is for a state of Caffe. Raises TrainingError for a file that is no solver state, or one of
    another solver type or net.
    """
    if str(path).endswith(solverstate.SUFFIXES):
        return _restore_from_caffe(solver, path, weight_file)
    if weight_file is not None:
        raise TrainingError(
            f"{path}: has weights of its own; only a state of Caffe (.solverstate) takes others"
        )
    with weights.NpzReader(path, TrainingError, STATE) as file:
        meta = _read_meta(file)
        if meta["type"] != solver.spec.type:
            raise TrainingError(
                f"{path}: is a state of solver type {meta['type']:.60}, the spec has {solver.spec.type}"
            )
        history = {
            key: [file.read(f"history/{key}/{i}", array.shape) for i, array in enumerate(arrays)]
            for key, arrays in solver.history.items()
        }
        held = {key.split("/", 1)[1].rpartition("/")[0] for key in file.shapes if key.startswith("history/")}
        _check_same(path, "parameters trained", held, set(solver.history))
    if len(meta["test_nets"]) != len(solver.test_nets):
        raise TrainingError(
            f"{path}: has {len(meta['test_nets'])} test nets, the spec {len(solver.test_nets)}; use the same spec"
        )
    weight_file = Path(path).parent / meta["weights"]
    if _crc32(weight_file) != meta["weights_crc32"]:
        raise TrainingError(
            f"{path}: {weight_file.name} beside it is not of this state (another run wrote it)"
        )
    with weights.NpzReader(weight_file, TrainingError) as file:
        _check_same(path, "parameters", _keys(file), {*_param_keys(solver)})
        for layer, blobs in solver.net.params.items():
            for i, blob in enumerate(blobs):
                file.check(f"{layer}/{i}", blob.shape)
    nets = [solver.net, *solver.test_nets]
    with _all_or_nothing(nets, path):
        for net, state in zip(nets, [meta["net"], *meta["test_nets"]], strict=True):
            net.load_state_dict(state)
        solver.net.copy_from(weight_file)
    for key, arrays in history.items():  # all has been looked at: from here on nothing is refused
        for target, array in zip(solver.history[key], arrays, strict=True):
            target[...] = solver.net.setting.device.put(array)
    solver.losses = deque(meta["losses"], maxlen=solver.spec.average_loss)
    solver.iter, solver.seed = meta["iter"], meta["seed"]


@contextmanager
def _all_or_nothing(nets: list[Net], path: str | Path) -> Iterator[None]:
    """While it is entered, nets take what a state holds; where something is refused, they go back to what they had.

    What a layer's ``restore`` raises of a damaged state becomes a TrainingError.
    """
    before = [net.state_dict() for net in nets]
    try:
        with reading(path, TrainingError, NOT_UNDERSTOOD):
            yield
    except MinicaffeError:
        for net, state in zip(nets, before, strict=True):
            net.load_state_dict(state)
        raise


def _restore_from_caffe(solver: Solver, path: str | Path, weight_file: str | Path | None) -> None:
    """Take over iteration, history and weights. Caffe keeps a history for parameters that are not trained, too."""
    state = solverstate.read_state(path)
    params = solver.net.learnable
    history = state.history_for([p.blob.shape for p in params], solver.rule.histories)
    weight_file = weight_file or state.find_weights()
    with weights.open_weights(weight_file) as file:
        missing = {p.key.rpartition("/")[0] for p in params} - {*file.layers()}
    if missing:
        raise TrainingError(f"{weight_file}: has no weights for layer '{min(missing)}'; it is of another net")
    solver.copy_from(weight_file)
    for param, arrays in zip(params, history, strict=True):
        for target, array in zip(solver.history.get(param.key, []), arrays, strict=False):
            target[...] = solver.net.setting.device.put(array, target.dtype)
    solver.losses.clear()
    solver.iter = state.iter
    passed = sum(state.iter > value for value in solver.spec.stepvalue)
    if solver.spec.lr_policy == "multistep" and passed != state.current_step:
        logger.warning(
            "%s: had passed %d stepvalues, of this spec's it would be %d; the learning rate is this spec's",
            path,
            state.current_step,
            passed,
        )


def _param_keys(solver: Solver) -> list[str]:
    return [f"{layer}/{i}" for layer, blobs in solver.net.params.items() for i in range(len(blobs))]


def _keys(file: weights.NpzReader) -> set[str]:
    return {key for key in file.shapes if not key.endswith("/diff")}


def _check_same(path: str | Path, what: str, held: set[str], expected: set[str]) -> None:
    if held != expected:
        raise TrainingError(
            f"{path}: is of another net: {what} differ in {', '.join(sorted(held ^ expected)[:4])}"
        )


def _read_meta(file: weights.NpzReader) -> dict[str, Any]:
    if weights.STATE_KEY not in file.shapes:
        raise TrainingError(f"{file.path}: is not a solver state (give the .solverstate.npz of a snapshot)")
    with reading(file.path, TrainingError, NOT_UNDERSTOOD):
        meta = json.loads(file.text(weights.STATE_KEY))
        _check_meta(meta)
        return meta


def _check_meta(meta: dict[str, Any]) -> None:
    """Raises an error of any type unless all that ``restore`` uses is there, of the right kind."""
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
    if meta["format"] != FORMAT or not 0 <= meta["iter"] < 2**31:
        raise ValueError(f"format {meta['format']}, iteration {meta['iter']}")
    if Path(meta["weights"]).name != meta["weights"] or len(meta["weights"]) > 255:
        raise ValueError("it names weights outside its folder")
    check_name(meta["weights"])
    if not all(type(loss) in (int, float) for loss in meta["losses"]):
        raise ValueError("'losses' are not numbers")
    for state in (meta, meta["net"], *meta["test_nets"]):
        if type(state["seed"]) is not int or not 0 <= state["seed"] < 2**64:
            raise ValueError(f"'seed' is {state['seed']!r:.60}")
    for state in (meta["net"], *meta["test_nets"]):
        if not isinstance(state["layers"], dict):
            raise ValueError("a net's state is incomplete")
        if not all(isinstance(held, dict) for held in state["layers"].values()):
            raise ValueError("a layer's state is incomplete")
        if state["rng"] is not None:
            set_rng_state(Device().rng(0), state["rng"])


def latest(prefix: str) -> Path:
    """The state with the highest iteration among the snapshots of a prefix. Raises TrainingError if none."""
    folder, stem = Path(prefix).parent, Path(prefix).name
    pattern = re.compile(re.escape(stem) + r"_iter_(\d+)\.solverstate\.npz")
    found = {}
    if folder.is_dir():
        found = {int(m[1]): p for p in folder.iterdir() if (m := pattern.fullmatch(p.name))}
    if not found:
        raise TrainingError(f"no snapshot '{prefix}_iter_*.solverstate.npz' to resume from")
    return found[max(found)]
