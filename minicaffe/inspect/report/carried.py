"""Which layers of a net that does not run in the page carry their inputs and weights, so that their products can be
shown: as many as fit a budget, in float16. Layers that share an input, as an inception's, carry it once.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.inspect.report.pack import Packer, Ref, as_floats
from minicaffe.inspect.report.record import Recording


@dataclass(frozen=True)
class Candidate:
    """A layer by name, its input stage before Splits, the count of its weights, and what kind of layer it is."""

    name: str
    source: str
    weights: int
    kind: Hashable


@dataclass
class Carrier:
    """``left``: bytes of the file that may still be spent."""

    recording: Recording
    packer: Packer
    left: int
    _sizes: dict[str, int] = field(default_factory=dict)

    def spend(self, size: int) -> bool:
        """Take ``size`` bytes, if they are left."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def size(self, layer: Candidate, sources: set[str]) -> int:
        """Bytes of the weights, which do not compress, and of one image's input where it is a new one."""
        return layer.weights * 8 // 3 + (0 if layer.source in sources else self._input(layer.source))

    def _input(self, key: str) -> int:
        if key not in self._sizes:
            self._sizes[key] = packed_size(self.recording.stages[key].values[:1])
        return self._sizes[key]

    def choose(self, layers: Sequence[Candidate]) -> list[Candidate]:
        """The layers that fit: the first one of each kind, then always the one that adds least."""
        firsts = list({layer.kind: layer for layer in reversed(layers)}.values())[::-1]
        others = [layer for layer in layers if layer not in firsts]
        chosen: list[Candidate] = []
        sources: set[str] = set()
        while firsts or others:
            best = firsts.pop(0) if firsts else min(others, key=lambda layer: self.size(layer, sources))
            others = [layer for layer in others if layer is not best]
            if self.spend(self.size(best, sources)):
                chosen.append(best)
                sources.add(best.source)
        return chosen

    def inputs(self, sources: set[str]) -> dict[str, Ref]:
        """The inputs of all images; or of the first alone, where the others do not fit."""
        found: dict[str, Ref] = {}
        for key, stage in self.recording.stages.items():
            if key in sources:
                count = len(stage.values)
                fits = self.spend(self._input(key) * (count - 1))
                found[key] = self.packer.add(stage.values[: count if fits else 1], "f16", f"{key}/product")
        return found

    def add(self, array: np.ndarray, pack: str) -> dict[str, Any] | None:
        """An array, if it fits."""
        return self.packer.add(array, "f16", pack) if self.spend(packed_size(array)) else None


def packed_size(array: np.ndarray) -> int:
    """About the bytes that an array takes in the file: gradients and what a ReLU gives have many zeros."""
    return len(zlib.compress(as_floats(array).tobytes(), 1)) * 4 // 3
