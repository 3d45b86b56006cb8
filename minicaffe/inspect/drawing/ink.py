"""Ink: a layout as shapes and texts with colours, which each format writes in its own way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from minicaffe.inspect.drawing.boxes import NAME, SIDE, SMALL, TINY, Box, Boxes, Edge
from minicaffe.inspect.drawing.fold import fold_words, shape_after
from minicaffe.inspect.drawing.geometry import COLUMN_GAP, Point
from minicaffe.inspect.drawing.layout import (
    ARROW,
    HEAD,
    LINE,
    LOOP,
    NOTCH,
    PATH,
    STEMS,
    Layout,
    Rectangle,
    Stack,
)
from minicaffe.inspect.drawing.measure import Measure, fitted, fitted_name, text_width
from minicaffe.inspect.drawing.parts import Fold
from minicaffe.inspect.drawing.words import percent

LIGHT = {
    "conv": "#2f6db3", "ip": "#7a4fb0", "pool": "#a85a14", "data": "#2a7353", "loss": "#b23a48",
    "other": "#57636f", "ink": "#1c2128", "muted": "#57606a", "edge": "#848e98", "paper": "#ffffff",
}  # fmt: skip
DARK = {
    "conv": "#79b8ff", "ip": "#c7a6ff", "pool": "#ffb366", "data": "#7fd4ac", "loss": "#ff8f9a",
    "other": "#a7b1bc", "ink": "#e6edf3", "muted": "#9da7b3", "edge": "#7d8690", "paper": "#0f1419",
}  # fmt: skip
MARGIN, NO_TITLE = 12.0, 4.0  # around a drawing; around one in a page, which has no title
LEGEND = 14.0  # height of a line
LEAST_WIDTH = 400.0  # of a drawing with a title and a legend
Path = list[tuple[float, ...]]  # points: (x, y) after a straight line, (x1, y1, x2, y2, x, y) after a curve


@dataclass
class Shape:
    """An area or a line. ``tint`` is how much of its colour fills it; ``width`` that of its outline, 0 for none."""

    path: Path
    color: str
    tint: float = 0
    width: float = 0
    is_closed: bool = False
    is_dashed: bool = False
    role: str = ""


@dataclass
class Text:
    """A line of text, whose ``anchor`` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    size: float
    color: str
    is_bold: bool = False
    anchor: str = "start"


@dataclass
class Group:
    """What belongs together: a box, a stack, or nothing that has a name."""

    items: list[Shape | Text] = field(default_factory=list)
    box: Box | None = None
    fold: Fold | None = None


@dataclass
class Picture:
    """Groups, in the order in which they are drawn, on a sheet of paper."""

    width: float
    height: float
    groups: list[Group]


def picture(
    layout: Layout, drawn: Boxes, title: str = "", subtitle: str = "", measure: Measure = text_width
) -> Picture:
    """The layout in ink; with a title also with a legend."""
    return _Pen(layout, drawn, measure).picture(title, subtitle)


