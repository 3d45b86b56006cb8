"""Shared memory: in a forward pass, blobs that are not needed at the same time lie in the same place.

A blob is needed from the first step that has it as a bottom or top to the last one. So in a chain of layers two
blobs at a time are needed, however long it is:

    step        0   1   2   3   4
    conv1       ━━━━━━━
    pool1           ━━━━━━━              conv1 and conv2 can have one place, and so can pool1 and pool2
    conv2               ━━━━━━━
    pool2                   ━━━━━

The plan is greedy, by size: the largest blob first, each gets the lowest place in one large array (the arena) where
it meets no blob that is needed at the same time. This comes within a few percent of the least that any plan needs.

Pisarchyk & Lee 2020, Efficient Memory Management for Deep Neural Net Inference (arXiv 2001.03288), "greedy by size
for offset calculation".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.graph import Step
from minicaffe.core.layer import NetSetting
from minicaffe.core.memory import Memory
from minicaffe.device.array import Array

ALIGNMENT = 64  # bytes: a line of the cache


@dataclass
class Need:
    """``size`` bytes are needed from step ``first`` to step ``last``; ``place`` is where they are, in bytes."""

    size: int
    first: int
    last: int
    place: int = 0

    def meets(self, other: Need) -> bool:
        """Whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


def find_places(needs: Sequence[Need]) -> int:
    """Give each need a place where it does not lie on one that it meets; return how many bytes they take."""
    placed: list[Need] = []
    for need in sorted(needs, key=lambda need: -need.size):
        need.place = 0
        for other in sorted(filter(need.meets, placed), key=lambda other: other.place):
            if need.place + need.size <= other.place:
                break
            need.place = max(need.place, other.place + other.size)
        placed.append(need)
    return max((need.place + need.size for need in needs), default=0)


class SharedMemory:
    """The memory of a net's blobs, shared in each forward pass. After it only the blobs ``kept`` have data.

    Kept are also the tops of layers without bottoms, and the bottoms and tops of layers of the script's own, which
    may hold on to the arrays.
    """

    def __init__(
        self, setting: NetSetting, steps: Sequence[Step], blobs: Mapping[str, Blob], kept: Iterable[str]
    ) -> None:
        self.setting, self.steps, self.blobs = setting, steps, blobs
        self.kept = {blobs[name] for name in kept}
        for step in steps:
            if step.layer.spec.is_own or step.layer.type == "Python":
                self.kept.update(step.bottom, step.top)
            elif not step.bottom:
                self.kept.update(step.top)
        self.nbytes = 0  # of the arena
        self._planned_for: list[tuple[int, ...]] = []  # the shapes of all blobs
        self._arrays: list[tuple[Memory, Array]] = []
        for blob in self._needs(self._joined()):
            blob.memory("data").take_away()

    def __getstate__(self) -> dict[str, Any]:
        """A copy makes a plan, and an arena, of its own."""
        return {**vars(self), "_planned_for": [], "_arrays": []}

    def keep(self, names: Iterable[str]) -> None:
        """Let these blobs have memory of their own from now on."""
        new = {self.blobs[name] for name in names} - self.kept
        for blob in new:
            blob.memory("data").drop()
            self._planned_for = []
        self.kept |= new

    @property
    def fits(self) -> bool:
        """Whether the plan is for the shapes that the blobs have."""
        return self._planned_for == self._shapes()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a pass runs, in which the blobs have the shapes that they have now."""
        if not self.fits:
            self._plan()
        for memory, array in self._arrays:
            memory.lend(array)
        try:
            yield
        finally:
            for memory, array in self._arrays:
                if memory.array is array:  # not if the blob has changed its size in the pass
                    memory.take_away()

    def _shapes(self) -> list[tuple[int, ...]]:
        return [blob.shape for blob in self.blobs.values()]

    def _plan(self) -> None:
        for memory, _ in self._arrays:
            memory.drop()
        self._arrays = []
        for blob in self.kept:
            blob.keep_apart("data")
        joined = self._joined()
        needs = self._needs(joined)
        self.nbytes = find_places(list(needs.values()))
        empty, dtype = self.setting.device.xp.empty, self.setting.dtype
        arena = empty(self.nbytes // dtype.itemsize, dtype)
        for blob, need in needs.items():
            start = need.place // dtype.itemsize
            blob.memory("data").lend(arena[start : start + blob.count].reshape(blob.stored_shape))
        for part in joined:
            part.memory("data").lend(empty(part.stored_shape, dtype))
        for part, (whole, start) in joined.items():
            part.join("data", whole, start)
        memories = [blob.memory("data") for blob in (*needs, *joined)]
        self._arrays = [(memory, memory.array) for memory in memories if memory.array is not None]
        self._planned_for = self._shapes()

    def _joined(self) -> dict[Blob, tuple[Blob, int]]:
        """The blobs that can lie in another, which one, and where they begin there."""
        apart = {blob.data_owner for blob in self.kept}
        joined: dict[Blob, tuple[Blob, int]] = {}
        for step in self.steps:
            for part, whole, start in step.layer.joins(step.bottom, step.top):
                part, whole = part.data_owner, whole.data_owner
                if not {part, whole} & apart:
                    joined.setdefault(part, (whole, start))
        return joined

    def _needs(self, joined: Mapping[Blob, tuple[Blob, int]]) -> dict[Blob, Need]:
        """The blobs that own memory that can be shared, and when they are needed, as the parts of them are."""
        apart = {blob.data_owner for blob in self.kept}
        needs: dict[Blob, Need] = {}
        for i, step in enumerate(self.steps):
            for blob in (*step.bottom, *step.top):
                owner = blob.data_owner
                while owner in joined:
                    owner, _ = joined[owner]
                if owner not in apart:
                    size = -(-owner.count * owner.dtype.itemsize // ALIGNMENT) * ALIGNMENT
                    needs.setdefault(owner, Need(size, i, i)).last = i
        return needs
