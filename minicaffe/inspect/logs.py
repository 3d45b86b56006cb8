"""Training logs as runs: ours (``<prefix>.log.jsonl``, see ``train/log.py``), Caffe's, and what our programs print.

A log may hold several runs, for each training appends to it. They are kept apart by the "start" of each, or by the
line "Solving …" of a text. A run that was resumed is one run: what was trained again after a resume replaces what
was there before it, and the time that nothing was trained does not count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.errors import DataError
from minicaffe.files.atomic import reading
from minicaffe.train.log import event_of

HALF_A_YEAR = 180 * 86400.0  # seconds; a log that goes back by more has passed a New Year
NAN = math.nan


@dataclass(frozen=True)
class Series:
    """Numbers over a training: iteration, seconds of training up to then (nan if unknown), and value."""

    iterations: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def thinned(self, most: int) -> Series:
        """Every k-th point, so that there are at most ``most``; the last one among them."""
        step = max(1, -(-len(self) // most))
        first = (len(self) - 1) % step if len(self) else 0
        return Series(self.iterations[first::step], self.seconds[first::step], self.values[first::step])


@dataclass(frozen=True)
class Norms:
    """Of one parameter: ‖w‖, ‖g‖ (before clipping and decay) and ‖Δw‖ of its update (``train --log-norms``)."""

    weights: Series
    gradient: Series
    update: Series

    @property
    def ratio(self) -> Series:
        """‖Δw‖ / ‖w‖; nan where w is 0."""
        pairs = zip(self.update.values, self.weights.values, strict=True)
        values = tuple(change / size if size else NAN for change, size in pairs)
        return Series(self.update.iterations, self.update.seconds, values)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that a run has written."""

    iteration: int
    seconds: float
    file: str


@dataclass(frozen=True)
class Run:
    """One training. Phases are "train", "test", and "test 1", … of further test nets.

    ``loss`` is the total loss by phase, and ``outputs`` all outputs of one number each, by phase and name;
    ``losses`` says which names are parts of the loss. ``solver`` and ``net_spec`` are the texts of the specs, where
    the log has them; ``resumes`` are the iterations at which training went on after a stop.
    """

    name: str
    file: str
    net: str = ""
    seed: int | None = None
    solver: str = ""
    net_spec: str = ""
    loss: Mapping[str, Series] = field(default_factory=dict)
    outputs: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    losses: frozenset[str] = frozenset()
    rate: Series = Series()
    snapshots: tuple[Snapshot, ...] = ()
    norms: Mapping[str, Norms] = field(default_factory=dict)
    resumes: tuple[int, ...] = ()

    @property
    def diverged_at(self) -> int | None:
        """The first iteration with a loss that is no number; None if all are."""
        points = [
            (i, y)
            for series in self.loss.values()
            for i, y in zip(series.iterations, series.values, strict=True)
        ]
        return min((i for i, y in points if not math.isfinite(y)), default=None)

    @property
    def scores(self) -> dict[tuple[str, str], Series]:
        """The outputs that are no losses, such as an accuracy."""
        return {key: series for key, series in self.outputs.items() if key[1] not in self.losses}


def read_logs(paths: Sequence[str | Path], last: int | None = None) -> list[Run]:
    """The runs of some logs, in order, with names that tell them apart; ``last``: so many of each log, at most.

    They are named by their nets; where nets of several logs have one name, by the logs. Raises DataError, as
    ``read_log`` does.
    """
    labels = _labels([Path(path) for path in paths])
    runs = [read_log(path) for path in paths]
    nets = [{run.net for run in of_log} for of_log in runs]
    for i, label in enumerate(labels):
        if nets[i] & set().union(*nets[:i], *nets[i + 1 :]):
            runs[i] = _numbered(runs[i], [label] * len(runs[i]))
    return [run for of_log in runs for run in of_log[-(last or 0) :]]


