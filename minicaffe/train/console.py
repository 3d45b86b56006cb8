"""What a training prints of an iteration that is shown: our lines, or Caffe's, which its scripts read.

Caffe's ``tools/extra/parse_log.py`` and ``plot_training_log.py`` look for "Solving", "Iteration 100 (…), loss = …",
"Iteration 100, lr = …" and "Train net output #0: …", each after the date, time and process that glog writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from minicaffe.train.progress import duration


@dataclass(frozen=True)
class Shown:
    """An iteration that is shown. ``speed``: iterations per second since the last one, 0 for the first.

    ``left``: how many iterations remain; ``display``: how many lie between two that are shown; ``outputs``: a line
    for each number of the net's outputs.
    """

    iteration: int
    loss: float
    rate: float
    speed: float
    left: int
    display: int
    outputs: Sequence[str]


Lines = Callable[[Shown], Iterator[str]]


def own_lines(shown: Shown) -> Iterator[str]:
    """The iteration with its pace, loss and learning rate; then the outputs."""
    left = f", {duration(shown.left / shown.speed)} left" if shown.speed else ""
    pace = f" ({shown.speed:.4g} iter/s{left})" if shown.speed else ""
    yield f"Iteration {shown.iteration}{pace}, loss = {shown.loss:.6g}, lr = {shown.rate:.6g}"
    yield from shown.outputs


def caffe_lines(shown: Shown) -> Iterator[str]:
    """The same as Caffe prints it: the learning rate has a line of its own."""
    lapse = shown.display / shown.speed if shown.speed else 0.0
    pace = f"({shown.speed:.6g} iter/s, {lapse:.6g}s/{shown.display} iters)"
    yield f"Iteration {shown.iteration} {pace}, loss = {shown.loss:.6g}"
    yield from shown.outputs
    yield f"Iteration {shown.iteration}, lr = {shown.rate:.6g}"


class GlogFormatter(logging.Formatter):
    """Begins each line as glog does: ``I1129 07:33:43.123456 12345 solver.py:218] …``."""

    def format(self, record: logging.LogRecord) -> str:
        now = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micros = int(record.created % 1 * 1e6)
        place = f"{record.filename}:{record.lineno}"
        start = f"{record.levelname[0]}{now}.{micros:06} {record.process:5} {place}]"
        return "\n".join(f"{start} {line}" for line in super().format(record).split("\n"))
