"""Progress of what takes long: how many of its steps are done, and the time that the others will take."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("minicaffe")


class Progress:
    """``steps`` steps of about the same length, which are logged: each by ``say`` or some by ``say_some``."""

    EVERY = 5.0  # seconds between two lines

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0
        self.start = self.said = time.perf_counter()

    def seconds_left(self) -> float:
        """What the steps that are left will take, at the pace of those that are done; 0 before the first is."""
        return (self.steps - self.done) * (time.perf_counter() - self.start) / max(1, self.done)

    def say(self, text: str, is_new: bool = True) -> None:
        """A step is done: log ``text``, and the time left. What was known already says nothing of the pace."""
        if is_new:
            self.done += 1
        else:
            self.steps -= 1
        left = self.seconds_left()
        logger.info("%s%s", text, f" ({duration(left)} left)" if self.done and left >= 1 else "")

    def say_some(self, count: int = 1) -> None:
        """``count`` more steps begin, each of an image: every few seconds log how many are done."""
        now = time.perf_counter()
        if now - self.said >= self.EVERY and self.done:
            self.said = now
            left = duration(self.seconds_left())
            logger.info("%s of %s images (%s left)", f"{self.done:,}", f"{self.steps:,}", left)
        self.done += count


def duration(seconds: float) -> str:
    """A time in words: "8 s", "3:05" (minutes), "2:03:05" (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
