"""Rounding as C's ``round`` does it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def round_half_away(values: NDArray[Any]) -> NDArray[np.int64]:
    """The nearest whole numbers (int64), halves away from 0 (NumPy's go to the even one)."""
    values = values.astype(np.float64)
    rounded: NDArray[np.int64] = np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int64)
    return rounded