class _Pen:
    def __init__(self, layout: Layout, drawn: Boxes, measure: Measure) -> None:
        self.layout, self.drawn, self.measure = layout, drawn, measure
        self.stands_for = {same[0]: same for stack in layout.folds for same in stack.fold.hidden}
        names = (box.name for box in layout.boxes)
        room = drawn.width - 2 * SIDE - 20
        self.long_names = [name for name in names if text_width(name, NAME, True) > room]
        self.feeding = {edge.source for edge in layout.ways}
        self.shares = {box: self._share(box) for box in layout.boxes}
        self.has_shares = any(any(pair) for pair in self.shares.values())
        self.is_measured = any(box.shape for box in layout.boxes)
        self.largest = max((max(pair) for pair in self.shares.values()), default=0) or 1.0

    def _share(self, box: Box) -> tuple[float, float]:
        """The box's shares of all multiply-adds and of all parameters; of all boxes that it stands for."""
        boxes = self.stands_for.get(box, [box])
        work, weights = sum(b.work for b in boxes), sum(b.weights for b in boxes)
        drawn = self.drawn
        return work / drawn.work if drawn.work else 0.0, weights / drawn.weights if drawn.weights else 0.0

    def picture(self, title: str, subtitle: str) -> Picture:
        layout = self.layout
        margin = MARGIN if title else NO_TITLE
        width = max(layout.width + 2 * margin, LEAST_WIDTH if title else 0)
        head = 46.0 if title else 0.0
        rows = len(self._notes()) + self.has_shares
        foot = 6.0 + LEGEND * rows if title and self.is_measured else 0.0
        self.dx, self.dy = (width - layout.width) / 2, margin + head
        height = layout.height + 2 * margin + head + foot
        groups = [self._stack(stack) for stack in layout.folds]
        groups.append(Group([shape for edge, way in layout.ways.items() for shape in self._edge(edge, way)]))
        groups += [self._box(box, place) for box, place in layout.boxes.items()]
        if title:
            groups.append(self._title(title, subtitle, width))
        if title and self.is_measured:
            groups.append(self._legend(width, height))
        return Picture(width, height, groups)

    def _moved(self, place: Rectangle) -> Rectangle:
        return Rectangle(place.x + self.dx, place.y + self.dy, place.width, place.height)

    # -- edges -----------------------------------------------------------------------------------------

    def _edge(self, edge: Edge, way: Sequence[Point]) -> list[Shape]:
        points = [(x + self.dx, y + self.dy) for x, y in way]
        is_lr = self.layout.direction == "LR"
        tip = points[-1]
        base = (tip[0] - ARROW, tip[1]) if is_lr else (tip[0], tip[1] - ARROW)
        path = bent([*points[:-1], base], is_lr)
        a, b = ((-ARROW, -3.0), (-ARROW, 3.0)) if is_lr else ((-3.0, -ARROW), (3.0, -ARROW))
        head: Path = [tip, (tip[0] + a[0], tip[1] + a[1]), (tip[0] + b[0], tip[1] + b[1])]
        return [
            Shape(path, "edge", width=edge_width(edge.size), is_dashed=edge.is_partial, role="edge"),
            Shape(head, "edge", tint=1, is_closed=True),
        ]

    # -- stacks ----------------------------------------------------------------------------------------

    def _stack(self, stack: Stack) -> Group:
        place = self._moved(stack.frame)
        group = Group(fold=stack.fold)
        for shift in (6.0, 3.0, 0.0):
            path = rounded(place.x + shift, place.y + shift, place.width, place.height, 5)
            group.items.append(Shape(path, "paper", 1, 0, True))
            tint = 0 if shift else 0.07
            group.items.append(Shape(path, "other", tint, 0.8, True, role="" if shift else "frame"))
        self._label(stack, group, place)
        self._after(stack, group, place)
        return group

    def _after(self, stack: Stack, group: Group, place: Rectangle) -> None:
        """The last block's output beside the edge that leaves the stack, where it is not that of the first."""
        text = shape_after(stack.fold)
        if not text or stack.fold.hidden[-1][0] not in self.feeding:
            return
        if self.layout.direction == "LR":
            x, y = place.x + place.width + 8, stack.spine + self.dy - 4
            text = self._fit(text, STEMS["LR"] - 2, TINY, False)
        else:
            x, y = stack.spine + self.dx + 5, place.y + place.height + 6 + 10.5
        group.items.append(Text(x, y, text, TINY, "muted"))

    def _label(self, stack: Stack, group: Group, place: Rectangle) -> None:
        """Number, names and channels at the top of a stack, left and right of the edge that comes in."""
        words = fold_words(stack.fold)
        x, y, right = place.x + SIDE, place.y + 12, place.x + place.width - 4
        is_lr = self.layout.direction == "LR"
        spine = right if is_lr else stack.spine + self.dx - 6
        whole, *shorter = words.on_one_line()
        if is_lr or self.measure(whole, TINY, True) <= spine - x:
            group.items.append(
                Text(x, y, self._first_fit([whole, *shorter], spine - x, True), TINY, "ink", True)
            )
            return
        group.items.append(Text(x, y, words.number, TINY, "ink", True))
        short = words.channels.removesuffix("annels") + "." if words.channels else ""
        for i, choices in enumerate(filter(all, ((words.names, words.last), (words.channels, short)))):
            text = self._first_fit(choices, right - spine - 12, False)
            group.items.append(Text(spine + 12, y + i * LINE, text, TINY, "ink"))

    def _first_fit(self, choices: Sequence[str], width: float, bold: bool) -> str:
        """The first of some tiny texts that fits; of the last, what does."""
        fitting = (text for text in choices if self.measure(text, TINY, bold) <= width)
        return next(fitting, "") or self._fit(choices[-1], width, TINY, bold)

    # -- boxes -----------------------------------------------------------------------------------------

    def _box(self, box: Box, where: Rectangle) -> Group:
        place = self._moved(where)
        x, y, w, h = place.x, place.y, place.width, place.height
        head = y + (PATH if box.path else 0)
        notch = head + HEAD + LINE + NOTCH / 2 if box.waist is not None and box.waist < 1 else None
        group = Group(box=box)
        if box.is_double:
            group.items.append(Shape(rounded(x + 3, y + 3, w, h, 3), box.kind, 0.08, 1, True))
        path = rounded(x, y, w, h, 3) if notch is None else waisted(place, notch, box.waist or 0)
        if box.is_double:
            group.items.append(Shape(path, "paper", 1, 0, True))
        group.items.append(Shape(path, box.kind, 0.1, 1, True, bool(box.badge), "outline"))
        for top, bottom in [(y, y + h)] if notch is None else [(y, notch - 6), (notch + 6, y + h)]:
            group.items.append(Shape(rectangle(x, top, 3.5, bottom - top), box.kind, 1, 0, True))
        right = self._marks(box, group, x + w - 6, y)
        if box.path:
            begin = self._fit(box.path, right - x - SIDE, TINY, False)
            group.items.append(Text(x + SIDE, y + 12, begin, TINY, "muted"))
            right = x + w - 6
        name = box.name.removeprefix(box.path)
        name = fitted_name(name, [] if box.path else self.long_names, right - x - SIDE, NAME, self.measure)
        group.items.append(Text(x + SIDE, head + 14, name, NAME, "ink", True))
        line = head + HEAD + 9
        for i, text in enumerate([*box.lines, *box.tops, *box.tags]):
            color = "data" if i >= len(box.lines) + len(box.tops) else "muted"
            group.items.append(
                Text(x + SIDE, line, self._fit(text, w - 2 * SIDE, SMALL, False), SMALL, color)
            )
            line += LINE + (NOTCH if notch is not None and i == 0 else 0)
        self._hairlines(box, group, place)
        if box in self.feeding and box.shape and not box.tops:
            self._stem(box, group, place)
        if box.time is not None:
            self._loop(box, group, place)
        return group

    def _fit(self, text: str, width: float, size: float, bold: bool) -> str:
        return fitted(text, width, size, bold, self.measure)

    def _marks(self, box: Box, group: Group, right: float, y: float) -> float:
        """Badge, lock and numbers of shared parameters, from the right; returns where the name has to end."""
        middle = y + 10
        if box.badge:
            width = self.measure(box.badge, 7.5, True) + 7
            group.items.append(
                Shape(rounded(right - width, middle - 5.5, width, 11, 3), box.kind, 1, 0, True)
            )
            group.items.append(Text(right - width / 2, middle + 2.8, box.badge, 7.5, "paper", True, "middle"))
            right -= width + 4
        if box.is_fixed:
            group.items.append(Shape(rectangle(right - 9, middle - 1, 8, 6), box.kind, 1, 0, True))
            bow: Path = [
                (right - 7.4, middle - 1),
                (right - 7.4, middle - 3),
                (right - 7.4, middle - 6.2, right - 2.6, middle - 6.2, right - 2.6, middle - 3),
                (right - 2.6, middle - 1),
            ]
            group.items.append(Shape(bow, box.kind, width=1.2))
            right -= 13
        for letter in reversed(box.letters):
            group.items.append(Shape(circle(right - 6, middle, 6), box.kind, 0, 1, True))
            group.items.append(Text(right - 6, middle + 2.9, str(letter), 8, box.kind, True, "middle"))
            right -= 15
        return right

    def _hairlines(self, box: Box, group: Group, place: Rectangle) -> None:
        """The shares of multiply-adds and of parameters, the largest share of any box being the whole width."""
        for share, color, up in zip(self.shares[box], ("conv", "ip"), (6.2, 3.4), strict=True):
            length = (place.width - 2 * SIDE) * share / self.largest
            if length >= 1:
                y = place.y + place.height - up
                group.items.append(Shape(rectangle(place.x + SIDE, y, length, 2), color, 1, 0, True))

    def _stem(self, box: Box, group: Group, place: Rectangle) -> None:
        """The shape of the output, beside the edge that leaves the box."""
        if self.layout.direction == "LR":
            text = self._fit(box.shape, STEMS["LR"] + ARROW - 8, TINY, False)
            x, y = place.x + place.width + (6 if box.is_double else 3), place.y + place.height / 2 - 4
        else:
            text = self._fit(box.shape, place.width / 2 + COLUMN_GAP - 5, TINY, False)
            x, y = place.x + place.width / 2 + 5, place.y + place.height + 10.5
        group.items.append(Text(x, y, text, TINY, "muted"))

    def _loop(self, box: Box, group: Group, place: Rectangle) -> None:
        """An arrow from a recurrent layer back to itself, with the number of its steps."""
        text = f"T={box.time}"
        if self.layout.direction == "LR":
            x, y = place.x + place.width / 2, place.y + place.height
            path: Path = [(x + 16, y), (x + 16, y + 15, x - 16, y + 15, x - 16, y + 5)]
            head: Path = [(x - 16, y), (x - 19, y + 5), (x - 13, y + 5)]
            label = Text(x + 20, y + 11, text, TINY, "muted")
        else:
            x, y = place.x + place.width, place.y + place.height / 2
            path = [(x, y + 8), (x + 17, y + 8, x + 17, y - 8, x + 5, y - 8)]
            head = [(x, y - 8), (x + 5, y - 11), (x + 5, y - 5)]
            label = Text(x + 18, y + 3, self._fit(text, LOOP - 18, TINY, False), TINY, "muted")
        group.items += [
            Shape(path, box.kind, width=1.2),
            Shape(head, box.kind, 1, 0, True),
            label,
        ]

    # -- around the drawing ----------------------------------------------------------------------------

    def _title(self, title: str, subtitle: str, width: float) -> Group:
        room = width - 2 * MARGIN
        return Group(
            [
                Text(MARGIN, MARGIN + 13, self._fit(title, room, 14, True), 14, "ink", True),
                Text(MARGIN, MARGIN + 29, self._fit(subtitle, room, NAME, False), NAME, "muted"),
            ]
        )

    def _legend(self, width: float, height: float) -> Group:
        """What the lines at the foot of the boxes, and the numbers at the edges, mean."""
        notes = self._notes()
        y = height - MARGIN - LEGEND * len(notes)
        group = Group()
        x = MARGIN
        largest = f"a layer's share (longest: {percent(self.largest)})"
        lines = (("conv", "multiply-adds"), ("ip", f"parameters: {largest}")) if self.has_shares else ()
        for color, word in lines:
            group.items.append(Shape(rectangle(x, y - 4, 18, 2), color, 1, 0, True))
            group.items.append(Text(x + 23, y, word, SMALL, "muted"))
            x += 23 + self.measure(word, SMALL, False) + 14
        for i, note in enumerate(notes, 1):
            text = self._fit(note, width - 2 * MARGIN, SMALL, False)
            group.items.append(Text(MARGIN, y + LEGEND * i, text, SMALL, "muted"))
        return group

    def _notes(self) -> list[str]:
        """The lines of the legend below the first."""
        is_summed = self.has_shares and self.layout.folds
        stacks = ["in a stack: the share of this layer in all its blocks together"] if is_summed else []
        return [*stacks, "beside an arrow: one image's output, channels × height × width"]


