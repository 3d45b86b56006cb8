"""Training runs as TensorBoard's event files (extra ``tensorboard``)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from minicaffe.errors import MinicaffeError, WriteError
from minicaffe.files.atomic import make_folder
from minicaffe.inspect.logs import Run, Series


def write_events(runs: Sequence[Run], folder: str | Path) -> None:
    """Write each run into a folder of its name in ``folder``. Times count from the start of the training.

    Names that no folder can have are changed. Raises MinicaffeError without tensorboardX, and WriteError if such
    a folder has events already, to which TensorBoard would add these.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise MinicaffeError(
            "--tensorboard needs tensorboardX: pip install 'minicaffe[tensorboard]'"
        ) from None
    places = [Path(folder) / name for name in _folders([run.name for run in runs])]
    for place in places:
        if any(place.glob("events.out.tfevents.*")):
            raise WriteError(f"{place}: has events already; remove it, or give another folder")
    for run, place in zip(runs, places, strict=True):
        make_folder(place)
        try:
            with SummaryWriter(str(place)) as writer:
                for tag, series in tagged(run):
                    for step, seconds, value in zip(
                        series.iterations, series.seconds, series.values, strict=True
                    ):
                        time = seconds if math.isfinite(seconds) else 0.0
                        writer.add_scalar(tag, value, step, walltime=time)
        except OSError as error:
            raise WriteError(f"{place}: cannot be written ({error.strerror})") from None


def _folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each run: no two the same, or TensorBoard would draw two runs as one."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.() -]", "_", name).strip(".") or "run"
        folder, number = plain, 2
        while folder in found:
            folder, number = f"{plain} {number}", number + 1
        found.append(folder)
    return found


def tagged(run: Run) -> Iterator[tuple[str, Series]]:
    """All series of a run, with the names that TensorBoard groups them by: "loss/train", "test/accuracy", …"""
    for phase, series in run.loss.items():
        yield f"loss/{phase}", series
    yield "learning_rate", run.rate
    for (phase, name), series in run.outputs.items():
        yield f"{phase}/{name}", series
    for key, norms in run.norms.items():
        yield f"weights/{key}", norms.weights
        yield f"gradients/{key}", norms.gradient
        yield f"updates/{key}", norms.update
