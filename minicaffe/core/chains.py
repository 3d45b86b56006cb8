"""Chains: a layer and the in-place layers after it run as one.

    at TEST     convolution → BatchNorm → Scale → ReLU, all on one blob     Eltwise → ReLU     BatchNorm → Scale
    at TRAIN    convolution → ReLU                                          Eltwise → ReLU

Nobody sees what is in the blob between two of these layers. So the later ones become the ``Epilogue`` of the first
(``ops/epilogue.py``), and the blob is written once. All else is as if each had run by itself: a forward that ends
or starts within a chain, functions that a script hangs around layers, ``debug_info`` and ``engine: CAFFE`` take the
layers one by one.

What the later layers make of their parameters and settings is kept as long as nobody can have changed those.

Layers that ran in a chain of a test net have saved nothing for backward. If it is asked for, they run again, one by
one. In a training net a chain has only layers that have nothing to save; the others may be units (``units.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer, is_watched
from minicaffe.core.units import Unit, find_unit, is_in_place_on
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls
from minicaffe.ops.engine import keeps_order
from minicaffe.ops.epilogue import Epilogue, Map
from minicaffe.ops.remember import is_same_object


class Chain:
    """Steps of a net of which the later ones are in place on the top of the first."""

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
        if len(top[0].shape) < 2 or keeps_order():
            return 0
        if any(is_watched(step.layer, "forward") for step in self.steps):
            return 0
        maps = self._maps()[: count - 1]
        if not maps:
            return 0
        own = layer.as_map() if _is_map(layer) else None
        if own is not None:
            Epilogue([own, *maps]).over(top[0].stored, bottom[0].stored, write=_copy)
        elif _is_own(layer, "forward_then") and layer.can_lead():
            layer.forward_then(bottom, top, self._epilogue(maps))
        else:
            return 0
        return 1 + len(maps)

    def prepare(self, count: int) -> Calls | None:
        """The calls of the first ``count`` steps, which have run as one."""
        first, maps = self.steps[0], self._maps()[: count - 1]
        return first.layer.prepare(first.bottom, first.top, self._epilogue(maps))

    def _epilogue(self, maps: list[Map]) -> Epilogue:
        """A layer keeps what it folds as long as it gets the same one."""
        if len(maps) not in self._epilogues:
            self._epilogues[len(maps)] = Epilogue(maps)
        return self._epilogues[len(maps)]

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


def find_chains(steps: Sequence[Step]) -> dict[int, Chain | Unit]:
    """The chains of a test net, by the index of their first steps."""
    return _find(steps, _chain_at_test)


def find_training_chains(steps: Sequence[Step]) -> dict[int, Chain | Unit]:
    """The chains and units of a training net, by the index of their first steps."""
    return _find(steps, lambda steps, first: find_unit(steps, first) or _chain_at_training(steps, first))


def _find(
    steps: Sequence[Step], find: Callable[[Sequence[Step], int], Chain | Unit | None]
) -> dict[int, Chain | Unit]:
    chains: dict[int, Chain | Unit] = {}
    first = 0
    while first < len(steps):
        chain = find(steps, first)
        if chain is not None:
            chains[first] = chain
        first += 1 if chain is None else len(chain.steps)
    return chains


def _chain_at_test(steps: Sequence[Step], first: int) -> Chain | None:
    leads = _is_own(steps[first].layer, "forward_then") or (
        len(steps[first].bottom) == 1 and _is_map(steps[first].layer)
    )
    return _chain(steps, first, _is_map) if leads else None


def _chain_at_training(steps: Sequence[Step], first: int) -> Chain | None:
    """Each layer saves what its forward by itself does: the first in ``forward_then``, the others nothing."""
    leads = _is_own(steps[first].layer, "forward_then")
    return _chain(steps, first, lambda layer: layer.saves_nothing and _is_map(layer)) if leads else None


def _chain(steps: Sequence[Step], first: int, may_follow: Callable[[Layer], bool]) -> Chain | None:
    """The chain of a step and those after it; its first layer must be one that can run again."""
    end = first + 1
    while end < len(steps) and is_in_place_on(steps[end], steps[first]) and may_follow(steps[end].layer):
        end += 1
    leads = len(steps[first].top) == 1 and steps[first].top[0] not in steps[first].bottom
    return Chain(steps[first:end]) if leads and end > first + 1 else None


def _is_map(layer: Layer) -> bool:
    return _is_own(layer, "as_map")


def _is_own(layer: Layer, method: str) -> bool:
    """Whether a layer's class defines this method beside its forward: then the two do the same."""
    maker = next(cls for cls in type(layer).__mro__ if "forward" in vars(cls))
    return maker is not Layer and method in vars(maker)


def _copy(y: Array, x: Array) -> None:
    y[...] = x
