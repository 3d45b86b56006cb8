"""SGD: stochastic gradient descent with momentum μ (Caffe's SGDSolver).

h ← μ·h + rate·g        w ← w − h
"""

from __future__ import annotations

from minicaffe.array import Array
from minicaffe.solvers.rule import UpdateRule, register_rule


@register_rule
class SGD(UpdateRule):
    """Momentum SGD."""

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        g *= rate
        h *= self.spec.momentum
        h += g
        g[...] = h
