"""View 7, Training: the curves of logs, and what snapshots of the weights saw and said."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import WeightError
from minicaffe.files.state_formats import is_state
from minicaffe.inspect.logs import Run, Series, read_logs
from minicaffe.inspect.plot import smooth_width
from minicaffe.inspect.report.first_filters import first_filters
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import Recording, copy_of, feed, running, softmax
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")
POINTS, RATIOS = 1000, 200  # at most, of a curve
PARAMS, SNAPSHOTS, IMAGES = 40, 40, 10  # at most


def check(net: Net, options: Options) -> None:
    """Read what the view shows later: before the work, an error is of use. Raises DataError and WeightError."""
    read_logs(options.logs)
    for path in weight_files(options.snapshots):
        problem = net.check_weights(path).problem(path)
        if problem:
            raise WeightError(f"{problem}; give snapshots of this net")
    left_out = len(options.snapshots) - len(weight_files(options.snapshots))
    if left_out:
        logger.info("--snapshots: %d solver states are left out; weights are shown", left_out)


def weight_files(paths: Sequence[str | Path]) -> list[str | Path]:
    """The files that hold weights: of ``run_iter_*.npz`` not the solver states, unless there are no others."""
    return [path for path in paths if not is_state(path)] or list(paths)


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """``runs``, ``smooth`` (the width of the running mean) and ``snapshots``. Raises DataError and WeightError."""
    if not options.logs and not options.snapshots:
        return {
            "missing": "a training log: --log LOG, which training writes beside its snapshots (NAME.log.jsonl)"
        }
    runs = [run_data(run) for run in read_logs(options.logs)]
    longest = max((len(run["loss"]["train"]["x"]) for run in runs if "train" in run["loss"]), default=0)
    return {
        "runs": runs,
        "smooth": smooth_width(longest),
        "snapshots": _snapshots(recording, packer, options.snapshots),
    }


def run_data(run: Run) -> dict[str, Any]:
    """A run as the page has it; curves of many points are thinned, and ``note`` says so."""
    longest = max((len(series) for series in run.loss.values()), default=0)
    ratios = [(key, norms.ratio) for key, norms in run.norms.items()]
    note = [f"one in {-(-longest // POINTS)} of {longest:,} points"] if longest > POINTS else []
    if len(ratios) > PARAMS:
        note.append(f"updates of {PARAMS} of {len(ratios)} parameters")
        ratios = [ratios[i * len(ratios) // PARAMS] for i in range(PARAMS)]
    return {
        "name": run.name,
        "net": run.net,
        "seed": run.seed,
        "solver": run.solver,
        "note": "; ".join(note),
        "resumes": list(run.resumes),
        "diverged": run.diverged_at,
        "loss": {phase: _points(series, POINTS) for phase, series in run.loss.items()},
        "scores": [
            {"name": name if phase == "test" else f"{name} ({phase})", **_points(series, POINTS)}
            for (phase, name), series in run.scores.items()
        ],
        "rate": _points(run.rate, POINTS),
        "snapshots": [[snapshot.iteration, _short(snapshot.seconds)] for snapshot in run.snapshots],
        "ratios": [{"name": key, **_points(series, RATIOS)} for key, series in ratios],
    }


def _points(series: Series, most: int) -> dict[str, list[Any]]:
    """x iterations, s seconds, y values."""
    shown = series.thinned(most)
    return {
        "x": list(shown.iterations),
        "s": [_short(second) for second in shown.seconds],
        "y": [_short(value) for value in shown.values],
    }


def _short(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _snapshots(recording: Recording, packer: Packer, paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """For each weight file the first convolution's filters, and the scores of some pictures."""
    if not paths:
        return []
    paths = weight_files(paths)
    chosen = [paths[i] for i in sorted({*np.linspace(0, len(paths) - 1, SNAPSHOTS).round().astype(int)})]
    progress, found = Progress(len(chosen)), []
    with copy_of(recording.net) as net:
        for path in chosen:
            net.copy_from(path)
            number = re.search(r"_iter_(\d+)", Path(path).name)
            filters = first_filters(net)
            found.append(
                {
                    "name": Path(path).name,
                    "iteration": int(number[1]) if number else None,
                    "filters": None
                    if filters is None
                    else {
                        "layer": filters.layer,
                        "note": filters.note,
                        "values": packer.add(filters.values, "u8", "snapshots"),
                    },
                    "scores": _scores(recording, net),
                }
            )
            progress.say(f"Snapshot {Path(path).name}")
    return found


def _scores(recording: Recording, net: Any) -> list[list[float]] | None:
    """The scores of the first pictures, (n, classes), as the net is now."""
    if recording.answer is None:
        return None
    rows = []
    for picture in recording.images[:IMAGES]:
        feed(net, picture)
        for i in running(net):
            net.run_forward(i, i)
        blob = net.blobs[recording.stages[recording.answer].blob]
        rows.append(np.array(to_host(blob.data)).reshape(-1))
    scores = np.stack(rows)
    return [
        [_short(float(x)) or 0.0 for x in row] for row in (softmax(scores) if recording.softmax else scores)
    ]
