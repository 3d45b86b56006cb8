"""Indices as CuPy has them: arrays may be on the device, and places out of bounds wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.strict_cupy.memory import memory_of
from tests.strict_cupy.rules import count


def host_index(index: Any, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], bool]:
    """An index for the memory of an array of this shape, and whether it gives a view."""
    items = index if isinstance(index, tuple) else (index,)
    arrays = [item for item in items if hasattr(item, "_memory") or isinstance(item, (np.ndarray, list))]
    if not arrays:
        return items, True
    if any(not hasattr(item, "_memory") for item in arrays):
        count("copies_to_device")
    items = tuple(_on_host(item) for item in items)
    if any(_is_mask(item) for item in items):
        count("synchronizations")  # how many elements there are decides the result's shape
    return _wrapped(items, shape), False


def _on_host(item: Any) -> Any:
    if hasattr(item, "_memory"):
        return memory_of(item)
    return np.asarray(item) if isinstance(item, list) else item


def _wrapped(items: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    used, axis, wrapped = sum(map(_axes_of, items)), 0, []
    for item in items:
        if isinstance(item, np.ndarray) and item.dtype.kind in "iu":
            item = item.astype(np.int64) % max(shape[axis], 1)
        wrapped.append(item)
        axis += len(shape) - used if item is Ellipsis else _axes_of(item)
    return tuple(wrapped)


def _axes_of(item: Any) -> int:
    """How many axes an item of an index is for."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if _is_mask(item) else 1


def _is_mask(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype == bool
