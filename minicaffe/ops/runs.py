"""Copies between strided arrays that end in short runs: of images or, for one image, of pixels.

NumPy copies an array run by run, with a start for each: a run of eight numbers takes three times as long as if it
were one item. So it is told that a run is one.
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import Array, on_cpu

SHORT = 32  # numbers: longer runs are as fast as they are


def copy_runs(target: Array, source: Array) -> None:
    """``target[...] = source``; both have the same shape."""
    target, source = as_runs(target, source)
    target[...] = source


def as_runs(target: Array, source: Array) -> tuple[Array, Array]:
    """Views of both in which short runs are items."""
    if target.ndim > 1 and target.shape[-1] == 1:  # one image
        target, source = target[..., 0], source[..., 0]
    length = target.shape[-1] if target.ndim else 1
    if 1 < length <= SHORT and on_cpu(target) and _end_in_runs(target, source):
        run = np.dtype((np.void, length * target.itemsize))
        return target.view(run), source.view(run)
    return target, source


def _end_in_runs(*arrays: Array) -> bool:
    """Whether their last axes are contiguous, and hold the same type of number."""
    return all(a.strides[-1] == a.itemsize and a.dtype == arrays[0].dtype for a in arrays)
