"""Nesterov: SGD with Nesterov's accelerated gradient (Sutskever et al. 2013; Caffe's NesterovSolver).

h' ← μ·h + rate·g        w ← w − ((1 + μ)·h' − μ·h)
"""

from __future__ import annotations

from minicaffe.device.array import Array
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class Nesterov(UpdateRule):
    """SGD that looks ahead along its momentum."""

    cuda = "T before = momentum * h; h = before + rate * g; g = (1 + momentum) * h - before;"

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        momentum = self.spec.momentum
        before = momentum * h
        g *= rate
        h[...] = before + g
        g[...] = (1 + momentum) * h - before

    def constants(self, iteration: int) -> dict[str, float]:
        return {"momentum": self.spec.momentum}
