"""What an update rule is, and the registry of rules."""

from __future__ import annotations

from typing import ClassVar

from minicaffe.array import Array
from minicaffe.spec.solver import SolverSpec


class UpdateRule:
    """Turns a gradient into an update (Caffe's ``ComputeUpdateValue``).

    ``update`` overwrites ``g``, the regularized gradient, with what is to be subtracted from the parameter;
    ``history`` holds ``histories`` arrays of the parameter's shape that start as zeros. All of it is
    elementwise: it is called on chunks of a parameter, on several workers.
    """

    histories: ClassVar[int] = 1

    def __init__(self, spec: SolverSpec) -> None:
        self.spec = spec

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        """Overwrite ``g`` with the update at learning rate ``rate``; iterations count from 0."""
        raise NotImplementedError


update_rules: dict[str, type[UpdateRule]] = {}


def register_rule(cls: type[UpdateRule]) -> type[UpdateRule]:
    """Make an update rule usable as ``type`` in solver specs, under its class name."""
    update_rules[cls.__name__] = cls
    return cls
