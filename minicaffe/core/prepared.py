"""Prepared passes: the calls of NumPy that a layer or a chain makes in a forward pass, kept to be made again.

For one small image it takes as long to find out what to do as to do it: shapes are compared, views are made, work
is cut into parts. Nothing of that changes from pass to pass. So when a test net has run a layer twice on the same
arrays, the layer is asked for its ``Calls`` (``Layer.prepare``), and these are made from then on, as long as

- its blobs have the same arrays and shapes;
- nobody can have changed its parameters (``Blob.values``), the settings that a script may set, or its ``forward``;
- engine, number of workers and thread are the same: a thread has buffers of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer, is_watched
from minicaffe.device import workers
from minicaffe.device.workers import Calls
from minicaffe.ops.engine import engine_of_run


class Circumstances:
    """What the calls of some steps depend on, as it is now."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self._layers = [step.layer for step in steps]
        self.blobs = [*dict.fromkeys(blob for step in steps for blob in (*step.bottom, *step.top))]
        self._params = [blob for layer in self._layers for blob in layer.blobs]
        self._before = self._objects(), self._settings()

    @property
    def are_the_same(self) -> bool:
        """Whether nothing has changed."""
        objects, settings = self._before
        return settings == self._settings() and all(map(is_, objects, self._objects()))

    @property
    def are_constant(self) -> bool:
        """Whether a change of a parameter would be noticed."""
        return not any(blob.values.flags.writeable for blob in self._params)

    def _objects(self) -> list[object]:
        """What has to be the same object."""
        return [
            *[step.shapes for step in self.steps],  # another list after a reshape
            *[blob.memory("data").array for blob in self.blobs],
            *[blob.values for blob in self._params],
            *[vars(layer).get("forward", type(layer).forward) for layer in self._layers],
        ]

    def _settings(self) -> list[object]:
        """What has to be equal."""
        return [
            threading.get_ident(),
            workers.worker_count,
            engine_of_run(),
            *[blob.shape for blob in self.blobs],
            *[layer.map_settings for layer in self._layers],
        ]


class PreparedPass:
    """The calls of a net's layers and chains, by the index of the first layer."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._preparable = {i for i, step in enumerate(steps) if _can_prepare(step.layer)}
        self._latest: dict[int, tuple[Circumstances, Calls | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy prepares passes of its own."""
        return {**vars(self), "_latest": {}}

    def run(self, first: int, last: int) -> int:
        """Run the steps from ``first`` on, up to ``last`` at most, that are prepared as one; return how many."""
        circumstances, calls = self._latest.get(first, (None, None))
        if circumstances is None or calls is None:
            return 0
        count = len(circumstances.steps)
        if first + count - 1 > last or not circumstances.are_the_same:
            return 0
        workers.make(calls)
        return count

    def note(self, first: int, count: int, prepare: Callable[[], Calls | None]) -> None:
        """Take note that ``count`` steps have run as one. If they have under the same circumstances before, prepare
        them."""
        if first not in self._preparable:
            return
        circumstances, _ = self._latest.get(first, (None, None))
        if circumstances is None or len(circumstances.steps) != count or not circumstances.are_the_same:
            self._latest[first] = Circumstances(self._steps[first : first + count]), None
        elif circumstances.are_constant and not any(
            is_watched(step.layer, "forward") for step in circumstances.steps
        ):
            calls = prepare()
            self._latest[first] = circumstances, calls
            if calls is None:
                self._preparable.remove(first)

    def drop(self, step: Step) -> None:
        """Forget what reads or writes a step's blobs: it holds their arrays of before."""
        blobs = {*step.bottom, *step.top}
        self._latest = {
            first: (circumstances, calls)
            for first, (circumstances, calls) in self._latest.items()
            if blobs.isdisjoint(circumstances.blobs)
        }

    def clear(self) -> None:
        """Prepare anew from now on."""
        self._latest = {}


def _can_prepare(layer: Layer) -> bool:
    """Whether a layer's class defines ``prepare`` beside all that it is in place of."""
    makers = [
        next(cls for cls in type(layer).__mro__ if name in vars(cls))
        for name in ("prepare", "forward", "forward_then")
    ]
    return makers[0] is not Layer and all(issubclass(makers[0], maker) for maker in makers)
