"""Progress of a long search: what was just done, how much there is to do, and the time that it will take."""

from __future__ import annotations

import logging
import time

from minicaffe.train.log import duration

logger = logging.getLogger("minicaffe")


class Progress:
    """``steps`` steps of about the same length."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0
        self.start = time.perf_counter()

    def step(self, text: str, is_new: bool = True) -> None:
        """Log a step; one that was known already does not count for the pace."""
        self.done += 1
        if not is_new:
            self.steps, self.done = self.steps - 1, self.done - 1
        left = (self.steps - self.done) * (time.perf_counter() - self.start) / max(1, self.done)
        logger.info("%s%s", text, f" ({duration(left)} left)" if self.done and left >= 1 else "")
