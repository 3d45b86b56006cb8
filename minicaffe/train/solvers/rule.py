"""The base class of update rules, and their registry."""

from __future__ import annotations

from typing import ClassVar

from minicaffe.device.array import Array
from minicaffe.spec.solver import SolverSpec


class UpdateRule:
    """Turns a gradient into an update (Caffe's ``ComputeUpdateValue``).

    ``update`` overwrites the regularized gradient ``g`` with what is subtracted from the parameter; ``history``
    holds ``histories`` arrays of the parameter's shape, which start as zeros. A rule must be elementwise: it is
    called on chunks of a parameter, by several workers.

    ``cuda`` is the same rule in CUDA for one element, with the names g, h (and s, if there are two histories), rate
    and those of ``constants``. It becomes one kernel with the rest of the step; without it a step takes a few
    launches on a GPU.
    """

    histories: ClassVar[int] = 1
    cuda: ClassVar[str] = ""

    def __init__(self, spec: SolverSpec) -> None:
        self.spec = spec

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        """Overwrite ``g`` with the update at the learning rate ``rate``. Iterations count from 0."""
        raise NotImplementedError

    def constants(self, iteration: int) -> dict[str, float]:
        """The constants that ``cuda`` uses, by name."""
        return {}


update_rules: dict[str, type[UpdateRule]] = {}


def register_rule(cls: type[UpdateRule]) -> type[UpdateRule]:
    """Make an update rule usable as ``type`` in solver specs, under its class name."""
    update_rules[cls.__name__] = cls
    return cls
