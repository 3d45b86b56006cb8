"""Scoring: the mean of a net's outputs over batches of its test data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.array import to_host
from minicaffe.net import Net


@dataclass
class Score:
    """The mean of each output, by name, and of the loss."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    loss: float = 0.0


def score(net: Net, batches: int, after_batch: Callable[[int], bool]) -> Score | None:
    """Run ``batches`` batches; ``after_batch(number)`` says after each whether to go on. None: it did not."""
    sums: dict[str, Any] = {}
    loss: Any = 0.0
    for number in range(batches):
        with net.lock, net.setting.device.entered():
            net.run_forward()
            loss = loss + net.loss()
            for name in net.outputs:
                sums[name] = sums.get(name, 0) + net.blobs[name].data
        if not after_batch(number):
            return None
    count = max(batches, 1)
    return Score({name: to_host(total) / count for name, total in sums.items()}, float(loss) / count)
