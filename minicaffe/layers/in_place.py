"""What a layer needs in order to write its top over its bottom."""

from __future__ import annotations

from minicaffe.core.layer import Blobs
from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import elementwise


class SavedInput:
    """A layer's input, saved for backward: the bottom itself, or a copy if the layer works in place.

    ``x`` is always the bottom's array as it is now, in a shape of the caller's choice (the same in all calls).
    """

    def __init__(self, bottom: Blobs, top: Blobs) -> None:
        self._is_overwritten = top[0] is bottom[0]
        self._copy: Array | None = None
        self._taken: Array | None = None

    def save(self, x: Array) -> Array:
        """Call before x is overwritten. Returns an array that still has the input afterwards."""
        buffer = self.buffer_for(x)
        if buffer is None:
            return x
        elementwise(module_of(x).copyto, buffer, x)
        return buffer

    def take(self, kept: Array) -> None:
        """Call in place of ``save`` where the input is in another array, whose owner keeps it for backward."""
        self._taken = kept

    def has_taken(self, kept: Array) -> bool:
        """Whether it took this array, and has saved none since."""
        return self._taken is kept

    def buffer_for(self, x: Array) -> Array | None:
        """Where to copy x, for layers that copy it block by block in forward; None: no copy is needed."""
        self._taken = None
        if self._is_overwritten and self._copy is None:
            self._copy = module_of(x).empty_like(x)
        return self._copy

    def original(self, x: Array) -> Array:
        """The input as forward saw it."""
        kept = self._copy if self._taken is None else self._taken
        return x if kept is None else kept
