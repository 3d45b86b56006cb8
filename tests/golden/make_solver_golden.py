"""Records training runs of real Caffe's solvers, for the cases in solvers.yaml, as solvers.npz.

It runs like make_golden.py, whose docstring says what to install:

    GLOG_minloglevel=2 python tests/golden/make_solver_golden.py --recorded DIR

DIR is a folder of runs recorded with Caffe 1.0 as published, which are put with the others: they train
BatchNorm, which the installed build cannot. README.md says what the keys of solvers.npz mean.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import caffe
import numpy as np
from caffe_spec import (
    Spec,
    as_spec,
    as_yaml,
    fill_message,
    net_from_prototxt,
    net_message,
    solver_from_prototxt,
    solver_message,
)
from make_golden import HERE, Arrays, copies, filled, generator, in_children, load_table, param_arrays, save

SNAPSHOTS = (1, 10, 20)


def open_solver(solver_spec: Spec, net_spec: Spec) -> caffe.SGDSolver:
    """Caffe's solver; ``random_seed`` makes every run of a problem start from the same weights."""
    message = solver_message({**solver_spec, "random_seed": 7})
    fill_message(message.net_param, net_spec)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(str(message))
        file.flush()
        return caffe.get_solver(file.name)


def batches(name: str, problem: Spec, net: caffe.Net) -> Arrays:
    """A batch a step for each input, by its name; multiples of 1/16, which pack well."""
    rng = generator(name)
    return {
        blob: np.round(filled(how, (problem["steps"], *net.blobs[blob].data.shape), rng) * 16) / 16
        for blob, how in problem["fill"].items()
    }


def losses(net: caffe.Net) -> dict[str, float]:
    """The value of each loss, without its weight, by its blob's name."""
    return {name: float(net.blobs[name].data) for name, weight in net.blob_loss_weights.items() if weight}


def record_run(name: str, run: Spec, problem: Spec) -> Arrays:
    """The losses and weights of one run."""
    solver_spec = as_spec(solver_message({key: value for key, value in run.items() if key != "problem"}))
    solver = open_solver(solver_spec, {"layer": problem["layer"]})
    inputs = batches(run["problem"], problem, solver.net)
    record = {"problem": np.array(run["problem"]), "solver": as_yaml(solver_spec)}
    history = []
    for step in range(problem["steps"]):
        for blob, array in inputs.items():
            solver.net.blobs[blob].data[...] = array[step]
        solver.step(1)
        history.append(losses(solver.net))
        if step + 1 in SNAPSHOTS:
            record.update(copies(f"w{step + 1}_", param_arrays(solver.net, "data")))
    record.update({f"loss_{blob}": np.float32([step[blob] for step in history]) for blob in history[0]})
    return {f"{name}/{key}": array for key, array in record.items()}


def record_problem(name: str, problem: Spec) -> Arrays:
    """The net, batches and start weights that the runs of a problem share."""
    net_spec = as_spec(net_message({"name": name, "layer": problem["layer"]}))
    net = open_solver({"type": "SGD", "base_lr": 0, "lr_policy": "fixed"}, net_spec).net
    record = {"net": as_yaml(net_spec)}
    record.update(copies("in_", batches(name, problem, net)))
    record.update(copies("w0_", param_arrays(net, "data")))
    return {f"{name}/{key}": array for key, array in record.items()}


def convert_recorded_run(path: Path) -> Arrays:
    """A recorded run in our keys, with a problem of its own."""
    run, problem = f"recorded_{path.stem[len('solver_') :]}", f"{path.stem[len('solver_') :]}_problem"
    with np.load(path) as old:
        arrays = {
            f"{problem}/net": as_yaml(net_from_prototxt(str(old["net"]))),
            f"{problem}/in_data": old["x"],
            f"{problem}/in_label": old["y"],
            f"{run}/problem": np.array(problem),
            f"{run}/solver": as_yaml(solver_from_prototxt(str(old["solver"]))),
            f"{run}/loss_loss": old["loss"],
        }
        for key in old.files:
            if key.startswith("w0_"):
                arrays[f"{problem}/{key}"] = old[key]
            elif key.startswith("w"):
                arrays[f"{run}/{key}"] = old[key]
    return arrays


def main() -> None:
    """Record every run, convert the recorded ones, and write solvers.npz."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--recorded", type=Path, required=True, metavar="DIR", help="folder of recorded runs (solver_*.npz)"
    )
    args = parser.parse_args()
    table = load_table("solvers.yaml")
    arrays = in_children(record_problem, list(table["problems"].items()))
    runs = [(name, run, table["problems"][run["problem"]]) for name, run in table["runs"].items()]
    arrays.update(in_children(record_run, runs))
    for path in sorted(args.recorded.glob("solver_*.npz")):
        arrays.update(convert_recorded_run(path))
    save(HERE / "solvers.npz", arrays)


if __name__ == "__main__":
    main()
