"""A file of measurements, one JSON object a line, so that a long search that was stopped can continue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.device.array import Array, to_host
from minicaffe.errors import WriteError

PACKAGE = Path(__file__).parents[1]
CODE = (
    "__init__.py",
    "compress/**/*.py",
    "low_rank/**/*.py",
)  # of it: the version, what fits factors and measures
START = '{"run": "'  # of a line; the only one may have been cut short


def fingerprint(*parts: str | Path | Array) -> str:
    """A short digest of what the measurements of a search depend on: texts, arrays, the contents of files.

    The code is always among them (``CODE``), so that another version measures anew.
    """
    digest = hashlib.sha256()
    sources = [path for pattern in CODE for path in sorted(PACKAGE.glob(pattern))]
    for part in (*sources, *parts):
        if isinstance(part, str):
            digest.update(part.encode())
        elif isinstance(part, Path):
            digest.update(part.read_bytes())
        else:
            digest.update(np.ascontiguousarray(to_host(part)).data)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


class Journal:
    """Values by key, stored in ``path``; lines with another fingerprint, and an incomplete last line, are ignored.

    Raises WriteError if the file cannot be written, or is somebody's own: has no line of a journal.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self.known: dict[str, Any] = {}
        written = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        lines = [line for line in written.splitlines() if line.strip()]
        if lines and not any(START.startswith(line[: len(START)]) for line in lines):
            raise WriteError(
                f"{path}: is no journal, to which measurements could be added; move it, or give another output"
            )
        self._break = "" if written.endswith("\n") or not written else "\n"  # after an incomplete line
        for line in lines:
            self._take(line)

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if entry["run"] == self.run:
                self.known[entry["key"]] = entry["value"]
        except (ValueError, KeyError, TypeError):
            pass  # a line that was being written when the search was stopped

    def get(self, key: Any) -> Any:
        """The value stored for a key (anything that JSON can express), or None."""
        return self.known.get(json.dumps(key))

    def note(self, key: Any, value: Mapping[str, Any]) -> None:
        """Store a value."""
        key = json.dumps(key)
        self.known[key] = value
        line = json.dumps({"run": self.run, "key": key, "value": value})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._break + line + "\n")
            self._break = ""
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be written ({error.strerror}); check the path") from None
