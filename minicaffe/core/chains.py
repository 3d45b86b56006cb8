"""Chains: in a test net, a layer and the in-place layers after it run as one.

    convolution → BatchNorm → Scale → ReLU, all on one blob        Eltwise → ReLU        BatchNorm → Scale → ReLU

Nobody sees what is in the blob between two of these layers. So the later ones become the ``Epilogue`` of the first
(``ops/epilogue.py``), and the blob is written once. All else is as if each had run by itself: a forward that ends
or starts within a chain, functions that a script hangs around layers, ``debug_info`` and ``engine: CAFFE`` take the
layers one by one.

Layers that ran in a chain have saved nothing for backward. If it is asked for, they run again, one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.ops.convolution.engine import engine_of_run
from minicaffe.ops.epilogue import Epilogue, Map


def find_chains(steps: Sequence[Step]) -> dict[int, int]:
    """The chains of a test net: the index of each first step, and of the last one of its chain."""
    chains: dict[int, int] = {}
    first = 0
    while first < len(steps):
        last = first
        while last + 1 < len(steps) and _follows(steps[last + 1], steps[first]):
            last += 1
        if last > first and _leads(steps[first]):
            chains[first] = last
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


def run_chain(steps: Sequence[Step]) -> int:
    """Run the first steps of a chain as one, as many as its present shapes and engine allow; return how many.

    0 if the first has to run by itself. The layers are reshaped already.
    """
    (layer, bottom, top), *rest = ((step.layer, step.bottom, step.top) for step in steps)
    if len(top[0].shape) < 2 or engine_of_run() == "CAFFE" or any("forward" in vars(s.layer) for s in steps):
        return 0
    own = layer.as_map()
    if own is None and not layer.can_lead():
        return 0
    maps: list[Map] = []
    for follower, _, _ in rest:
        if (found := follower.as_map()) is None:
            break
        maps.append(found)
    if not maps:
        return 0
    if own is not None:
        Epilogue([own, *maps]).over(top[0].stored, bottom[0].stored, write=_copy)
    else:
        layer.forward_then(bottom, top, Epilogue(maps))
    return 1 + len(maps)


def _copy(y: Array, x: Array) -> None:
    y[...] = x
