"""Adam (Kingma and Ba 2015; Caffe's AdamSolver).

m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
w ← w − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + δ)        β₁: momentum, β₂: momentum2, t from 1
"""

from __future__ import annotations

import math

from minicaffe.device.array import Array, module_of
from minicaffe.train.solvers.rule import UpdateRule, register_rule


@register_rule
class Adam(UpdateRule):
    """Running first and second moments of the gradient, corrected for their start at zero."""

    histories = 2
    cuda = """
        h = momentum * h + rest * g;
        s = momentum2 * s + rest2 * g * g;
        g = rate * correction * h / (sqrt(s) + delta);"""

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        m, v = history
        beta1, beta2 = self.spec.momentum, self.spec.momentum2
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        module_of(g).divide(m, module_of(g).sqrt(v) + self.spec.delta, out=g)
        g *= rate * _correction(beta1, beta2, iteration + 1)

    def constants(self, iteration: int) -> dict[str, float]:
        beta1, beta2 = self.spec.momentum, self.spec.momentum2
        correction = _correction(beta1, beta2, iteration + 1)
        rests = {"rest": 1 - beta1, "rest2": 1 - beta2}  # made here: in float32, 1 − 0.999 is off by 1e-5
        return {
            "momentum": beta1,
            "momentum2": beta2,
            **rests,
            "delta": self.spec.delta,
            "correction": correction,
        }


def _correction(beta1: float, beta2: float, t: int) -> float:
    """What makes up for moments that started at zero."""
    return math.sqrt(1 - beta2**t) / (1 - beta1**t)
