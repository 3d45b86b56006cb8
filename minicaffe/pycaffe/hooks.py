"""A script's own functions around the layers of a net: ``before_forward`` and the like.

They are called with the layer's place among ``net.layers``, wherever the layer runs: in training too. Backward has
them for the layers that have a gradient to compute, not for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicaffe.core.layer import Layer

Hook = Callable[[int], None]


class Hooks:
    """What is called before and after one method, ``forward`` or ``backward``, of each layer."""

    def __init__(self, layers: Sequence[Layer], method: str) -> None:
        self.layers, self.method = layers, method
        self.before: list[Hook] = []
        self.after: list[Hook] = []

    def add(self, when: str, hook: Hook) -> None:
        """Call one more function ``before`` or ``after``, in the order in which they were added."""
        if not (self.before or self.after):
            for i, layer in enumerate(self.layers):
                setattr(layer, self.method, self._around(i, getattr(layer, self.method)))
        getattr(self, when).append(hook)

    def _around(self, i: int, run: Callable[..., None]) -> Callable[..., None]:
        def run_with_hooks(*args: Any) -> None:
            for hook in self.before:
                hook(i)
            run(*args)
            for hook in self.after:
                hook(i)

        return run_with_hooks
