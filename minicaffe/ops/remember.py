"""Whether weights are those of the last time, so that what was made of them then can be used again."""

from __future__ import annotations

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu

PART_BYTES = 1 << 20


def remembered(w: Array, before: Array | None = None) -> Array:
    """What ``is_same`` compares with later: a read-only array itself (``Blob.values``), else a copy.

    The copy is written over what was remembered ``before``, where that is possible.
    """
    if _is_constant(w) or before is None or _is_constant(before) or before.shape != w.shape:
        return w if _is_constant(w) else w.copy()
    before[...] = w
    return before


def is_same(w: Array, before: Array) -> bool:
    """Whether w has the numbers of what was ``remembered``. Waits for the device if it is a GPU."""
    if _is_constant(before) or _is_constant(w):
        return w is before  # before is of the same memory, which has changed if w is another array
    if w.shape != before.shape or not on_cpu(w):
        return w.shape == before.shape and bool(module_of(w).array_equal(w, before))
    a, b = w.reshape(-1), before.reshape(-1)
    if not np.array_equal(a[:1], b[:1]):  # usually all numbers change, or none
        return False
    results: list[bool] = []
    workers.share(
        lambda own, worker: results.append(np.array_equal(a[own], b[own])),
        workers.cut(len(a), max(1, a.nbytes // PART_BYTES)),
        workers.worker_count,
    )
    return all(results)


def constant(w: Array) -> Array:
    """w, into which nobody will write any more: ``is_same`` knows it then without a look at its numbers."""
    if on_cpu(w):
        w.flags.writeable = False
    return w


def is_same_object(w: Array, before: Array) -> bool:
    """Whether w is the read-only array that it was: so it has the same numbers."""
    return w is before and _is_constant(w)


def _is_constant(w: Array) -> bool:
    return on_cpu(w) and not w.flags.writeable
