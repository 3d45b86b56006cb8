"""AdaGrad (Duchi et al. 2011; Caffe's AdaGradSolver).

h ← h + g²        w ← w − rate · g / (√h + δ)
"""

from __future__ import annotations

from minicaffe.array import Array, module_of
from minicaffe.solvers.rule import UpdateRule, register_rule


@register_rule
class AdaGrad(UpdateRule):
    """Rates that fall with the sum of squared gradients of each weight."""

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        h += g * g
        g /= module_of(g).sqrt(h) + self.spec.delta
        g *= rate
