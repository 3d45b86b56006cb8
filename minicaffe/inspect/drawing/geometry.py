"""Sizes, and parts in their places: x runs across a drawing and y along it, whichever way it will be turned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from minicaffe.inspect.drawing.boxes import Box, Edge
from minicaffe.inspect.drawing.parts import Fold

COLUMN_GAP = 14.0
LANE = 7.0  # half the width of a column that has an edge alone
FRAME = 10.0  # between a stack's frame and what is in it
WIDEST_BEND = 40.0
TRACK = 12.0  # between two edges that run beside each other

Point = tuple[float, float]
Ways = dict[Edge, list[Point]]


@dataclass(frozen=True)
class Sizes:
    """Sizes across and along the drawing.

    ``box`` gives a box's, ``beside`` what it needs on the right for what hangs on it; ``stem`` is the room below a
    box for the shape of its output, ``arrow`` that above a box for the tip of an arrow, ``label`` that at the top
    of a stack, and ``after`` that below it for its last block's output.
    """

    box: Callable[[Box], tuple[float, float]]
    beside: Callable[[Box], float]
    stem: float
    arrow: float
    label: Callable[[Fold], float]
    after: Callable[[Fold], float]


@dataclass
class Frame:
    """The frame of a stack. Edges come in, and go out, on its ``spine``."""

    fold: Fold
    spine: float
    left: float
    top: float
    right: float
    bottom: float


@dataclass
class Placed:
    """A part in its place: its extent left and right of the spine, and along it; what is in it; ways of edges."""

    left: float
    right: float
    length: float
    boxes: dict[Box, Point] = field(default_factory=dict)  # the middle of the upper side
    ways: Ways = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)

    def enters(self, edge: Edge) -> float:
        """The x where an edge comes into the part."""
        return min(self._points(edge), key=lambda point: point[1])[0]

    def leaves(self, edge: Edge) -> float:
        """The x where an edge goes out of the part."""
        return max(self._points(edge), key=lambda point: point[1])[0]

    def _points(self, edge: Edge) -> list[Point]:
        """The way of an edge in the part; without one, the box at which it ends."""
        ends = (box for box in (edge.source, edge.target) if box in self.boxes)
        return self.ways.get(edge) or [self.boxes[box] for box in ends]

    def add(self, other: Placed, x: float, y: float) -> None:
        """Take in what another part has, moved by (x, y)."""
        self.boxes.update({box: (bx + x, by + y) for box, (bx, by) in other.boxes.items()})
        for edge, points in other.ways.items():
            self.ways.setdefault(edge, []).extend((px + x, py + y) for px, py in points)
        self.frames += [
            Frame(f.fold, f.spine + x, f.left + x, f.top + y, f.right + x, f.bottom + y) for f in other.frames
        ]


def bend(width: float) -> float:
    """The room along the drawing in which edges change columns that lie so far apart."""
    return min(WIDEST_BEND, max(16.0, width / 12))
