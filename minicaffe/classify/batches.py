"""Running a net over more inputs than its batch holds: batch by batch, the last one filled up with zeros."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import ShapeError

Arrays = dict[str, np.ndarray]


def batches(arrays: Mapping[str, np.ndarray], size: int) -> Iterator[Arrays]:
    """Cut arrays, (n, …) each, into batches of ``size``. Raises ShapeError if their n differ."""
    if size < 1:
        raise ShapeError("the net's batch size is 0; reshape its inputs")
    for first in range(0, count_of(arrays), size):
        yield {name: _filled(array[first : first + size], size) for name, array in arrays.items()}


def count_of(arrays: Mapping[str, np.ndarray]) -> int:
    """The n of arrays (n, …), at least 1. Raises ShapeError if they have not all the same."""
    counts = sorted({len(array) for array in arrays.values()})
    if len(counts) != 1 or counts == [0]:
        raise ShapeError(
            f"inputs of {' and '.join(map(str, counts)) or 'no'} items; give some, as many of each"
        )
    return counts[0]


def _filled(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) == size:
        return array
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


def join(parts: list[Arrays], count: int) -> Arrays:
    """The outputs of batches, concatenated and cut to ``count``: what belongs to the filling is dropped."""
    return {name: np.concatenate([np.atleast_1d(p[name]) for p in parts])[:count] for name in parts[0]}


def forward_all(net: Net, inputs: Mapping[str, np.ndarray], names: Iterable[str]) -> Arrays:
    """The blobs ``names`` for inputs of any number n, each (n, …), as NumPy arrays (n, …)."""
    given = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
    count = count_of(given)
    size = net.blobs[next(iter(given))].shape[0]
    names = list(dict.fromkeys(names))
    outputs: list[Arrays] = []
    for batch in batches(given, size):
        with net.lock:
            found = net.forward(names, None, None, **batch)
        outputs.append({name: to_host(found[name]) for name in names})
    return join(outputs, count)
