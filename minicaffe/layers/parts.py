"""Parts of a blob along an axis: the bottoms of a Concat, the tops of a Slice.

In memory the channels come first, so parts along the channels are pieces of the whole. After a part was copied
once, it lies there (``Memory``) and needs no copy, unless

- a later layer works in place on the part or on the whole, which would change the other's numbers;
- it comes from a layer without bottoms, whose numbers a script or a thread may write;
- it is a part of another blob already, or a script has asked for its array.

A gradient lies there too, unless the layer that made the blob works in place: its backward overwrites the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from minicaffe.core.blob import Blob
from minicaffe.core.graph import computed_by, is_gradient_kept
from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls, channelwise


class Parts:
    """The parts ``names`` of the blob ``whole``; both are bottoms or tops of ``layer``."""

    def __init__(self, layer: Layer, names: Sequence[str], whole: str) -> None:
        layers = layer.setting.layers
        here = next(i for i, spec in enumerate(layers) if spec is layer.spec)
        computed = computed_by(here, layers)
        self._may_join = {
            "data": [whole in computed and name in computed for name in names],
            "diff": [
                is_gradient_kept(name if name in layer.spec.bottom else whole, layers[:here])
                for name in names
            ],
        }

    def cut(self, whole: Blob, axis: int, sizes: Sequence[int]) -> None:
        """Let the parts have these sizes along an axis of the whole."""
        stored_axis = whole.stored_axis(axis)
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.indices = [
            (*[slice(None)] * stored_axis, slice(end - size, end))
            for end, size in zip(ends, sizes, strict=True)
        ]
        self._are_pieces = math.prod(whole.stored_shape[:stored_axis]) == 1
        step = math.prod(whole.stored_shape[stored_axis + 1 :])
        self._starts = [(end - size) * step for end, size in zip(ends, sizes, strict=True)]

    def joins(self, parts: Sequence[Blob], whole: Blob) -> list[tuple[Blob, Blob, int]]:
        """The parts whose data can lie in the whole's, with that and where they begin there."""
        found = zip(parts, self._starts, self._may_join["data"], strict=True)
        return [(part, whole, start) for part, start, may in found if may and self._are_pieces]

    def collect(self, what: str, i: int, part: Blob, whole: Blob) -> None:
        """Copy the "data" or "diff" of the i-th part into the whole."""
        if not part.is_part_of(what, whole, self._starts[i]):
            channelwise(whole.device.xp.copyto, _stored(what, whole)[self.indices[i]], _stored(what, part))
            self._join(what, i, part, whole)

    def collect_calls(self, i: int, part: Blob, whole: Blob) -> Calls:
        """The calls that ``collect`` makes of the data: none of a part that lies there."""
        if part.is_part_of("data", whole, self._starts[i]):
            return []
        return [partial(channelwise, whole.device.xp.copyto, whole.stored[self.indices[i]], part.stored)]

    def hand_out(self, what: str, i: int, part: Blob, whole: Blob) -> None:
        """Copy the "data" or "diff" of the whole into the i-th part."""
        if not part.is_part_of(what, whole, self._starts[i]):
            channelwise(whole.device.xp.copyto, _stored(what, part), _stored(what, whole)[self.indices[i]])
            self._join(what, i, part, whole)

    def _join(self, what: str, i: int, part: Blob, whole: Blob) -> None:
        if self._are_pieces and self._may_join[what][i]:
            part.join(what, whole, self._starts[i])


def _stored(what: str, blob: Blob) -> Array:
    return blob.stored if what == "data" else blob.stored_diff
