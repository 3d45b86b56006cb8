"""The lines of layers whose dL/dx is dL/dy at the same index, times a slope."""

from __future__ import annotations

import math

import numpy as np

from minicaffe.inspect.report.walk.line import Line, Spot, Term, lines, sum_of
from minicaffe.layers.scale import ScaleParam


def _slope(spot: Spot, slope: float, rule: str, note: str) -> Line:
    """dL/dx = slope · dL/dy at the same index."""
    return sum_of(spot.at, rule, [Term("", (slope, spot.above), True)], note)


@lines.of("ReLU")
def relu(spot: Spot) -> Line | None:
    """The gate: open where x > 0."""
    x = spot.x[0]
    slope, value = getattr(spot.layer, "slope", 0.0), float(x[spot.at])
    is_open = value > 0
    shut = int((x <= 0).sum())
    state = (
        f"x = {value:.4g} is above 0: the gate is open" if is_open else f"x = {value:.4g}: the gate is shut"
    )
    rest = "no gradient passes" if not slope else f"only {slope:g} of it passes"
    note = f"{state}. It is shut at {shut:,} of {x.size:,} numbers, where {rest}."
    rule = (
        "dL/dx = 1 · dL/dy if x > 0, else 0"
        if not slope
        else f"dL/dx = 1 · dL/dy if x > 0, else {slope:g} · dL/dy"
    )
    return _slope(spot, 1.0 if is_open else float(slope), rule, note)


@lines.of("PReLU")
def prelu(spot: Spot) -> Line:
    """A gate whose slope below 0 is learned."""
    a, value = spot.params[0].reshape(-1), float(spot.x[0][spot.at])
    slope = float(a[spot.at[0] if a.size > 1 else 0])
    state = (
        "is above 0: the gradient passes" if value > 0 else f"is not: a = {slope:.4g} of the gradient passes"
    )
    note = f"x = {value:.4g} {state}. Here a is learned, one for each map."
    return _slope(spot, 1.0 if value > 0 else slope, "dL/dx = 1 · dL/dy if x > 0, else a · dL/dy", note)


@lines.of("Sigmoid")
def sigmoid(spot: Spot) -> Line:
    """dL/dx = y · (1 − y) · dL/dy."""
    y = 1 / (1 + math.exp(-max(-700.0, float(spot.x[0][spot.at]))))
    slope = y * (1 - y)
    note = f"y = {y:.4g}, so y · (1 − y) = {slope:.4g}. It is never more than ¼: sigmoids make gradients smaller."
    return _slope(spot, slope, "dL/dx = y · (1 − y) · dL/dy", note)


@lines.of("TanH")
def tanh(spot: Spot) -> Line:
    """dL/dx = (1 − y²) · dL/dy."""
    y = math.tanh(float(spot.x[0][spot.at]))
    note = f"y = {y:.4g}, so 1 − y² = {1 - y * y:.4g}: 1 at x = 0, and near 0 where the tanh is flat."
    return _slope(spot, 1 - y * y, "dL/dx = (1 − y²) · dL/dy", note)


@lines.of("ELU")
def elu(spot: Spot) -> Line:
    """dL/dx = dL/dy above 0, α · exp(x) · dL/dy below."""
    x, alpha = float(spot.x[0][spot.at]), float(getattr(spot.layer, "alpha", 1.0))
    slope = 1.0 if x > 0 else alpha * math.exp(x)
    return _slope(
        spot, slope, f"dL/dx = 1 · dL/dy if x > 0, else {alpha:g} · exp(x) · dL/dy", f"x = {x:.4g}."
    )


@lines.of("Dropout")
def dropout(spot: Spot) -> Line | None:
    """In the test phase nothing is dropped."""
    scale = float(getattr(spot.layer, "test_scale", 1.0))
    if spot.layer.phase != "TEST":
        return None
    return _slope(spot, scale, f"dL/dx = {scale:g} · dL/dy", "In phase test nothing is dropped.")


@lines.of("BatchNorm")
def batch_norm(spot: Spot) -> Line | None:
    """With stored statistics: dL/dx = dL/dy / σ."""
    if not getattr(spot.layer, "uses_global_stats", False):  # NVIDIA's has no such setting
        return None
    _, variance, total = (param.reshape(-1).astype(np.float64) for param in spot.params)
    c = spot.at[0] if spot.x[0].ndim else 0
    eps = float(getattr(spot.layer, "param").eps)  # noqa: B009  # of BatchNorm alone
    v = variance[c] / total[0] if total[0] else 0.0
    note = f"The variance of map {c}, as training has stored it, is {v:.4g}; in phase test it is a constant."
    return _slope(spot, 1 / math.sqrt(v + eps), "dL/dx = 1 / √(variance + ε) · dL/dy", note)


@lines.of("Scale")
def scale(spot: Spot) -> Line | None:
    """dL/dx = s · dL/dy, with the learned s of the map."""
    param = spot.layer.spec.message(ScaleParam)
    if len(spot.x) != 1 or spot.params[0].ndim != 1 or param.axis not in (1, -spot.x[0].ndim):
        return None
    s = float(spot.params[0][spot.at[0]])
    return _slope(
        spot, s, "dL/dx = s · dL/dy", f"s is learned, one for each map; of map {spot.at[0]} it is {s:.4g}."
    )


@lines.of("Bias")
def bias(spot: Spot) -> Line | None:
    """dL/dx = dL/dy."""
    if len(spot.x) != 1:
        return None
    return _slope(spot, 1.0, "dL/dx = 1 · dL/dy", "What is added has no part in the derivative.")


@lines.of("Flatten", "Reshape")
def reshape(spot: Spot) -> Line | None:
    """The same number under another index."""
    if spot.x[0].size != spot.y[0].size:
        return None
    flat = int(np.ravel_multi_index(spot.at, spot.y[0].shape)) if spot.at else 0
    at = tuple(int(i) for i in np.unravel_index(flat, spot.x[0].shape))
    term = Term("", (1.0, spot.above), True)
    return sum_of(at, "dL/dx = 1 · dL/dy", [term], "The same number, with another index.")
