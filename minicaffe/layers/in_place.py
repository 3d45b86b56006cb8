"""What a layer needs so that it may write its top over its bottom."""

from __future__ import annotations

from minicaffe.core.layer import Blobs
from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import elementwise


class KeptInput:
    """A layer's input for its backward: the bottom has it, unless the layer is in place; then this has a copy.

    ``x`` is always the bottom's array as it is now, in any one shape.
    """

    def __init__(self, bottom: Blobs, top: Blobs) -> None:
        self._is_overwritten = top[0] is bottom[0]
        self._copy: Array | None = None

    def keep(self, x: Array) -> Array:
        """Before x is overwritten: return an array that still has the input afterwards."""
        room = self.room_for(x)
        if room is None:
            return x
        elementwise(module_of(x).copyto, room, x)
        return room

    def room_for(self, x: Array) -> Array | None:
        """Where forward has to copy x on its way, for layers that go through it by blocks; None: nowhere."""
        if self._is_overwritten and self._copy is None:
            self._copy = module_of(x).empty_like(x)
        return self._copy

    def original(self, x: Array) -> Array:
        """The input as forward saw it."""
        return x if self._copy is None else self._copy
