"""Memory: the array behind a blob's data or gradient, which may be a part of another blob's array.

Blobs lie in memory with the channels first, so the first channels of a blob are the first piece of its memory. The
bottoms of a Concat can then lie side by side in the top, and the tops of a Slice in the bottom: nothing is copied.

A script must not see it. Whoever gets an array may keep it and write into it, which would change another blob's
values. So a memory that is shown is apart from all others from then on, and layers copy again.
"""

from __future__ import annotations

from typing import Any

from minicaffe.device.array import Array, on_cpu
from minicaffe.errors import MinicaffeError


class Memory:
    """An array (None: not allocated yet), which may be a part of another memory's.

    ``_place`` is the array of which it is a part, and where it begins there; ``_parts`` have joined this one, and
    may have left it since.
    """

    def __init__(self) -> None:
        self.array: Array | None = None
        self._place: tuple[Array, int] | None = None
        self._parts: list[Memory] = []
        self._is_shown = False
        self.is_gone = False  # its place has been given to others
        self._constant: Array | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy has an array of its own, and no parts."""
        return {**vars(self), "_place": None, "_parts": [], "_constant": None}

    def drop(self) -> None:
        """Forget the array. Parts keep theirs: nobody else uses those now."""
        for part in self._present_parts():
            part._place = None
        self.array, self._place, self._parts, self.is_gone, self._constant = None, None, [], False, None

    def lend(self, array: Array) -> None:
        """Use this array until ``take_away``."""
        self.array, self.is_gone, self._constant = array, False, None

    def take_away(self) -> None:
        """Have no array, and refuse to make one, until the next ``lend``."""
        self.array, self.is_gone, self._constant = None, True, None

    def check(self) -> None:
        """Raise MinicaffeError if the array was taken away."""
        if self.is_gone:
            raise MinicaffeError(
                "the data of this blob are gone, as the net shares memory; ask for it by name, "
                "net.forward(blobs=[…]), or make the net with share_memory=False"
            )

    def forget_constant(self) -> None:
        """To be called when the numbers have changed."""
        self._constant = None

    def constant(self) -> Array | None:
        """The array, to be read only: the same object as long as nobody can have changed a number.

        None where that is not known: once a script has seen the array, or on a GPU, where no array is read-only.
        """
        if self._is_shown or self.array is None or not on_cpu(self.array):
            return None
        constant = self._constant
        if constant is None:
            constant = self.array.view()
            constant.flags.writeable = False
            self._constant = constant
        return constant

    def join(self, whole: Memory, start: int) -> None:
        """Lie in another memory, ``start`` elements from its beginning, where the same numbers are already.

        Nothing happens if either has been shown, or if this one is a part already.
        """
        if self._place is None and not self._is_shown and not whole._is_shown:
            self._lie_in(whole, start)

    def is_part_of(self, whole: Memory, start: int) -> bool:
        """Whether this memory lies in another, ``start`` elements from its beginning."""
        return self._place is not None and self._place[0] is whole.array and self._place[1] == start

    def show(self) -> None:
        """Be apart from all others from now on. Called before a script gets the array."""
        self.check()
        if not self._is_shown:
            self._is_shown = True
            for part in self._present_parts():
                part._leave()
            self._leave()

    def _leave(self) -> None:
        if self._place is not None and self.array is not None:
            self._place = None
            self._move(self.array.copy())

    def _lie_in(self, whole: Memory, start: int) -> None:
        if self.array is not None and whole.array is not None:
            self._move(whole.array.reshape(-1)[start : start + self.array.size].reshape(self.array.shape))
            self._place = whole.array, start
            whole._parts = [*whole._present_parts(), self]

    def _move(self, array: Array) -> None:
        """Use another array, with the same numbers; the parts move along."""
        parts, self._parts = self._present_parts(), []
        self.array = array
        for part in parts:
            if part._place is not None:
                part._lie_in(self, part._place[1])

    def _present_parts(self) -> list[Memory]:
        """The parts that still lie in this memory."""
        return [part for part in self._parts if part._place is not None and part._place[0] is self.array]
