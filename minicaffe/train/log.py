"""The training log: one JSON object a line, beside the snapshots, for plots and scripts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from minicaffe.errors import WriteError

Listener = Callable[[dict[str, Any]], None]


class TrainingLog:
    """Appends events to ``<prefix>.log.jsonl``; without a prefix there is no log.

    Each line has ``event``, ``iteration``, ``time`` (seconds since 1970) and the values of the event. The first
    event that a process writes is "start", with what ``start`` returns: ``run`` (kept on resuming), ``resumed``
    (the state that it continues from, or null), ``weights`` (the files that it started from), ``net`` (its name),
    ``losses`` (the outputs that are losses, with their weights), ``seed``, and the texts of the specs: ``solver``
    and ``net_spec``. The others are "train", "test", "norms", "snapshot", "resume" and "end", whose ``loss`` and
    ``lr`` are the last ones; the loss is null if training has diverged. An incomplete last line, left by a kill, is
    removed. ``listeners`` are called with each event that was written.
    """

    def __init__(
        self, prefix: str, start: Callable[[], dict[str, Any]], listeners: Sequence[Listener] = ()
    ) -> None:
        self.path = log_path(prefix) if prefix else None
        self._start, self._listeners = start, listeners
        self._file: IO[str] | None = None

    def start(self) -> None:
        """Open the file and write "start", unless that is done already. Raises WriteError."""
        self._append()

    def write(self, **event: Any) -> None:
        """Append one event. Raises WriteError if the file cannot be written."""
        self._append(event)

    def _append(self, *events: dict[str, Any]) -> None:
        if self.path is None:
            return
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _mend_end(self.path)
                self._file = self.path.open("a", encoding="utf-8", buffering=1)
                events = ({"event": "start", **self._start()}, *events)
            events = tuple({**event, "time": round(time.time(), 3)} for event in events)
            self._file.writelines(json.dumps(event) + "\n" for event in events)
        except OSError as error:
            raise WriteError(
                f"{self.path}: cannot be written ({error.strerror}); check snapshot_prefix"
            ) from None
        for event in events:
            for listener in self._listeners:
                listener(event)

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, which ``write`` has reported
                self._file.close()
            self._file = None


def log_path(prefix: str) -> Path:
    """The log file that belongs to a snapshot prefix."""
    return Path(f"{prefix}.log.jsonl")


def last_run(prefix: str) -> str | None:
    """The run of the last "start" in a log; None if there is no log, or no start in it."""
    with suppress(OSError):
        for line in reversed(log_path(prefix).read_bytes().splitlines()):
            event = event_of(line) if b'"start"' in line else {}
            run = event.get("run")
            if event.get("event") == "start" and isinstance(run, str):
                return run
    return None


def event_of(line: bytes) -> dict[str, Any]:
    """The event on a line of a log; empty if the line is not a JSON object."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _mend_end(path: Path) -> None:
    """Make a log end with a complete line: complete the last line if it is an event, else cut it off."""
    if not path.is_file():
        return
    with path.open("rb+") as file:
        text = file.read()
        end = text.rfind(b"\n") + 1
        if event_of(text[end:]):
            file.write(b"\n")
        else:
            file.truncate(end)
