"""Plateaus of the loss: where it has not fallen for long enough, ``lr_policy: plateau`` lowers the learning rate.

    rate = base_lr · gamma ^ (number of plateaus)

The k-th plateau ends when the mean loss of the last ``average_loss`` iterations has not been lower than ever before
for the k-th ``plateau_winsize`` of iterations, counted from where it was, or from the last plateau's end. After as
many plateaus as there are windows, the rate stays.

The policy of PVANet's Caffe (sanghoon/caffe, branches dev_plateau and dev_pvanet).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


class Plateaus:
    """How many there were (``passed``), the lowest loss, and since which iteration nothing has happened.

    ``state`` is what ``state_dict`` returned before.
    """

    def __init__(self, windows: Sequence[int], state: Mapping[str, Any] | None = None) -> None:
        self.windows, state = windows, state or {}
        self.passed, self.since = min(int(state.get("passed", 0)), len(windows)), int(state.get("since", 0))
        lowest = state.get("lowest")
        self.lowest = math.inf if lowest is None else float(lowest)

    def see(self, loss: float, iteration: int) -> bool:
        """Take note of the mean loss after an iteration's forward; whether that is the end of a plateau."""
        if loss < self.lowest:
            self.lowest, self.since = loss, iteration
        if self.passed == len(self.windows) or iteration < self.since + self.windows[self.passed]:
            return False
        self.passed, self.since = self.passed + 1, iteration
        return True

    def factor(self, gamma: float | None) -> float:
        """What the learning rate is multiplied by."""
        return 1.0 if gamma is None or not self.passed else float(gamma**self.passed)

    def state_dict(self) -> dict[str, Any]:
        """What a snapshot keeps: nothing, where the learning rate follows another policy."""
        lowest = self.lowest if self.lowest < math.inf else None
        return {"passed": self.passed, "lowest": lowest, "since": self.since} if self.windows else {}
