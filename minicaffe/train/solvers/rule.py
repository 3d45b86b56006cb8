"""What an update rule is, and the registry of rules."""

from __future__ import annotations

from typing import ClassVar

from minicaffe.device.array import Array
from minicaffe.spec.solver import SolverSpec


class UpdateRule:
    """Turns a gradient into an update (Caffe's ``ComputeUpdateValue``).

    ``update`` overwrites ``g``, the regularized gradient, with what is to be subtracted from the parameter;
    ``history`` holds ``histories`` arrays of the parameter's shape that start as zeros. All of it is
    elementwise: it is called on chunks of a parameter, on several workers.

    ``cuda`` says the same in CUDA for one element, with the names g, h (and s, for two histories), rate and
    those of ``constants``: it is one kernel with the rest of the step. A rule without it is a few launches on a
    GPU.
    """

    histories: ClassVar[int] = 1
    cuda: ClassVar[str] = ""

    def __init__(self, spec: SolverSpec) -> None:
        self.spec = spec

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        """Overwrite ``g`` with the update at learning rate ``rate``; iterations count from 0."""
        raise NotImplementedError

    def constants(self, iteration: int) -> dict[str, float]:
        """The numbers that ``cuda`` names."""
        return {}


update_rules: dict[str, type[UpdateRule]] = {}


def register_rule(cls: type[UpdateRule]) -> type[UpdateRule]:
    """Make an update rule usable as ``type`` in solver specs, under its class name."""
    update_rules[cls.__name__] = cls
    return cls
