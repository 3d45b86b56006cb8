"""caffe.Timer: how long something took."""

from __future__ import annotations

import time

from minicaffe.device.array import synchronize


class Timer:
    """``start()`` … ``stop()``; ``ms`` is the time between them in milliseconds."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._ms = 0.0

    def start(self) -> None:
        """Start counting from zero; if already counting, go on."""
        if self._start is None:
            self._start = _now()

    def stop(self) -> None:
        """Stop counting."""
        if self._start is not None:
            self._ms = (_now() - self._start) * 1000
            self._start = None

    @property
    def ms(self) -> float:
        """The time counted, in milliseconds; it stops the timer, as Caffe's does."""
        self.stop()
        return self._ms


def _now() -> float:
    """Seconds, once everything started on the device is done."""
    synchronize()
    return time.perf_counter()
