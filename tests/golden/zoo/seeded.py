"""What both sides of a comparison make from names alone: parameters, images, diffs; and what is kept of an array.

Read by record.py, with Caffe's Python, and by the tests. The numbers are NumPy's ``RandomState``, whose streams are
the same in all versions.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

Shape = Sequence[int]
PLACES = 8  # of an array, whose values are kept


def generator(name: str) -> np.random.RandomState:
    """Random numbers that depend on a name alone."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def normal(name: str, shape: Shape) -> np.ndarray:
    """Normal numbers of mean 0 and deviation 1, as float32."""
    return generator(name).standard_normal(tuple(shape)).astype(np.float32)


def parameters(name: str, kind: str, shapes: Sequence[Shape]) -> list[np.ndarray]:
    """The parameters of the layer ``name``: weights as He et al. start them, statistics near 0 and 1."""
    rng = generator(name)
    if kind == "BatchNorm":  # mean and variance times the number of batches that they are said to be of
        mean, variance = 0.1 * rng.standard_normal(shapes[0]), rng.uniform(0.5, 1.5, shapes[1])
        arrays = [2 * mean, 2 * variance, np.array([2.0])]
    elif kind == "Scale":
        arrays = [rng.uniform(0.5, 1, shapes[0]), 0.1 * rng.standard_normal(shapes[1])]
    else:
        weights = math.sqrt(2 / math.prod(shapes[0][1:])) * rng.standard_normal(shapes[0])
        arrays = [weights, *(0.1 * rng.standard_normal(shape) for shape in shapes[1:])]
    return [array.astype(np.float32) for array in arrays]


def digest(name: str, array: np.ndarray) -> np.ndarray:
    """What is kept of an array: values at seeded places, then max |x|, Σ x, Σ |x| and √Σ x²; float64."""
    flat = np.asarray(array, np.float64).reshape(-1)
    values = flat[generator(name).randint(0, flat.size, PLACES)]
    return np.array([*values, np.abs(flat).max(), flat.sum(), np.abs(flat).sum(), np.sqrt((flat**2).sum())])


def assert_digests_agree(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Values within ``tolerance`` of the largest, sums of the sum of sizes, norms of the norm."""
    largest, _, sizes, norm = expected[PLACES:]
    bounds = tolerance * np.array([*[largest] * PLACES, largest, sizes, sizes, norm])
    worst = np.max(np.abs(actual - expected) / np.maximum(bounds, 1e-30))
    assert worst <= 1, f"{what}: {worst * tolerance:.1e} off, {tolerance:.0e} allowed"
