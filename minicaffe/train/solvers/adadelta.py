"""AdaDelta (Zeiler 2012; Caffe's AdaDeltaSolver).

h ← μ·h + (1 − μ)·g²
u = g · √((δ + s) / (δ + h))        s ← μ·s + (1 − μ)·u²
w ← w − rate · u
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class AdaDelta(UpdateRule):
    """Steps of the size of recent steps, whatever the gradient's unit."""

    histories = 2
    cuda = """
        h = momentum * h + rest * g * g;
        g *= sqrt((delta + s) / (delta + h));
        s = momentum * s + rest * g * g;
        g *= rate;"""

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        h, s = history
        momentum, delta = self.spec.momentum, self.spec.delta
        h *= momentum
        h += (1 - momentum) * (g * g)
        g *= module_of(g).sqrt((delta + s) / (delta + h))
        s *= momentum
        s += (1 - momentum) * (g * g)
        g *= rate

    def constants(self, iteration: int) -> dict[str, float]:
        momentum = self.spec.momentum
        return {"momentum": momentum, "rest": 1 - momentum, "delta": self.spec.delta}
