"""Folding: blocks that a large net repeats are drawn once, as a stack with their number.

Two blocks are equal if their layers have the same types, windows, connections and marks, such as that they are not
trained, and maps of the same size; names and numbers of channels may differ. A block that has branches ends where
they join.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minicaffe.inspect.drawing.boxes import Box
from minicaffe.inspect.drawing.parts import Empty, Fold, Mesh, Parallel, Part, Series, boxes_in
from minicaffe.inspect.drawing.words import count

MANY = 40  # boxes, above which a drawing is folded
LEAST = 3  # equal blocks in a row
LEAST_HIDDEN = 4  # boxes that a stack saves
LONGEST = 6  # parts of a series that a block may have
STRIDE = re.compile(r"\d/\d")
COUNTS = re.compile(r"→ \d+")


def folded(part: Part) -> Part:
    """The part with its repeated blocks as Folds, if it has many boxes."""
    return _fold(part) if sum(1 for _ in boxes_in(part)) > MANY else part


def _fold(part: Part) -> Part:
    if isinstance(part, Series):
        return _fold_series(part)
    if isinstance(part, Parallel):
        return Parallel([_fold(branch) for branch in part.branches])
    if isinstance(part, Mesh):
        return Mesh([_fold(item) for item in part.items])
    return part


def _fold_series(series: Series) -> Series:
    items, signs = series.items, [_signature(item) for item in series.items]
    result: list[Part] = []
    place = 0
    while place < len(items):
        length, count = _longest_run(items, signs, place)
        if count:
            units = [items[place + k * length : place + (k + 1) * length] for k in range(count)]
            result.append(_stack(units))
            place += length * count
        else:
            result.append(_fold(items[place]))
            place += 1
    return Series(result)


def _longest_run(items: Sequence[Part], signs: Sequence[object], start: int) -> tuple[int, int]:
    """The length of the block that begins at ``start`` and how often it follows itself; (0, 0) if it is no run.

    A block ends in a box: where its branches, if it has any, have joined.
    """
    best = (0, 0)
    for length in range(1, LONGEST + 1):
        count = 1
        unit = signs[start : start + length]
        while signs[start + count * length : start + (count + 1) * length] == unit:
            count += 1
        block = items[start : start + length]
        hidden = (count - 1) * sum(1 for part in block for _ in boxes_in(part))
        is_enough = count >= LEAST and hidden >= LEAST_HIDDEN and isinstance(block[-1], Box)
        if is_enough and length * count > best[0] * best[1]:
            best = (length, count)
    return best


def _stack(units: Sequence[Sequence[Part]]) -> Fold:
    columns = [[box for part in unit for box in boxes_in(part)] for unit in units]
    return Fold(Series(list(units[0])), len(units), [list(same) for same in zip(*columns, strict=True)])


def _signature(part: Part) -> object:
    """What has to be equal for two parts to look alike."""
    if isinstance(part, Box):
        lines = COUNTS.sub("→", " ".join(part.lines).replace(" · ", " "))  # where they break does not matter
        marks = (part.badge, part.is_double, part.is_fixed, bool(part.letters), part.time)
        return (part.type, lines, _sizes(part), part.waist is not None, len(part.tops), len(part.tags), marks)
    if isinstance(part, Series):
        return ("series", *(_signature(item) for item in part.items))
    if isinstance(part, Parallel):
        return ("parallel", *(_signature(branch) for branch in part.branches))
    if isinstance(part, Mesh):
        return ("mesh", *(box.name for box in boxes_in(part)))  # two meshes may be connected otherwise
    return "empty" if isinstance(part, Empty) else id(part)


def _sizes(box: Box) -> tuple[str, ...]:
    """The shapes of a box's outputs without their channels: blocks that halve their maps are not equal."""
    if not box.shape and any(STRIDE.search(line) for line in box.lines):
        return (box.name,)
    return tuple(shape.partition("×")[2] for shape in box.shape.split(" · "))


def common_name(boxes: Sequence[Box]) -> str:
    """What the names of a block's boxes begin with, "res4b1" of "res4b1_branch2a", …; else the name of the last."""
    if len(boxes) == 1:
        return boxes[0].name
    first, last = min(box.name for box in boxes), max(box.name for box in boxes)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    ends = [found.start() for found in re.finditer(r"[/_.\-]", first) if found.start() <= same]
    if same == len(first) and len(first) < len(last):
        ends.append(same)
    name = first[: max(ends, default=0)]
    return name if re.search(r"\d", name) else boxes[-1].name


@dataclass(frozen=True)
class FoldWords:
    """What a stack says of its blocks: ``number`` "× 35", ``names`` "res4b1 … 35", and ``channels`` if they vary.

    ``last`` is the name of the last block alone, "… res4b35", for where there is no room for both.
    """

    number: str
    names: str
    last: str
    channels: str

    def on_one_line(self) -> list[str]:
        """The whole on one line, and shorter: names go first, and numbers never."""
        names = (self.names, self.last, "")
        return [" · ".join(filter(None, (self.number, name, self.channels))) for name in names]


def fold_words(fold: Fold) -> FoldWords:
    """What a stack says of its blocks."""
    units = [list(unit) for unit in zip(*fold.hidden, strict=True)]
    first, last = common_name(units[0]), common_name(units[-1])
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        len(first) if len(first) < len(last) else 0,
    )
    while same and last[same - 1].isdigit() and last[same].isdigit():
        same -= 1  # numbers stay whole
    before, after = (unit[-1].shape.split("×")[0] for unit in (units[0], units[-1]))
    channels = f"{before} → {after} channels" if before != after else ""
    return FoldWords(f"× {fold.count}", f"{first} … {last[same:]}", f"… {last}", channels)


def shape_after(fold: Fold) -> str:
    """The last block's output where it is another than that of the block that is drawn, else ""."""
    first, *_, last = fold.hidden[-1]
    return last.shape if last.shape != first.shape else ""


def fold_sentence(fold: Fold) -> str:
    """The stack in words, for those who hear it."""
    units = [list(unit) for unit in zip(*fold.hidden, strict=True)]
    names = f"{common_name(units[0])} to {common_name(units[-1])}"
    boxes = [box for same in fold.hidden for box in same]
    weights, work = sum(b.weights for b in boxes), sum(b.work for b in boxes)
    parts = [f"{fold.count} equal blocks, {names}", fold_words(fold).channels]
    parts += [
        f"{count(weights)} parameters" if weights else "",
        f"{count(work)} multiply-adds" if work else "",
    ]
    return "; ".join(filter(None, parts))
