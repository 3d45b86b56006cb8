"""Learning rate policies: the rate at an iteration (Caffe's ``GetLearningRate``).

The rate is base_lr times what the policy that the spec names returns, or, with a ``rate_policy``, what it returns.
A policy is a function of the iteration, counted from 0, and of the fields of the solver spec that it needs, by
their names. A new one is a function more.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

from minicaffe.spec.solver import SolverSpec, declare_lr_policy

policies: dict[str, Callable[[SolverSpec, int], float]] = {}


def lr_policy(policy: Callable[..., float]) -> Callable[..., float]:
    """Make a function usable as ``lr_policy`` in solver specs, under its name. It returns a factor of base_lr."""
    rate = _of_spec(policy)
    policies[policy.__name__] = lambda spec, iteration: spec.base_lr * rate(spec, iteration)
    return policy


def rate_policy(policy: Callable[..., float]) -> Callable[..., float]:
    """Make a function that returns the rate itself, whatever base_lr is, usable as ``lr_policy``."""
    policies[policy.__name__] = _of_spec(policy)
    return policy


def _of_spec(policy: Callable[..., float]) -> Callable[[SolverSpec, int], float]:
    """The policy as a function of a spec and an iteration; specs get to know it."""
    _, *fields = inspect.signature(policy).parameters
    declare_lr_policy(policy.__name__, fields)
    return lambda spec, iteration: policy(iteration, *[getattr(spec, field) for field in fields])


@lr_policy
def fixed(iteration: int) -> float:
    """1."""
    return 1.0


@lr_policy
def step(iteration: int, gamma: float, stepsize: int) -> float:
    """gamma ^ floor(iteration / stepsize)."""
    return float(gamma ** (iteration // stepsize))


@lr_policy
def exp(iteration: int, gamma: float) -> float:
    """gamma ^ iteration."""
    return float(gamma**iteration)


@lr_policy
def inv(iteration: int, gamma: float, power: float) -> float:
    """(1 + gamma · iteration) ^ −power."""
    return float((1 + gamma * iteration) ** -power)


@lr_policy
def multistep(iteration: int, gamma: float, stepvalue: Sequence[int]) -> float:
    """gamma ^ (number of stepvalues passed)."""
    return float(gamma ** steps_passed(stepvalue, iteration))


@lr_policy
def poly(iteration: int, power: float, max_iter: int) -> float:
    """(1 − iteration / max_iter) ^ power."""
    return float(max(0.0, 1 - iteration / max_iter) ** power)


@lr_policy
def sigmoid(iteration: int, gamma: float, stepsize: int) -> float:
    """1 / (1 + exp(−gamma · (iteration − stepsize)))."""
    return 1 / (1 + math.exp(min(700.0, -gamma * (iteration - stepsize))))


@rate_policy
def multifixed(iteration: int, stagelr: Sequence[float], stageiter: Sequence[int]) -> float:
    """The first stagelr whose stageiter is not yet passed; after all of them, the last.

    A stage includes its stageiter: with ``stageiter: 10`` the first has 11 iterations (eric612/MobileNet-YOLO).
    """
    last = len(stagelr) - 1
    return stagelr[next((k for k, end in enumerate(stageiter) if iteration <= end), last)]


@lr_policy
def plateau(iteration: int, gamma: float, plateau_winsize: Sequence[int]) -> float:
    """1, times gamma ^ (number of plateaus), which no iteration tells: the solver counts them and multiplies.

    It does so in ``train/plateaus.py``; here are the fields that the policy needs.
    """
    return 1.0


def steps_passed(stepvalues: Sequence[int], iteration: int) -> int:
    """How many stepvalues count at an iteration: in the order that they are given, each after the one before it.

    Of [3, 1] the second counts from iteration 4 on: Caffe looks at the next one alone, once in an iteration.
    """
    reached, passed = -1, 0
    for value in stepvalues:
        reached = max(value, reached + 1)
        passed += reached <= iteration
    return passed


def learning_rate(spec: SolverSpec, iteration: int) -> float:
    """The learning rate at an iteration, counted from 0; infinite where it is too large for a number."""
    try:
        return policies[spec.lr_policy](spec, iteration)
    except (OverflowError, ZeroDivisionError):
        return math.inf
