"""SGD: stochastic gradient descent with momentum μ (Caffe's SGDSolver).

h ← μ·h + rate·g        w ← w − h
"""

from __future__ import annotations

from minicaffe.device.array import Array
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class SGD(UpdateRule):
    """Momentum SGD."""

    cuda = "h = momentum * h + rate * g; g = h;"

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        g *= rate
        h *= self.spec.momentum
        h += g
        g[...] = h

    def constants(self, iteration: int) -> dict[str, float]:
        return {"momentum": self.spec.momentum}
