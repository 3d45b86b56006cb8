"""AdaGrad (Duchi et al. 2011; Caffe's AdaGradSolver).

h ← h + g²        w ← w − rate · g / (√h + δ)
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class AdaGrad(UpdateRule):
    """Rates that fall with the sum of squared gradients of each weight."""

    cuda = "h += g * g; g *= rate / (sqrt(h) + delta);"

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        h += g * g
        g /= module_of(g).sqrt(h) + self.spec.delta
        g *= rate

    def constants(self, iteration: int) -> dict[str, float]:
        return {"delta": self.spec.delta}
