"""Progress of long work: how many steps are done, and how much time is left."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("minicaffe")


class Progress:
    """Logs the progress of ``steps`` steps of similar length: each by ``say``, or some of them by ``say_some``."""

    EVERY = 5.0  # seconds between two lines

    def __init__(self, steps: int, what: str = "images") -> None:
        self.what = what  # that ``say_some`` counts
        self.steps, self.done = steps, 0
        self.start = self.said = time.perf_counter()

    def seconds_left(self) -> float:
        """The time that the remaining steps will take at the pace so far; 0 before the first step is done."""
        return (self.steps - self.done) * (time.perf_counter() - self.start) / max(1, self.done)

    def say(self, text: str, is_new: bool = True) -> None:
        """Log a finished step and the time left. A step that is not new took no time, and does not count."""
        if is_new:
            self.done += 1
        else:
            self.steps -= 1
        left = self.seconds_left()
        logger.info("%s%s", text, f" ({duration(left)} left)" if self.done and left >= 1 else "")

    def say_some(self, count: int = 1) -> None:
        """Count ``count`` more of what there are; log how many are done every few seconds."""
        now = time.perf_counter()
        if now - self.said >= self.EVERY and self.done:
            self.said = now
            left = duration(self.seconds_left())
            logger.info("%s of %s %s (%s left)", f"{self.done:,}", f"{self.steps:,}", self.what, left)
        self.done += count


def duration(seconds: float) -> str:
    """A time in words: "8 s", "3:05" (minutes), "2:03:05" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
