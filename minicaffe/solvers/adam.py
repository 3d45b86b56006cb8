"""Adam (Kingma and Ba 2015; Caffe's AdamSolver).

m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
w ← w − rate · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + δ)        β₁: momentum, β₂: momentum2, t from 1
"""

from __future__ import annotations

import math

from minicaffe.array import Array, module_of
from minicaffe.solvers.rule import UpdateRule, register_rule


@register_rule
class Adam(UpdateRule):
    """Running first and second moments of the gradient, corrected for their start at zero."""

    histories = 2

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        m, v = history
        beta1, beta2, t = self.spec.momentum, self.spec.momentum2, iteration + 1
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * (g * g)
        correction = math.sqrt(1 - beta2**t) / (1 - beta1**t)
        module_of(g).divide(m, module_of(g).sqrt(v) + self.spec.delta, out=g)
        g *= rate * correction
