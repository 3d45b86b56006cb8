"""What a layer needs so that it may write its top over its bottom."""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer
from minicaffe.device.array import Array


def room_for_input(layer: Layer, bottom: Blobs, top: Blobs) -> Array | None:
    """An array in which an in-place layer keeps its input until backward; None where the bottom still has it."""
    return layer.new_array(bottom[0].stored_shape) if top[0] is bottom[0] else None
