"""Units: in a training net, a layer and in-place layers after it that run as one, forward and backward.

    BatchNorm → Scale → ReLU, all on one blob

Nobody sees what is in the blob, or in its diff, between two of these layers: they read and write memory fewer times
together. All else is as if each had run by itself: each layer finds afterwards what its own backward reads, so a
pass that ends or starts within a unit, functions that a script hangs around layers, ``debug_info`` and
``engine: CAFFE`` take the layers one by one.

A module that defines a unit enters a function in ``makers``, by the type of its first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minicaffe.core.graph import Step
from minicaffe.core.layer import LayerTable, is_watched
from minicaffe.ops.engine import keeps_order


class Unit:
    """Steps of a training net of which the later ones are in place on the top of the first."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps

    def forward(self) -> bool:
        """Run all steps as one, if it can be done now; return whether it was."""
        raise NotImplementedError

    def backward(self) -> bool:
        """Run all steps backward as one, if ``forward`` was the last to run them; return whether it was done.

        Each needs the gradient of its bottom.
        """
        raise NotImplementedError

    def run(self, count: int) -> int:
        """Run all steps forward as one, if these are ``count`` and nobody could see it; return how many ran."""
        can_run = count == len(self.steps) and not self._are_watched("forward") and not keeps_order()
        return count if can_run and self.forward() else 0

    def run_backward(self) -> int:
        """Run all steps backward as one, if nobody could see it; return how many ran."""
        needed = all(step.has_run and step.needs[0] for step in self.steps)
        return len(self.steps) if needed and not self._are_watched("backward") and self.backward() else 0

    def _are_watched(self, method: str) -> bool:
        return any(is_watched(step.layer, method) for step in self.steps)


makers: LayerTable[Callable[[Sequence[Step]], Unit | None]] = LayerTable()


def find_unit(steps: Sequence[Step], first: int) -> Unit | None:
    """The unit that begins with this step, if one does."""
    make = makers.get(steps[first].layer.type)
    if make is None:
        return None
    end = first + 1
    while end < len(steps) and is_in_place_on(steps[end], steps[first]):
        end += 1
    unit = make(steps[first:end])
    has_loss = unit is not None and any(any(step.layer.spec.loss_weight) for step in unit.steps)
    return None if has_loss else unit


def is_in_place_on(step: Step, first: Step) -> bool:
    """Whether a step does no more than change a top of another one."""
    return (
        len(step.bottom) == len(step.top) == 1 and step.bottom[0] is step.top[0] and step.top[0] in first.top
    )
