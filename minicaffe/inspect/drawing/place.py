"""Places: where the boxes of a drawing lie, and the ways of its edges, which cross no box.

A part lies left and right of its spine, x = 0, on which edges come in and go out. Edges go down in the column of a
box or in one of their own, and change columns only between parts, where nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from minicaffe.inspect.drawing.boxes import Box
from minicaffe.inspect.drawing.geometry import (
    COLUMN_GAP,
    FRAME,
    LANE,
    WIDEST_BEND,
    Frame,
    Placed,
    Point,
    Sizes,
    Ways,
    bend,
)
from minicaffe.inspect.drawing.lanes import place_mesh
from minicaffe.inspect.drawing.parts import Empty, Fold, Graph, Mesh, Parallel, Part, Series, boxes_in

DOMINANT = 1.8  # times as long as any other: such a branch stays on the spine


class Placer:
    """Places the parts of one drawing. ``graph`` has its edges, between the boxes that are drawn."""

    def __init__(self, graph: Graph, sizes: Sizes) -> None:
        self.graph, self.sizes = graph, sizes

    def place(self, part: Part) -> Placed:
        """The part in its place."""
        if isinstance(part, Box):
            return self._box(part)
        if isinstance(part, Empty):
            return Placed(LANE, LANE, 0)
        if isinstance(part, Series):
            return self._series(part)
        if isinstance(part, Parallel):
            return self._parallel(part)
        if isinstance(part, Fold):
            return self._fold(part)
        return place_mesh(part, self.place, self.graph)

    def ways(self, placed: Placed) -> Ways:
        """The whole way of each edge: points from its source down to its target."""
        ways: Ways = {}
        for edges in self.graph.out.values():
            for edge in edges:
                (sx, sy), (tx, ty) = placed.boxes[edge.source], placed.boxes[edge.target]
                below = sy + self.sizes.box(edge.source)[1]
                between = sorted(placed.ways.get(edge, []), key=lambda point: point[1])
                points = [(sx, below), (sx, below + self.sizes.stem), *between]
                points += [(tx, ty - self.sizes.arrow), (tx, ty)]
                ways[edge] = _without_repeats(points)
        return ways

    def _box(self, box: Box) -> Placed:
        across, along = self.sizes.box(box)
        stem = self.sizes.stem if self.graph.out[box] else 0
        length = along + stem + self.sizes.arrow
        return Placed(across / 2, across / 2 + self.sizes.beside(box), length, {box: (0.0, self.sizes.arrow)})

    def _series(self, series: Series) -> Placed:
        parts = [self.place(item) for item in series.items]
        result = Placed(max(p.left for p in parts), max(p.right for p in parts), 0)
        y = 0.0
        for i, (item, part) in enumerate(zip(series.items, parts, strict=True)):
            if i:
                y += self._gap(series.items[i - 1], parts[i - 1], item, part)
            result.add(part, 0, y)
            y += part.length
        result.length = y
        return result

    def _gap(self, above: Part, placed_above: Placed, below: Part, placed_below: Placed) -> float:
        """The room between two parts, where edges change columns."""
        gap = 0.0
        for part, placed in ((above, placed_above), (below, placed_below)):
            if isinstance(part, (Parallel, Mesh)):
                gap += bend(placed.left + placed.right)
        return gap

    def _parallel(self, parallel: Parallel) -> Placed:
        parts = [self.place(branch) for branch in parallel.branches]
        length = max(part.length for part in parts)
        spines = self._columns(parallel, parts)
        result = Placed(0, 0, length)
        for branch, part, x in zip(parallel.branches, parts, spines, strict=True):
            result.left = max(result.left, part.left - x)
            result.right = max(result.right, part.right + x)
            y = 0.0 if self._is_fed(branch) or not self._feeds(branch) else length - part.length
            result.add(part, x, y)
            if isinstance(branch, Empty):
                result.ways[branch.edge] = [(x, 0), (x, length)]
        self._open(result)
        return result

    def _columns(self, parallel: Parallel, parts: Sequence[Placed]) -> list[float]:
        """The x of each branch: a branch much longer than the others stays on the spine, they lie right of it."""
        order = list(range(len(parts)))
        longest = max(order, key=lambda i: parts[i].length)
        others = [parts[i].length for i in order if i != longest]
        is_main = len(parts) > 1 and parts[longest].length >= DOMINANT * max(others)
        if is_main:
            order.remove(longest)
            order.insert(0, longest)
        spines = [0.0] * len(parts)
        done: list[int] = []
        for i in order:
            ends = not self._feeds(parallel.branches[i]) and not isinstance(parallel.branches[i], Empty)
            depth = parts[i].length if is_main and ends else inf  # what lies below does not matter to it
            beside = (spines[j] + self._right(parts[j], depth) + COLUMN_GAP for j in done)
            spines[i] = max(beside, default=0.0) + parts[i].left
            done.append(i)
        middle = spines[longest] if is_main else (spines[order[0]] + spines[order[-1]]) / 2
        return [spine - middle for spine in spines]

    def _right(self, part: Placed, depth: float) -> float:
        """How far a part reaches to the right of its spine, down to a depth."""
        if depth >= part.length:
            return part.right
        reach = -part.left
        for box, (x, y) in part.boxes.items():
            if y < depth + COLUMN_GAP:
                reach = max(reach, x + self.sizes.box(box)[0] / 2 + self.sizes.beside(box))
        for frame in part.frames:
            if frame.top < depth + COLUMN_GAP:
                reach = max(reach, frame.right + FRAME)
        for way in part.ways.values():  # which bend a little above their points
            if min(y for _, y in way) < depth + WIDEST_BEND:
                reach = max(reach, *(x + LANE for x, _ in way))
        return reach

    def _is_fed(self, part: Part) -> bool:
        """Whether an edge comes into the part."""
        inside = set(boxes_in(part))
        edges = (edge for box in inside for edge in self.graph.into[box])
        return isinstance(part, Empty) or any(edge.source not in inside for edge in edges)

    def _feeds(self, part: Part) -> bool:
        """Whether an edge leaves the part."""
        inside = set(boxes_in(part))
        return any(edge.target not in inside for box in inside for edge in self.graph.out[box])

    def _open(self, placed: Placed) -> None:
        """Let edges that come in from above or leave below do so in the columns where they go on."""
        for box in placed.boxes:
            for edge in self.graph.into[box]:
                if edge.source not in placed.boxes:
                    placed.ways.setdefault(edge, []).append((placed.enters(edge), 0))
            for edge in self.graph.out[box]:
                if edge.target not in placed.boxes:
                    placed.ways.setdefault(edge, []).append((placed.leaves(edge), placed.length))

    def _fold(self, fold: Fold) -> Placed:
        unit = self.place(fold.unit)
        label = self.sizes.label(fold)
        begins = label
        if not isinstance(fold.unit.items[0], Box):
            begins += bend(unit.left + unit.right)
        top = FRAME / 2
        bottom = top + begins + unit.length + FRAME
        result = Placed(unit.left + FRAME, unit.right + FRAME + 6, bottom + 6 + self.sizes.after(fold))
        result.add(unit, 0, top + begins)
        result.frames.append(Frame(fold, 0.0, -result.left, top, result.right - 6, bottom))
        inside = set(boxes_in(fold))
        for box in inside:
            for edge in self.graph.into[box]:
                if edge.source not in inside:
                    result.ways.setdefault(edge, []).extend([(0, 0), (0, top + label)])
            for edge in self.graph.out[box]:
                if edge.target not in inside:
                    result.ways.setdefault(edge, []).append((0, result.length))
        return result


def _without_repeats(points: Sequence[Point]) -> list[Point]:
    """The points in their order, without those that lie on a straight line between their neighbours."""
    kept: list[Point] = []
    for point in points:
        if kept and abs(kept[-1][0] - point[0]) < 1e-6 and abs(kept[-1][1] - point[1]) < 1e-6:
            continue
        if len(kept) > 1 and abs(kept[-2][0] - kept[-1][0]) < 1e-6 and abs(kept[-1][0] - point[0]) < 1e-6:
            kept[-1] = point
        else:
            kept.append(point)
    return kept