def edge_width(size: int) -> float:
    """The width of an edge that carries so many bytes, 0 if that is not known: it grows with their logarithm."""
    return 1.2 if not size else min(4.0, max(0.8, 0.55 * math.log10(size) - 0.6))


def bent(points: Sequence[Point], is_lr: bool) -> Path:
    """A path through the points, with a smooth bend where it changes columns."""
    path: Path = [points[0]]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if is_lr and abs(y0 - y1) > 1e-6:
            middle = (x0 + x1) / 2
            path.append((middle, y0, middle, y1, x1, y1))
        elif not is_lr and abs(x0 - x1) > 1e-6:
            middle = (y0 + y1) / 2
            path.append((x0, middle, x1, middle, x1, y1))
        else:
            path.append((x1, y1))
    return path


def rectangle(x: float, y: float, width: float, height: float) -> Path:
    """The corners of a rectangle."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def rounded(x: float, y: float, width: float, height: float, r: float) -> Path:
    """The outline of a rectangle with round corners."""
    right, bottom = x + width, y + height
    return [
        (x + r, y), (right - r, y), (right, y, right, y, right, y + r),
        (right, bottom - r), (right, bottom, right, bottom, right - r, bottom),
        (x + r, bottom), (x, bottom, x, bottom, x, bottom - r), (x, y + r), (x, y, x, y, x + r, y),
    ]  # fmt: skip


def waisted(place: Rectangle, notch: float, waist: float) -> Path:
    """The outline of a box that is as narrow at height ``notch`` as its rank is small."""
    x, y, right, bottom = place.x, place.y, place.x + place.width, place.y + place.height
    cut = (place.width - max(8.0, place.width * waist)) / 2
    return [
        (x, y), (right, y), (right, notch - 6), (right - cut, notch - 1), (right - cut, notch + 1),
        (right, notch + 6), (right, bottom), (x, bottom), (x, notch + 6), (x + cut, notch + 1),
        (x + cut, notch - 1), (x, notch - 6),
    ]  # fmt: skip


def circle(x: float, y: float, r: float) -> Path:
    """The outline of a circle."""
    k = 0.5523 * r
    return [
        (x, y - r), (x + k, y - r, x + r, y - k, x + r, y), (x + r, y + k, x + k, y + r, x, y + r),
        (x - k, y + r, x - r, y + k, x - r, y), (x - r, y - k, x - k, y - r, x, y - r),
    ]  # fmt: skip
