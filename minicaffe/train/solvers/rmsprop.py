"""RMSProp (Tieleman and Hinton 2012; Caffe's RMSPropSolver).

h ← ρ·h + (1 − ρ)·g²        w ← w − rate · g / (√h + δ)        ρ: rms_decay
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class RMSProp(UpdateRule):
    """Rates divided by a running root mean square of the gradient."""

    cuda = "h = rms_decay * h + rest * g * g; g *= rate / (sqrt(h) + delta);"

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        (h,) = history
        h *= self.spec.rms_decay
        h += (1 - self.spec.rms_decay) * (g * g)
        g /= module_of(g).sqrt(h) + self.spec.delta
        g *= rate

    def constants(self, iteration: int) -> dict[str, float]:
        rms_decay = self.spec.rms_decay
        return {"rms_decay": rms_decay, "rest": 1 - rms_decay, "delta": self.spec.delta}
