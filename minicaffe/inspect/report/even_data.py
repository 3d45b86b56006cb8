"""A net's data, for a look at some of it: images that lie evenly among all, so that every class is seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minicaffe.core.net import Net
from minicaffe.data.order import EvenOrder, Order
from minicaffe.layers.batch_source import BatchSourceLayer


@contextmanager
def even_data(net: Net, most: int) -> Iterator[np.ndarray | None]:
    """In this block the net's data begin anew, and are ``most`` images that lie evenly among all, or all if fewer.

    Gives the numbers of these images in the data, in the order in which they come; a last batch that they do
    not fill is filled from the first again. Gives None for data without a known size, which come as they come.
    The data layers go on afterwards where they were.
    """
    layers = [layer for layer in net.layers if isinstance(layer, BatchSourceLayer)]
    orders = {layer.name: layer.batches.order for layer in layers}
    known = [order for order in orders.values() if isinstance(order, Order)]
    if not layers or len(known) < len(layers) or len({(o.count, o.batch_size) for o in known}) > 1:
        yield None
        return
    before: dict[str, dict[str, Any]] = {layer.name: layer.state() for layer in layers}
    chosen = EvenOrder(known[0].count, min(most, known[0].count), known[0].batch_size)
    try:
        for layer in layers:
            _read_by(layer, chosen)
            layer.restore({**layer.state(), "next_batch": 0})
        yield chosen.numbers
    finally:
        for layer in layers:
            _read_by(layer, orders[layer.name])
            layer.restore(before[layer.name])


def _read_by(layer: BatchSourceLayer, order: Any) -> None:
    layer.prefetcher.close()  # its thread reads by the old order
    layer.batches.order = order  # type: ignore[misc]  # Batches promises to be read, but all of them keep an attribute
