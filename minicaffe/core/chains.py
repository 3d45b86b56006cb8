"""Chains: in a test net, a layer and the in-place layers after it run as one.

    convolution → BatchNorm → Scale → ReLU, all on one blob        Eltwise → ReLU        BatchNorm → Scale → ReLU

Nobody sees what is in the blob between two of these layers. So the later ones become the ``Epilogue`` of the first
(``ops/epilogue.py``), and the blob is written once. All else is as if each had run by itself: a forward that ends
or starts within a chain, functions that a script hangs around layers, ``debug_info`` and ``engine: CAFFE`` take the
layers one by one.

What the later layers make of their parameters and settings is kept as long as nobody can have changed those.

Layers that ran in a chain have saved nothing for backward. If it is asked for, they run again, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.ops.convolution.engine import engine_of_run
from minicaffe.ops.epilogue import Epilogue, Map
from minicaffe.ops.remember import is_same_object


class Chain:
    """Steps of a test net of which the later ones are in place on the top of the first."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._latest: tuple[list[Array], list[tuple[object, ...]], list[Map]] | None = None
        self._epilogues: dict[int, Epilogue] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes maps of its own layers."""
        return {**vars(self), "_latest": None, "_epilogues": {}}

    def run(self, count: int) -> int:
        """Run the first ``count`` steps as one, or as many as their shapes and engine allow; return how many.

        0 if the first has to run by itself. The layers are reshaped already.
        """
        layer, bottom, top = self.steps[0].layer, self.steps[0].bottom, self.steps[0].top
        if len(top[0].shape) < 2 or engine_of_run() == "CAFFE":
            return 0
        if any("forward" in vars(step.layer) for step in self.steps):
            return 0
        maps = self._maps()[: count - 1]
        if not maps:
            return 0
        own = layer.as_map() if _is_map(layer) else None
        if own is not None:
            Epilogue([own, *maps]).over(top[0].stored, bottom[0].stored, write=_copy)
        elif layer.can_lead():
            if (
                len(maps) not in self._epilogues
            ):  # a layer keeps what it folds as long as it gets the same one
                self._epilogues[len(maps)] = Epilogue(maps)
            layer.forward_then(bottom, top, self._epilogues[len(maps)])
        else:
            return 0
        return 1 + len(maps)

    def _maps(self) -> list[Map]:
        """The maps of the later layers, up to the first that has none now."""
        layers = [step.layer for step in self.steps[1:]]
        values = [blob.values for layer in layers for blob in layer.blobs]
        settings = [layer.map_settings for layer in layers]
        latest = self._latest
        if latest is None or settings != latest[1] or not all(map(is_same_object, values, latest[0])):
            maps: list[Map] = []
            for layer in layers:
                if (found := layer.as_map()) is None:
                    break
                maps.append(found)
            latest = self._latest = values, settings, maps
            self._epilogues = {}
        return latest[2]


def find_chains(steps: Sequence[Step]) -> dict[int, Chain]:
    """The chains of a test net, by the index of their first steps."""
    chains: dict[int, Chain] = {}
    first = 0
    while first < len(steps):
        last = first
        while last + 1 < len(steps) and _follows(steps[last + 1], steps[first]):
            last += 1
        if last > first and _leads(steps[first]):
            chains[first] = Chain(steps[first : last + 1])
        first = last + 1
    return chains


def _leads(step: Step) -> bool:
    """Whether a layer can be the first: it must be possible to run it again."""
    if len(step.top) != 1 or step.top[0] in step.bottom:
        return False
    return _is_own(step.layer, "forward_then") or (len(step.bottom) == 1 and _is_map(step.layer))


def _follows(step: Step, first: Step) -> bool:
    in_place = len(step.bottom) == len(step.top) == 1 and step.bottom[0] is step.top[0]
    return in_place and step.top[0] in first.top and _is_map(step.layer)


def _is_map(layer: Layer) -> bool:
    return _is_own(layer, "as_map")


def _is_own(layer: Layer, method: str) -> bool:
    """Whether a layer's class defines this method beside its forward: then the two do the same."""
    maker = next(cls for cls in type(layer).__mro__ if "forward" in vars(cls))
    return maker is not Layer and method in vars(maker)


def _copy(y: Array, x: Array) -> None:
    y[...] = x
