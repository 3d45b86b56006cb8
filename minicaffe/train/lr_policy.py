"""Learning rate policies: the rate at an iteration (Caffe's ``GetLearningRate``).

fixed       base_lr
step        base_lr · gamma ^ floor(iter / stepsize)
exp         base_lr · gamma ^ iter
inv         base_lr · (1 + gamma · iter) ^ −power
multistep   base_lr · gamma ^ (number of stepvalues reached), one at an iteration at the most
poly        base_lr · (1 − iter / max_iter) ^ power
sigmoid     base_lr / (1 + exp(−gamma · (iter − stepsize)))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minicaffe.spec.solver import SolverSpec


def steps_passed(stepvalues: Sequence[int], iteration: int) -> int:
    """How many stepvalues count at an iteration: in the order that they are given, each after the one before it.

    Of [3, 1] the second counts from iteration 4 on: Caffe looks at the next one alone, once in an iteration.
    """
    reached, passed = -1, 0
    for value in stepvalues:
        reached = max(value, reached + 1)
        passed += reached <= iteration
    return passed


POLICIES: dict[str, Callable[[SolverSpec, int], float]] = {
    "fixed": lambda s, it: 1.0,
    "step": lambda s, it: s.gamma ** (it // s.stepsize),
    "exp": lambda s, it: s.gamma**it,
    "inv": lambda s, it: (1 + s.gamma * it) ** -s.power,
    "multistep": lambda s, it: s.gamma ** steps_passed(s.stepvalue, it),
    "poly": lambda s, it: max(0.0, 1 - it / s.max_iter) ** s.power,
    "sigmoid": lambda s, it: 1 / (1 + math.exp(min(700.0, -s.gamma * (it - s.stepsize)))),
}


def learning_rate(spec: SolverSpec, iteration: int) -> float:
    """The learning rate at an iteration, counted from 0; infinite where it is too large for a number."""
    try:
        return spec.base_lr * POLICIES[spec.lr_policy](spec, iteration)
    except (OverflowError, ZeroDivisionError):
        return math.inf
