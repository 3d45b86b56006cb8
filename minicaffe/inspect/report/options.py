"""Options: what a report is to show, as the flags of ``minicaffe report`` or the arguments of ``mc.report`` say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000


@dataclass(frozen=True)
class Options:
    """``images``: how many are recorded. ``test``: how many are scored. ``max_size``: of the file, in MB.

    ``logs`` are training logs, ``snapshots`` weight files of one training, ``sweep`` a journal of a low-rank sweep;
    ``layers`` limits the views that look at single layers (() for all); ``time`` counts passes that are timed
    (0 for none); ``labels`` are names of classes, and ``labels_from`` says in errors who gave them. ``overhead``:
    bytes of the file for all that is no array, as far as it is known.
    """

    images: int = 8
    labels: Sequence[str] = ()
    test: int = 1000
    logs: Sequence[str | Path] = ()
    snapshots: Sequence[str | Path] = ()
    sweep: str | Path | None = None
    layers: Sequence[str] = ()
    time: int = 0
    max_size: float = 10.0
    overhead: int = 0
    labels_from: str = "class_names"

    @property
    def most_bytes(self) -> int:
        """``max_size`` in bytes."""
        return int(self.max_size * MB)

    def budget(self, share: float) -> int:
        """A share of what the file has for arrays, in bytes."""
        return max(0, int(share * (self.most_bytes - self.overhead)))
