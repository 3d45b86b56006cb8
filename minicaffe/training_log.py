"""The training log: one JSON object a line, beside the snapshots, for plots and scripts."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from minicaffe.errors import WriteError


class TrainingLog:
    """Appends events to ``<snapshot_prefix>.log.jsonl``; without a prefix there is no log.

    Each line has ``event`` ("train", "test", "snapshot", "resume"), ``iteration``, ``time`` (seconds since
    1970) and the event's values. The file is opened at the first event.
    """

    def __init__(self, prefix: str) -> None:
        self.path = Path(f"{prefix}.log.jsonl") if prefix else None
        self._file: IO[str] | None = None

    def write(self, **event: Any) -> None:
        """Append one event. Raises WriteError where the file cannot be written."""
        if self.path is None:
            return
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8", buffering=1)
            self._file.write(json.dumps({**event, "time": round(time.time(), 3)}) + "\n")
        except OSError as error:
            raise WriteError(
                f"{self.path}: cannot be written ({error.strerror}); check snapshot_prefix"
            ) from None

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            with suppress(OSError):  # of a full disk, which ``write`` has reported
                self._file.close()
            self._file = None


def duration(seconds: float) -> str:
    """A time in words: "8 s", "3:05" (minutes), "2:03:05" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
