"""Layout: everything of a drawing in its place, in pixels, from top to bottom or from left to right."""

from __future__ import annotations

from dataclasses import dataclass, replace

from minicaffe.inspect.drawing.boxes import Box, Boxes, Edge
from minicaffe.inspect.drawing.fold import fold_words, folded, shape_after
from minicaffe.inspect.drawing.geometry import Point, Sizes
from minicaffe.inspect.drawing.parts import Fold, Graph, Part, boxes_in, divide, parts_in
from minicaffe.inspect.drawing.place import Placer

HEAD, LINE, FOOT = 19.0, 12.0, 9.0  # of a box: its name, each line, and below them
PATH = 10.0  # above its name
NOTCH = 14.0  # between the two stages of a layer of low rank
LOOP = 46.0  # beside a recurrent layer
ARROW = 6.0
STEMS = {"TB": 14.0, "LR": 62.0}
STACK_LABEL = 15.0  # room at the top of a stack, for each line of its label


@dataclass
class Rectangle:
    """Where something lies."""

    x: float
    y: float
    width: float
    height: float


@dataclass
class Stack:
    """A stack with its frame, and the x, or y if the drawing goes to the right, where edges come in and go out."""

    fold: Fold
    frame: Rectangle
    spine: float


@dataclass
class Layout:
    """The places of boxes, stacks and edges, whose ways are points; an edge bends where it changes columns."""

    direction: str
    width: float
    height: float
    boxes: dict[Box, Rectangle]
    folds: list[Stack]
    ways: dict[Edge, list[Point]]


def box_height(box: Box) -> float:
    """The height of a box."""
    notch = NOTCH if box.waist is not None and box.waist < 1 else 0
    path = PATH if box.path else 0
    return path + HEAD + LINE * (len(box.lines) + len(box.tops) + len(box.tags)) + notch + FOOT


def lay_out(drawn: Boxes, direction: str = "TB", unfold: bool = False) -> Layout:
    """The layout of a net's boxes. ``unfold`` draws all blocks that are repeated."""
    edges = [replace(edge) for edge in drawn.edges]  # folding changes them
    part = divide(drawn.boxes, edges)
    if not unfold:
        part = folded(part)
        edges = _without_hidden(part, edges)
    graph = Graph(list(boxes_in(part)), edges)
    is_lr = direction == "LR"

    def size(box: Box) -> tuple[float, float]:
        height = box_height(box)
        return (height, drawn.width) if is_lr else (drawn.width, height)

    def beside(box: Box) -> float:
        loop = (LOOP / 2 if is_lr else LOOP) if box.time is not None else 0
        return loop or (4.0 if box.is_double else 0.0)

    def label(fold: Fold) -> float:
        return STACK_LABEL + (LINE if not is_lr and fold_words(fold).channels else 0)

    def after(fold: Fold) -> float:
        return STEMS[direction] if shape_after(fold) else 0.0

    placer = Placer(graph, Sizes(size, beside, STEMS[direction], ARROW, label, after))
    placed = placer.place(part)

    def turned(x: float, y: float) -> Point:
        return (y, x + placed.left) if is_lr else (x + placed.left, y)

    def rectangle(left: float, top: float, right: float, bottom: float) -> Rectangle:
        (x0, y0), (x1, y1) = turned(left, top), turned(right, bottom)
        return Rectangle(x0, y0, x1 - x0, y1 - y0)

    boxes = {}
    for box, (x, y) in placed.boxes.items():
        across, along = size(box)
        boxes[box] = rectangle(x - across / 2, y, x + across / 2, y + along)
    across = placed.left + placed.right
    return Layout(
        direction,
        placed.length if is_lr else across,
        across if is_lr else placed.length,
        boxes,
        [
            Stack(
                frame.fold,
                rectangle(frame.left, frame.top, frame.right, frame.bottom),
                turned(frame.spine, 0)[1 if is_lr else 0],
            )
            for frame in placed.frames
        ],
        {edge: [turned(*point) for point in way] for edge, way in placer.ways(placed).items()},
    )


def _without_hidden(part: Part, edges: list[Edge]) -> list[Edge]:
    """The edges between boxes that are drawn: what follows a stack follows the block that stands for it."""
    stands_for: dict[Box, tuple[Box, Fold]] = {}
    for fold in (each for each in parts_in(part) if isinstance(each, Fold)):
        for same in fold.hidden:
            stands_for.update(dict.fromkeys(same[1:], (same[0], fold)))
            stands_for[same[0]] = (same[0], fold)
    kept: dict[tuple[Box, Box], Edge] = {}
    for edge in edges:
        source, in_source = stands_for.get(edge.source, (edge.source, None))
        target, in_target = stands_for.get(edge.target, (edge.target, None))
        moved = source is not edge.source or target is not edge.target
        if in_source is not None and in_source is in_target and moved:
            continue
        edge.source, edge.target = source, target
        kept.setdefault((source, target), edge)
    return list(kept.values())
