"""The filters of a net's first convolution, which can be looked at as pictures: they see the image itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.core.net import Net
from minicaffe.device.array import to_host

MOST = 64  # filters


@dataclass(frozen=True, eq=False)
class Filters:
    """``values`` (M, C, kh, kw), C = 1, or 3 for red, green and blue. ``note`` says what is left out."""

    layer: str
    values: np.ndarray
    note: str


def first_filters(net: Net) -> Filters | None:
    """Those of the first convolution; None for a net without, or one of low rank that has factors instead."""
    layer = next((layer for layer in net.layers if layer.type == "Convolution"), None)
    if layer is None or not layer.blobs or len(layer.blobs[0].shape) != 4:
        return None
    all_values = to_host(layer.blobs[0].data)
    values, notes = all_values[:MOST], []
    if len(all_values) > MOST:
        notes.append(f"{MOST} of {len(all_values)} filters")
    if values.shape[1] not in (1, 3):
        notes.append(f"slice 0 of {values.shape[1]}")
        values = values[:, :1]
    elif values.shape[1] == 3:
        values = values[:, np.argsort(_channels(net))]
    return Filters(layer.name, np.asarray(values, np.float32), ", ".join(notes))


def _channels(net: Net) -> tuple[int, ...]:
    """What the channels of the net's images are, of red, green, blue: Caffe's are (2, 1, 0), if no one says it."""
    return (2, 1, 0) if net.preparation is None else net.preparation.channel_swap or (0, 1, 2)
