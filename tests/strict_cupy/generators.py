"""The double of ``cupy.random``: its generators have NumPy's numbers, and CuPy's limits."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.strict_cupy.arrays import launched, memories_of, ndarray
from tests.strict_cupy.names import checked_methods
from tests.strict_cupy.order import here


class BitGenerator:
    """A source of random bits."""

    def __init__(self, seed=None, *, size=-1):
        self._bits = np.random.Philox(seed)
        self._device = here.device


@checked_methods("random.Philox4x3210")
class Philox4x3210(BitGenerator):
    """The one that the package uses."""


@checked_methods("random.XORWOW")
class XORWOW(BitGenerator):
    """The one of ``default_rng``."""


@checked_methods("random.MRG32k3a")
class MRG32k3a(BitGenerator):
    """A third one."""


@checked_methods("random.Generator")
class Generator:
    """Random numbers on the device. Its state cannot be read."""

    def __init__(self, bit_generator):
        self.bit_generator = bit_generator
        self._of_numpy = np.random.Generator(bit_generator._bits)

    @property
    def _numbers(self) -> np.random.Generator:
        if self.bit_generator._device != here.device:
            raise RuntimeError("This Generator state is allocated in a different device")
        return self._of_numpy

    def random(self, size=None, dtype=np.float64, out=None):
        drawn = np.float64 if np.dtype(dtype).char == "d" else np.float32
        return self._given(launched(self._numbers.random(size, drawn)).astype(dtype, copy=False), size, out)

    def uniform(self, low=0.0, high=1.0, size=None, dtype=np.float64):
        low, high = memories_of(low), memories_of(high)
        return launched(self._numbers.uniform(low, high, size)).astype(dtype, copy=False)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        return launched(self._numbers.integers(low, high, size, dtype, endpoint))

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        if np.dtype(dtype).char not in "fd":
            raise TypeError(f"Unsupported dtype {np.dtype(dtype).name} for standard_normal")
        return self._given(launched(self._numbers.standard_normal(size, dtype)), size, out)

    def standard_exponential(self, size=None, dtype=np.float64, method="inv", out=None):
        if method == "zig":
            raise NotImplementedError("Ziggurat method is not supported")
        return self._given(launched(self._numbers.standard_exponential(size, dtype)), size, out)

    def _given(self, values: ndarray, size: Any, out: ndarray | None) -> ndarray:
        if out is None:
            return values
        if not isinstance(out, ndarray) or out.dtype != values.dtype:
            raise TypeError("Supplied output array has the wrong type.")
        if (size is not None and out.shape != values.shape) or not out.flags.c_contiguous:
            raise ValueError("size must match out.shape when used together")
        out[...] = values
        return out


def default_rng(seed=None):
    """A generator of numbers."""
    return Generator(seed if isinstance(seed, BitGenerator) else XORWOW(seed))
