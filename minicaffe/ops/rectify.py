"""Rectified linear units: y = max(x, 0) + s · min(x, 0), and dx = dy where x > 0, s · dy elsewhere.

NumPy compares arrays several times faster with an array than with a number, so bounds are arrays here.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.workers import Calls, scratch

PIECE = 1 << 17  # elements that are compared at a time


def relu(x: Array, slope: float | Array, out: Array) -> None:
    """out = max(x, 0) + slope · min(x, 0); out may be x."""
    if np.isscalar(slope) and slope == 0:
        bounded(x, 0, None, out)
        return
    negative = scratch(x, x.shape)
    bounded(x, None, 0, negative)
    negative *= slope
    bounded(x, 0, None, out)
    out += negative


def relu_grad(x: Array, dy: Array, slope: float | Array, out: Array) -> None:
    """out = dy where x > 0, slope · dy elsewhere; out may be dy."""
    xp = module_of(x)
    positive = scratch(x, x.shape, slot=1, dtype=bool)
    xp.greater(x, 0, out=positive)
    if np.isscalar(slope) and slope == 0:
        xp.multiply(dy, positive, out=out)
        return
    passed = scratch(x, x.shape)
    xp.multiply(dy, positive, out=passed)
    xp.subtract(dy, passed, out=out)
    out *= slope
    out += passed


def bounded(x: Array, low: float | None, high: float | None, out: Array) -> None:
    """out = max(x, low), min(x, high) or both; out may be x."""
    workers.make(calls_of_bounded(x, low, high, out))


def calls_of_bounded(x: Array, low: float | None, high: float | None, out: Array) -> Calls:
    """The calls that ``bounded`` makes."""
    xp, calls = module_of(x), Calls()
    for compare, bound in ((xp.maximum, low), (xp.minimum, high)):
        if bound is None:
            continue
        if not on_cpu(x) or not x.ndim:
            calls.append(partial(compare, x, bound, out=out))
        elif x.flags.c_contiguous and out.flags.c_contiguous:
            source, target = x.reshape(-1), out.reshape(-1)
            bounds = workers.filled(x, min(x.size, PIECE), bound)
            for start in range(0, x.size, PIECE):
                own = slice(start, start + PIECE)
                calls.append(partial(compare, source[own], bounds[: x.size - start], out=target[own]))
        else:
            calls.append(partial(compare, x, workers.filled(x, x.shape[-1], bound), out=out))
        x = out
    return calls
