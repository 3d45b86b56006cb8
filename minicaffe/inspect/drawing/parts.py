"""Parts: a net as boxes one after the other, branches side by side, and what is neither: a mesh.

A cut is a box that no edge jumps over and that all boxes before lead into. Between two cuts the connected pieces
are branches, each divided likewise; an edge from cut to cut is an empty branch. A piece without a cut is a mesh, in
which what can be drawn as a series or as branches is put together first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minicaffe.inspect.drawing.boxes import Box, Edge

DEEPEST = 40  # branches within branches; what lies deeper is a mesh, and in that as many again
FEW = 2  # boxes that lead from a source of their own into a net: drawn beside the place where they join


@dataclass(eq=False)
class Empty:
    """An edge that has a branch for itself: a skip connection."""

    edge: Edge


@dataclass(eq=False)
class Series:
    """Parts one after the other; a box stands before and after each that is none."""

    items: list[Part]


@dataclass(eq=False)
class Parallel:
    """Parts side by side, of which none feeds another."""

    branches: list[Part]


@dataclass(eq=False)
class Mesh:
    """Parts that are connected in some other way, each after those that feed it."""

    items: list[Part]


@dataclass(eq=False)
class Fold:
    """A unit that is repeated, drawn once: ``unit`` is the first, ``hidden`` has the boxes of the others.

    ``hidden`` holds for each box of ``unit``, in their order, those that it stands for.
    """

    unit: Series
    count: int
    hidden: list[list[Box]]


Part = Box | Empty | Series | Parallel | Mesh | Fold


def parts_in(part: Part) -> Iterator[Part]:
    """A part, and all that is drawn in it, in a fixed order."""
    stack: list[Part] = [part]
    while stack:
        top = stack.pop()
        yield top
        if isinstance(top, (Series, Mesh)):
            stack += reversed(top.items)
        elif isinstance(top, Parallel):
            stack += reversed(top.branches)
        elif isinstance(top, Fold):
            stack.append(top.unit)


def boxes_in(part: Part) -> Iterator[Box]:
    """The boxes that are drawn in a part, in a fixed order."""
    return (each for each in parts_in(part) if isinstance(each, Box))


class Graph:
    """The edges of each box."""

    def __init__(self, boxes: Sequence[Box], edges: Sequence[Edge]) -> None:
        self.out: dict[Box, list[Edge]] = {box: [] for box in boxes}
        self.into: dict[Box, list[Edge]] = {box: [] for box in boxes}
        for edge in edges:
            self.out[edge.source].append(edge)
            self.into[edge.target].append(edge)


def divide(boxes: Sequence[Box], edges: Sequence[Edge]) -> Part:
    """The parts of a drawing. ``boxes`` come each after those that feed it."""
    graph = Graph(boxes, edges)
    order, roots = _with_late_sources(boxes, graph)
    return _Divider(graph, roots).region(order, None, None, 0)


def _with_late_sources(boxes: Sequence[Box], graph: Graph) -> tuple[list[Box], set[Box]]:
    """The order in which boxes are cut, with small sources where they are needed; and the other sources."""
    sources = [box for box in boxes if not graph.into[box]]
    below = {source: _reached(source, graph) for source in sources}
    first = max(sources, key=lambda source: len(below[source]), default=None)
    rest = [box for box in boxes if first is None or box not in below[first]]
    late: set[Box] = set()
    for source in sources:
        private = [box for box in rest if box in below[source]]
        joins = any(edge.target not in rest for box in private for edge in graph.out[box])
        if source is not first and joins and len(private) <= FEW:
            late.update(private)
    order = [box for box in boxes if box not in late]
    place = {box: float(i) for i, box in enumerate(order)}
    for step, box in enumerate(reversed([box for box in boxes if box in late])):
        users = [place[edge.target] for edge in graph.out[box]]
        place[box] = min(users) - 2.0 ** -(2 + step % 40) if users else float(len(order))
    return sorted(boxes, key=lambda box: place[box]), {source for source in sources if source not in late}


def _reached(box: Box, graph: Graph) -> set[Box]:
    seen, stack = {box}, [box]
    while stack:
        for edge in graph.out[stack.pop()]:
            if edge.target not in seen:
                seen.add(edge.target)
                stack.append(edge.target)
    return seen


class _Divider:
    def __init__(self, graph: Graph, roots: set[Box]) -> None:
        self.graph, self.roots = graph, roots

    def region(self, boxes: list[Box], entry: Box | None, exit: Box | None, depth: int) -> Part:
        """What lies between two cuts: a branch for each piece that hangs together, and one for a direct edge."""
        branches: list[Part] = [self.piece(piece, entry, exit, depth) for piece in self._pieces(boxes)]
        if entry is not None and exit is not None:
            branches += [Empty(edge) for edge in self.graph.out[entry] if edge.target is exit]
        return branches[0] if len(branches) == 1 else Parallel(branches)

    def _pieces(self, boxes: list[Box]) -> list[list[Box]]:
        """The connected pieces, each in the order of ``boxes``."""
        left = set(boxes)
        pieces: list[list[Box]] = []
        number: dict[Box, int] = {}
        for start in boxes:
            if start not in left:
                continue
            left.remove(start)
            stack = [start]
            while stack:
                box = stack.pop()
                number[box] = len(pieces)
                beside = [edge.target for edge in self.graph.out[box]]
                for other in (*beside, *(edge.source for edge in self.graph.into[box])):
                    if other in left:
                        left.remove(other)
                        stack.append(other)
            pieces.append([])
        for box in boxes:
            pieces[number[box]].append(box)
        return pieces

    def piece(self, boxes: list[Box], entry: Box | None, exit: Box | None, depth: int) -> Part:
        """Boxes that hang together, cut where that is possible."""
        if len(boxes) == 1:
            return boxes[0]
        cuts = self._cuts(boxes, entry) if depth < DEEPEST else []
        if not cuts:
            return mesh(boxes, self.graph)
        items: list[Part] = []
        start, before = 0, entry
        for cut in cuts:
            self._add_region(items, boxes[start:cut], before, boxes[cut], depth)
            items.append(boxes[cut])
            start, before = cut + 1, boxes[cut]
        self._add_region(items, boxes[start:], before, exit, depth)
        return items[0] if len(items) == 1 else Series(items)

    def _add_region(
        self, items: list[Part], boxes: list[Box], entry: Box | None, exit: Box | None, depth: int
    ) -> None:
        """Add what lies between two cuts, if there is more than an edge."""
        if boxes:
            part = self.region(boxes, entry, exit, depth + 1)
            items += part.items if isinstance(part, Series) else [part]

    def _cuts(self, boxes: list[Box], entry: Box | None) -> list[int]:
        """The places of the cuts."""
        place = {box: i for i, box in enumerate(boxes)}
        starts = [place[e.target] for e in self.graph.out[entry] if e.target in place] if entry else []
        starts += [place[box] for box in boxes if box in self.roots]
        reach = max(starts, default=0)
        cuts = []
        ends = False  # whether a box before leads nowhere
        for i, box in enumerate(boxes):
            if reach <= i and not ends:
                cuts.append(i)
            out = self.graph.out[box]
            ends = ends or not out
            reach = max([reach, *(place.get(edge.target, len(boxes)) for edge in out)])
        return cuts


def mesh(boxes: list[Box], graph: Graph) -> Part:
    """A mesh, with series and branches put together where that is possible."""
    return _Reducer(boxes, graph).reduced()


class _Reducer:
    """The mesh as a graph of parts, in which two that follow each other alone become one, as do equal branches."""

    def __init__(self, boxes: list[Box], graph: Graph) -> None:
        inside = set(boxes)
        self.parts: dict[int, Part] = dict(enumerate(boxes))
        number = {box: i for i, box in enumerate(boxes)}
        self.before: dict[int, set[int | Box]] = {}
        self.after: dict[int, set[int | Box]] = {}
        self.edges: dict[tuple[int, int], Edge] = {}
        self.depth = dict.fromkeys(self.parts, 0)  # branches within branches
        for box, i in number.items():
            self.before[i] = {number.get(edge.source, edge.source) for edge in graph.into[box]}
            self.after[i] = {number.get(edge.target, edge.target) for edge in graph.out[box]}
            for edge in graph.out[box]:
                if edge.target in inside:
                    self.edges[i, number[edge.target]] = edge

    def reduced(self) -> Part:
        changed = True
        while changed:
            changed = False
            for i in sorted(self.parts):
                while i in self.parts and (self._join_next(i) or self._join_branches(i)):
                    changed = True
        parts = [self.parts[i] for i in sorted(self.parts)]
        return parts[0] if len(parts) == 1 else Mesh(parts)

    def _join_next(self, i: int) -> bool:
        """Put a part and the only one after it, which follows only it, into a series."""
        if len(self.after[i]) != 1:
            return False
        (j,) = self.after[i]
        if not isinstance(j, int) or self.before[j] != {i}:
            return False
        first, second = self.parts[i], self.parts[j]
        items = first.items if isinstance(first, Series) else [first]
        self.parts[i] = Series([*items, *(second.items if isinstance(second, Series) else [second])])
        self.after[i] = self.after.pop(j)
        self.depth[i] = max(self.depth[i], self.depth.pop(j))
        for after in self.after[i]:
            if isinstance(after, int):
                self.before[after] = {i if k == j else k for k in self.before[after]}
                self.edges[i, after] = self.edges.pop((j, after))
        del self.parts[j], self.before[j]
        return True

    def _join_branches(self, i: int) -> bool:
        """Make branches of the parts after ``i`` that follow only it, and lead only to the same part."""
        groups: dict[tuple[int | Box, ...], list[int]] = {}
        for j in self.after[i]:
            if isinstance(j, int) and self.before[j] == {i} and len(self.after[j]) <= 1:
                groups.setdefault(tuple(self.after[j]), []).append(j)
        for after, members in groups.items():
            branches: list[Part] = [self.parts[j] for j in sorted(members)]
            direct = bool(after) and after[0] in self.after[i] and isinstance(after[0], int)
            if len(branches) + direct < 2 or max(self.depth[j] for j in members) >= DEEPEST:
                continue
            if direct and isinstance(after[0], int):
                branches.append(Empty(self.edges.pop((i, after[0]))))
                self.after[i].discard(after[0])
                self.before[after[0]].discard(i)
            keep, *gone = sorted(members)
            self.depth[keep] = 1 + max(self.depth[j] for j in members)
            self.parts[keep] = Parallel(
                [b for part in branches for b in (part.branches if isinstance(part, Parallel) else [part])]
            )
            for j in gone:
                self.after[i].discard(j)
                if after and isinstance(after[0], int):
                    self.before[after[0]].discard(j)
                    self.edges.pop((j, after[0]), None)
                del self.parts[j], self.before[j], self.after[j], self.depth[j]
            return True
        return False
