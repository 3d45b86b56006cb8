"""Dead units: those of a ReLU that are 0 for every test image, and those that are above 0 for every one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.inspect.report.test_run import Batch
from minicaffe.layers.relu import ReLU
from minicaffe.layers.relu6 import ReLU6


class UnitCollector:
    """Which units of each ReLU were ever above 0, and which were ever not."""

    def __init__(self, net: Net) -> None:
        self._ever: dict[str, NDArray[np.bool_]] = {}
        self._always: dict[str, NDArray[np.bool_]] = {}
        is_gate = ((isinstance(x, ReLU) and not x.slope) or type(x) is ReLU6 for x in net.layers)
        self._layers = {layer.name for layer, gate in zip(net.layers, is_gate, strict=True) if gate}

    def after(self, step: Step, batch: Batch) -> None:
        """Look at the top of a ReLU."""
        name, top = step.layer.name, step.top
        if name not in self._layers or len(top[0].shape) < 2:
            return
        on = top[0].stored[..., : batch.count] > 0
        inner = tuple(range(1, on.ndim))
        ever, always = to_host(on.any(axis=inner)), to_host(on.all(axis=inner))
        self._ever[name] = self._ever.get(name, False) | ever
        self._always[name] = self._always.get(name, True) & always

    def shares(self) -> tuple[dict[str, float], dict[str, float], dict[str, list[int]]]:
        """The shares of units that are dead, and that are always on; and the numbers of the dead ones."""
        dead_units = {name: np.flatnonzero(~ever).tolist() for name, ever in self._ever.items()}
        dead = {name: len(units) / len(self._ever[name]) for name, units in dead_units.items()}
        return dead, {name: float(always.mean()) for name, always in self._always.items()}, dead_units