def read_log(path: str | Path, name: str | None = None) -> list[Run]:
    """The runs of a log that have at least one number; ``name`` names them, by default their net, or else the file.

    Raises DataError if it cannot be read, is not a log, or if no iteration was shown yet.
    """
    path = Path(path)
    with reading(path, DataError, "not a log ({})"), path.open("rb") as file:
        runs, is_log = _read(path, file)
    if not is_log:
        raise DataError(
            f"{path}: not a training log: it has neither the events of a <prefix>.log.jsonl nor lines such as "
            "'Iteration 100, loss = 0.3' of Caffe or of 'minicaffe train'"
        )
    shown = [run for run in runs if not run.is_empty]
    if not shown:
        raise DataError(
            f"{path}: no iteration was shown in it yet; let it train for longer, or lower 'display' in the solver"
        )
    frozen = [run.frozen(str(path)) for run in shown]
    return _numbered(frozen, [name or run.net or _stem(path) for run in frozen])


def _numbered(runs: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """The runs of a log with these names, and with a number where one is that of several."""
    found = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        number = f" ({names[: i + 1].count(name)})" if names.count(name) > 1 else ""
        found.append(replace(run, name=name + number))
    return found


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """At each place the mean of the ``width`` values around it; of fewer at both ends.

    At the start, where a loss falls fast, there are as many on both sides, at the end as many as there are. Values
    that are not finite are left out; the mean of none is nan.
    """
    half = max(0, width - 1) // 2
    finite = np.isfinite(values)
    numbers = np.where(finite, values, 0.0)
    counts = np.concatenate([[0], np.cumsum(finite)])
    means = []
    for i in range(len(values)):
        first, after = i - min(half, i), min(i + min(half, i) + 1, len(values))
        count = counts[after] - counts[first]
        means.append(float(numbers[first:after].sum() / count) if count else NAN)
    return means


def _stem(path: Path) -> str:
    for ending in (".log.jsonl", ".jsonl", ".log", ".txt"):
        if path.name.endswith(ending) and path.name != ending:
            return path.name.removesuffix(ending)
    return path.name


def _labels(paths: Sequence[Path]) -> list[str]:
    """The names of files; with so many of their folders that they differ."""
    labels = [_stem(path) for path in paths]
    for depth in range(1, 1 + max((len(path.parts) for path in paths), default=0)):
        if len(set(labels)) == len(labels):
            break
        twice = {label for label in labels if labels.count(label) > 1}
        labels = [
            "/".join((*path.parts[:-1][-depth:], _stem(path))) if label in twice else label
            for path, label in zip(paths, labels, strict=True)
        ]
    return labels


# -- runs while they are read


class _Run:
    """A run that grows while a log is read. Times are of any clock; they become seconds of training."""

    def __init__(self, **marks: Any) -> None:
        self.marks = marks
        self.points: dict[tuple[str, ...], list[tuple[int, float, float]]] = {}
        self.snapshots: list[Snapshot] = []
        self.losses: dict[str, float] = marks.pop("losses", {})  # the weights of outputs that are losses
        self.resumes: list[int] = []
        self._zero: float | None = None  # when the training would have begun, had it never stopped
        self._trained = 0.0  # seconds, before the last start or resume

    @property
    def is_empty(self) -> bool:
        return not self.points

    def seconds(self, time: float) -> float:
        """The seconds of training at a time; one before the run began (below a newer header) is its start."""
        if not math.isfinite(time):
            return NAN
        if self._zero is None or time - self._zero < self._trained:
            self._zero = time - self._trained
        return round(time - self._zero, 6)

    def add(self, key: tuple[str, ...], iteration: int, time: float, value: float) -> None:
        self.points.setdefault(key, []).append((iteration, self.seconds(time), value))

    def add_outputs(self, phase: str, iteration: int, time: float, outputs: Mapping[str, float]) -> None:
        for name, value in outputs.items():
            self.add(("output", phase, name), iteration, time, value)

    def add_test_loss(self, phase: str, iteration: int, time: float, outputs: Mapping[str, float]) -> None:
        """The total loss of a test, if the net has one among its outputs."""
        parts = [self.losses[name] * value for name, value in outputs.items() if name in self.losses]
        if parts:
            self.add(("loss", phase), iteration, time, sum(parts))

    def resume(self, iteration: int, time: float) -> None:
        """Training goes on at an iteration: forget what came after it."""
        for key, points in self.points.items():
            self.points[key] = [point for point in points if point[0] < iteration]
        self.points = {key: points for key, points in self.points.items() if points}
        self.snapshots = [snapshot for snapshot in self.snapshots if snapshot.iteration <= iteration]
        kept = [point[1] for points in self.points.values() for point in points if math.isfinite(point[1])]
        kept += [snapshot.seconds for snapshot in self.snapshots if math.isfinite(snapshot.seconds)]
        self._trained = max(kept, default=0.0)
        self._zero = None
        self.seconds(time)
        self.resumes = [*(at for at in self.resumes if at < iteration), iteration]

    def has_written(self, state: str) -> bool:
        return any(Path(snapshot.file).name == Path(state).name for snapshot in self.snapshots)

    def frozen(self, file: str) -> Run:
        series = {key: Series(*zip(*points, strict=True)) for key, points in self.points.items()}
        norms = {
            key[1]: Norms(*(series["norm", key[1], kind] for kind in "wgd"))
            for key in series
            if key[0] == "norm" and key[2] == "w"
        }
        return Run(
            name="",
            file=file,
            loss={key[1]: points for key, points in series.items() if key[0] == "loss"},
            outputs={(key[1], key[2]): points for key, points in series.items() if key[0] == "output"},
            losses=frozenset(self.losses),
            rate=series.get(("rate",), Series()),
            snapshots=tuple(self.snapshots),
            norms=norms,
            resumes=tuple(self.resumes),
            **self.marks,
        )


def _run_of_state(runs: Sequence[_Run], state: str) -> _Run | None:
    """The last run that has written a state."""
    return next((run for run in reversed(runs) if run.has_written(state)), None)


def _read(path: Path, lines: Iterable[bytes]) -> tuple[list[_Run], bool]:
    """The runs of a log of either kind, and whether it is one."""
    lines = iter(lines)
    first = next((line for line in lines if line.strip()), b"")
    events = _Events()
    if events.take(event_of(first)):
        for line in lines:
            events.take(event_of(line))
        return events.runs, True
    text = _Text(datetime.fromtimestamp(path.stat().st_mtime).year)
    for line in _chain(first, lines):
        text.take(line.decode("utf-8", "replace").rstrip("\r\n"))
    text.finish_block()
    return text.runs, text.is_log


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


# -- <prefix>.log.jsonl


def _number(value: object) -> float:
    """A number of a JSON file, nan for null and for whatever is no number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else NAN


def _scalars(outputs: object) -> dict[str, float]:
    """The outputs that are one number, however many brackets it stands in."""
    found = {}
    for name, value in outputs.items() if isinstance(outputs, dict) else ():
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, (list, dict, str)):
            found[name] = _number(value)
    return found


class _Events:
    """Reads the events of our logs, one after the other."""

    def __init__(self) -> None:
        self.runs: list[_Run] = []
        self._by_id: dict[str, _Run] = {}
        self._now: _Run | None = None

    def take(self, event: Mapping[str, Any]) -> bool:
        """Add an event; False if it is none."""
        kind, iteration, time = event.get("event"), event.get("iteration"), _number(event.get("time"))
        if not isinstance(kind, str) or not isinstance(iteration, int):
            return False
        if kind == "start":
            self._start(event, iteration, time)
            return True
        if self._now is None:  # a log of before there were starts
            self._now = self._new("")
        run = self._now
        if kind == "resume":
            self._resume(event, iteration, time)
        elif kind == "snapshot":
            run.snapshots.append(Snapshot(iteration, run.seconds(time), str(event.get("file", ""))))
        elif kind == "train":
            run.add(("loss", "train"), iteration, time, _number(event.get("loss")))
            run.add(("rate",), iteration, time, _number(event.get("lr")))
            run.add_outputs("train", iteration, time, _scalars(event.get("outputs")))
        elif kind == "test":
            outputs = _scalars(event.get("outputs"))
            number = event.get("net")
            phase = f"test {number}" if isinstance(number, int) and number else "test"
            if not run.losses:  # the start did not say which they are
                names = (name for name in outputs if "loss" in name.rpartition("/")[2].lower())
                run.losses = dict.fromkeys(names, 1.0)
            run.add_outputs(phase, iteration, time, outputs)
            run.add_test_loss(phase, iteration, time, outputs)
        elif kind == "end":
            shown = run.points.get(("loss", "train"))
            if shown and shown[-1][0] < iteration:
                run.add(("loss", "train"), iteration, time, _number(event.get("loss")))
                if "lr" in event:
                    run.add(("rate",), iteration, time, _number(event["lr"]))
        elif kind == "norms" and isinstance(event.get("params"), dict):
            for key, norms in event["params"].items():
                if isinstance(norms, list) and len(norms) == 3:
                    for letter, value in zip("wgd", norms, strict=True):
                        run.add(("norm", key, letter), iteration, time, _number(value))
        return True

    def _new(self, name: str, **marks: Any) -> _Run:
        run = _Run(**marks)
        self.runs.append(run)
        if name:
            self._by_id[name] = run
        return run

    def _start(self, event: Mapping[str, Any], iteration: int, time: float) -> None:
        name, resumed = str(event.get("run", "")), event.get("resumed")
        known = self._by_id.get(name)
        if known is None and isinstance(resumed, str):
            known = _run_of_state(self.runs, resumed)
        if known is not None:
            self._now = self._by_id[name] = known
            known.resume(iteration, time)
            return
        seed, losses = event.get("seed"), event.get("losses")
        losses = losses if isinstance(losses, dict) else {}
        self._now = self._new(
            name,
            net=str(event.get("net", "")),
            seed=seed if isinstance(seed, int) else None,
            solver=str(event.get("solver") or ""),
            net_spec=str(event.get("net_spec") or ""),
            losses={key: _number(weight) for key, weight in losses.items()},
        )
        self._now.seconds(time)

    def _resume(self, event: Mapping[str, Any], iteration: int, time: float) -> None:
        """A resume that follows its start has been dealt with; one within a process has not."""
        known = self._by_id.get(str(event.get("run", "")))
        run = known or self._now
        if run is not None and run.resumes[-1:] != [iteration]:
            run.resume(iteration, time)
        self._now = run


# -- texts

_TOLD = re.compile("Iteration |net output|Snapshot|Res|Solving")  # what other lines lack
_STAMP = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d(?:\.\d+)?)\s")
_ITERATION = re.compile(r"\bIteration (\d+)\b(.*)")
_LOSS, _RATE = re.compile(r"\bloss = (\S+)"), re.compile(r"\blr = (\S+)")
_TEST = re.compile(r"Testing net \(#(\d+)\)")
_OUTPUT = re.compile(
    r"\b(Train|Test) net output (?:mAP )?#\d+: (.+?) = (\S+)(?: \(\* (\S+) = \S+ loss\))?$"
)  # the weight of a loss; no match for a large output, of which only the mean is shown
_SOLVING = re.compile(r"\bSolving (.*?)(?: from iteration \d+ to \d+)?$")
_RESUME = re.compile(
    r"\b(?:Resuming from|Restoring previous solver status from|Resumed from) (.+?)(?: at iteration (\d+))?$"
)
_SNAPSHOT = re.compile(r"\b(?:Snapshotting solver state to \w+(?: \w+)*? file|Snapshot to) (.+)$")
_STATE_NUMBER = re.compile(r"_iter_(\d+)\.")


class _Text:
    """Reads what Caffe or our programs print, line by line."""

    def __init__(self, year: int) -> None:
        self.runs: list[_Run] = []
        self.is_log = False
        self._year, self._time = year, NAN
        self._began = NAN  # when the last run was said to begin or resume
        self._now: _Run | None = None
        self._net: str | None = None  # of a run that was said to begin, but has shown nothing yet
        self._state: tuple[str, int | None] | None = None  # the same of a resume
        self._phase, self._iteration, self._shown = "train", 0, NAN  # of the outputs that are being read
        self._block: dict[str, list[float]] = {}

    def take(self, line: str) -> None:
        """Read one line."""
        if not _TOLD.search(line):
            return
        self._read_time(line)
        if found := _ITERATION.search(line):
            self._iterate(int(found[1]), found[2])
        elif found := _OUTPUT.search(line):
            self._output(*found.groups())
        elif found := _SNAPSHOT.search(line):
            if self._now is not None:
                self._now.snapshots.append(Snapshot(*self._snapshot(found[1])))
        elif found := _RESUME.search(line):
            self._state, self._began = (found[1], int(found[2]) if found[2] else None), self._time
        elif found := _SOLVING.search(line):
            self.finish_block()
            self._net, self._began = found[1], self._time

    def _snapshot(self, file: str) -> tuple[int, float, str]:
        number = _STATE_NUMBER.search(file)
        assert self._now is not None
        return int(number[1]) if number else self._iteration, self._now.seconds(self._time), file

    def _read_time(self, line: str) -> None:
        """The time of the line, if it has one, in seconds since some year began; it grows over a New Year."""
        found = _STAMP.search(line)
        if found is None:
            return
        year, month, day, hour, minute = (int(part or self._year) for part in found.groups()[:5])
        try:
            stamp = datetime(year, month, 1, hour, minute) + timedelta(days=day - 1, seconds=float(found[6]))
        except ValueError:
            return
        time = (stamp - datetime(1970, 1, 1)).total_seconds()
        if not found[1] and self._time - time > HALF_A_YEAR:
            self._year += 1
            time += (datetime(self._year, 1, 1) - datetime(self._year - 1, 1, 1)).total_seconds()
        self._time = time

    def _run(self, iteration: int) -> _Run:
        """The run that an iteration belongs to."""
        if self._state is not None:
            file, at = self._state
            number = _STATE_NUMBER.search(file)
            at = at if at is not None else int(number[1]) if number else iteration
            known = _run_of_state(self.runs, file)
            if known is not None:
                known.resume(min(at, iteration), self._began)
                self._now, self._net = known, None
        if self._net is not None or self._now is None:
            self._now = _Run(net=self._net or "")
            self._now.seconds(self._began)
            self.runs.append(self._now)
        self._net = self._state = None
        return self._now

    def _iterate(self, iteration: int, rest: str) -> None:
        test, loss, rate = _TEST.search(rest), _LOSS.search(rest), _RATE.search(rest)
        if not (test or loss or rate):
            return
        self.is_log = True
        self.finish_block()
        self._iteration = iteration
        run = self._run(iteration)
        run.seconds(self._time)
        if test:
            self._phase = f"test {test[1]}" if int(test[1]) else "test"
        if loss:
            self._phase = "train"
            run.add(("loss", "train"), iteration, self._time, _float(loss[1]))
        if rate:
            run.add(("rate",), iteration, self._time, _float(rate[1]))

    def _output(self, phase: str, name: str, value: str, weight: str | None) -> None:
        if self._now is None or not self._phase.startswith(phase.lower()):
            return
        self._block.setdefault(name, []).append(_float(value))
        self._shown = self._time
        if weight is not None:
            self._now.losses[name] = _float(weight)

    def finish_block(self) -> None:
        """Add the outputs that were shown; those of several numbers, which have several lines, are left out."""
        outputs = {name: values[0] for name, values in self._block.items() if len(values) == 1}
        self._block = {}
        if self._now is not None and outputs:
            self._now.add_outputs(self._phase, self._iteration, self._shown, outputs)
            if self._phase != "train":
                self._now.add_test_loss(self._phase, self._iteration, self._shown, outputs)


def _float(text: str) -> float:
    """A number as it is printed, with a comma perhaps; nan for "-nan(ind)" and the like."""
    try:
        return float(text.rstrip(","))
    except ValueError:
        return NAN
