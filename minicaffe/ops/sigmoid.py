"""The logistic function and its integral, element by element, with all digits of the number type.

    σ(x) = 1 / (1 + exp(−x))          softplus(x) = log(1 + exp(x)) = ∫ σ

(tanh(x / 2) + 1) / 2 is σ too, but takes the difference of two numbers near 1 where x is far below 0: in float32
nothing is left of it from −18 on.
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import Array, module_of


def sigmoid(x: Array, out: Array) -> None:
    """out = σ(x); out may be x. If exp(−x) overflows, σ(x) is 0."""
    xp = module_of(x)
    xp.negative(x, out=out)
    with np.errstate(over="ignore"):
        xp.exp(out, out=out)
    out += 1
    xp.divide(1, out, out=out)


def softplus(x: Array, out: Array) -> None:
    """out = max(x, 0) + log(1 + exp(−|x|)), in which nothing overflows; ``out`` must not be x."""
    xp = module_of(x)
    xp.absolute(x, out=out)
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.log1p(out, out=out)
    out += xp.maximum(x, 0)
