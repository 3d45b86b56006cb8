"""Rounding as C's ``round`` does it."""

from __future__ import annotations

import numpy as np


def round_half_away(values: np.ndarray) -> np.ndarray:
    """The nearest whole numbers (int64), halves away from 0 (NumPy's go to the even one)."""
    values = values.astype(np.float64)
    return np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int64)
