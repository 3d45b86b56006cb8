"""Dropout by random masks: 16 random bits for each element, compared with a threshold.

One draw of a 64-bit generator serves four elements (CuPy's takes 32 bits for each). The probability becomes a
multiple of 2⁻¹⁶: ½ and ¼ are exact, 0.2 is off by 3 in a million.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import elementwise

LEVELS = 1 << 16
KERNELS = kernels_beside(__file__)


def drop(x: Array, bits: Array, threshold: int, scale: float, out: Array) -> None:
    """out = x · scale where the bits reach the threshold, else 0."""
    if not on_cpu(x):
        KERNELS["drop"](x.size, x, bits, out, threshold, scale)
        return

    def chunk(x: Array, bits: Array, y: Array) -> None:
        module_of(x).multiply(x, bits >= threshold, out=y)
        if scale != 1:
            y *= scale

    elementwise(chunk, x, bits, out)


def random_bits(rng: Any, shape: tuple[int, ...]) -> Array:
    """Uniform 16-bit numbers from a NumPy or a CuPy generator."""
    if not isinstance(rng, np.random.Generator):
        bits: Array = rng.integers(0, LEVELS, size=shape, dtype=np.uint16)
        return bits
    count = math.prod(shape)
    return rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count].reshape(shape)


def threshold_for(ratio: float) -> int:
    """The smallest 16-bit number that is kept, where a share ``ratio`` in [0, 1) is to be dropped."""
    return min(round(ratio * LEVELS), LEVELS - 1)


def scale_for(threshold: int) -> float:
    """1 / (the share that is kept), which preserves the mean."""
    return LEVELS / (LEVELS - threshold)
