"""Blocks: layers under one name, so that a net with many layers can be looked at as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minicaffe.inspect.report.record import RecordedLayer, Recording

MOST = 16  # parts of a bar that can be told apart
FEWEST = 4  # blocks that say more than the whole net does
BEGINNINGS = (  # of names: "res4b12" and then "res4" of "res4b12_branch2a"
    re.compile(r"\D*\d*[a-z]?\d*(?![a-z])"),
    re.compile(r"\D*\d*"),
)


def blocks_of(recording: Recording, kinds: Sequence[str]) -> list[str]:
    """The name of each layer's block; of a net with few layers that work, its own name.

    Names in a block begin alike; where they say nothing, its maps have one size. What only changes the output of
    one layer, as an activation does, belongs to that layer's block. ``kinds`` are those of the layers.
    """
    layers = recording.layers
    names = [each.name for each in layers]
    working = [i for i, kind in enumerate(kinds) if kind in ("conv", "ip")]
    if len(working) <= MOST:
        return names
    found = [_size(each, recording) for each in layers]
    for beginning in reversed(BEGINNINGS):  # the finer one, if it is not too fine
        begun = [match[0] if (match := beginning.match(name)) else name for name in names]
        if FEWEST <= len({begun[i] for i in working}) <= MOST:
            found = begun
    maker: dict[str, str] = {}
    for i, (each, kind) in enumerate(zip(layers, kinds, strict=True)):
        if kind == "other" and len(each.bottoms) == 1:
            found[i] = maker.get(each.bottoms[0], found[i])
        maker.update(dict.fromkeys(each.tops, found[i]))
    return found


def _size(layer: RecordedLayer, recording: Recording) -> str:
    """The size of a layer's maps as the name of a block: "maps 14 × 14"."""
    shape = recording.stages[layer.tops[0]].shape if layer.tops else ()
    return f"maps {shape[1]} × {shape[2]}" if len(shape) == 3 else "no maps"
