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
    (0 for none); ``labels`` are names of classes.
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

    def budget(self, share: float) -> int:
        """A share of ``max_size``, in bytes of the file."""
        return int(share * self.max_size * MB)
