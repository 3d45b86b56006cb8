"""Rounding as C's ``round`` does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicaffe.device.array import module_of


def round_half_away(values: NDArray[Any]) -> NDArray[np.int64]:
    """The nearest whole numbers (int64), halves away from 0 (NumPy's go to the even one)."""
    xp, values = module_of(values), values.astype(np.float64)
    rounded: NDArray[np.int64] = (xp.sign(values) * xp.floor(xp.absolute(values) + 0.5)).astype(np.int64)
    return rounded
