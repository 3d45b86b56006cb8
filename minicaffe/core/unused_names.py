"""Names that nobody has yet, for layers, blobs and nodes that are added to those of a net."""

from __future__ import annotations

from collections.abc import Iterable


class UnusedNames:
    """Gives names out once; ``taken`` are those that there are."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def like(self, name: str) -> str:
        """The name, made longer where it is taken; from now on it is."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name
