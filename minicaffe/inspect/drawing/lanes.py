"""Meshes: parts that are connected in no simpler way, in rows and in lanes, as ``git log --graph`` draws commits.

A part's row is the length of the longest path that leads to it. The longest chain gets the first lane, each further
one the leftmost lane that is free. An edge that passes rows goes down in a free lane, or on a track between two
lanes, which edges to one target share; it changes columns between two rows, where no box is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from minicaffe.inspect.drawing.boxes import Box, Edge
from minicaffe.inspect.drawing.geometry import COLUMN_GAP, TRACK, Placed, bend
from minicaffe.inspect.drawing.parts import Empty, Graph, Mesh, Part, boxes_in, parts_in

Span = tuple[int, int]  # the first and the last of some rows


@dataclass
class _Use:
    """Rows in which a lane or track is used; ``by`` the same holder may use them twice."""

    rows: Span
    by: Hashable


class _Column:
    """A lane or a track, and what uses it."""

    def __init__(self) -> None:
        self.uses: list[_Use] = []

    def is_free(self, rows: Span, by: Hashable) -> bool:
        """Whether nothing else uses these rows."""
        return all(use.by == by or rows[1] < use.rows[0] or use.rows[1] < rows[0] for use in self.uses)

    def take(self, rows: Span, by: Hashable) -> None:
        """Use these rows."""
        self.uses.append(_Use(rows, by))


@dataclass
class _Way:
    """An edge between two parts and their rows, -1 being above the mesh: in a lane, on a track, or directly.

    A part is None outside the mesh. ``track`` is the number of the lane left of it, and its own there.
    """

    edge: Edge
    source: int | None
    target: int | None
    rows: Span
    lane: int | None = None
    track: tuple[int, int] | None = None


def place_mesh(mesh: Mesh, place: Callable[[Part], Placed], graph: Graph) -> Placed:
    """The parts of a mesh in their places, with the ways of all its edges."""
    return _Mesh(mesh, [place(item) for item in mesh.items], graph).placed()


class _Mesh:
    def __init__(self, mesh: Mesh, parts: Sequence[Placed], graph: Graph) -> None:
        self.parts, self.graph = parts, graph
        self.home: dict[Box, int] = {box: i for i, item in enumerate(mesh.items) for box in boxes_in(item)}
        self.edges = [
            edge
            for box in self.home
            for edge in (*graph.into[box], *(e for e in graph.out[box] if e.target not in self.home))
            if self.home.get(edge.source) != self.home.get(edge.target)
        ]
        self.through = {
            each.edge: i
            for i, item in enumerate(mesh.items)
            for each in parts_in(item)
            if isinstance(each, Empty)
        }
        self.after: list[list[int]] = [[] for _ in parts]
        self.before: list[list[int]] = [[] for _ in parts]
        for edge in self.edges:
            for a, b in self._legs(edge):
                if a is not None and b is not None and b not in self.after[a]:
                    self.after[a].append(b)
                    self.before[b].append(a)
        self.fed = {self.home[e.target] for e in self.edges if e.source not in self.home}
        self.order = self._order()
        self.row = self._rows()
        self.count = max(self.row) + 1
        self.lanes: list[_Column] = []
        self.lane = [0] * len(parts)
        self.chained: set[tuple[int, int]] = set()
        self._put_into_lanes()
        self.tracks: list[list[_Column]] = [[] for _ in self.lanes]
        self.ways = [self._way(edge, a, b) for edge in self.edges for a, b in self._legs(edge)]

    def _legs(self, edge: Edge) -> list[tuple[int | None, int | None]]:
        """The parts between which an edge passes rows: two pairs if a part has a branch for it."""
        stops = [self.home.get(edge.source), self.home.get(edge.target)]
        if edge in self.through:
            stops.insert(1, self.through[edge])
        return [(a, b) for a, b in itertools.pairwise(stops) if a != b]

    def _order(self) -> list[int]:
        """The parts, each after those that feed it."""
        waits = [len(before) for before in self.before]
        ready = [i for i, n in enumerate(waits) if not n]
        order: list[int] = []
        while ready:
            i = ready.pop(0)
            order.append(i)
            for j in self.after[i]:
                waits[j] -= 1
                if not waits[j]:
                    ready.append(j)
        return order

    def _rows(self) -> list[int]:
        row = [0] * len(self.parts)
        for i in self.order:
            row[i] = max((row[j] + 1 for j in self.before[i]), default=0)
        for i in reversed(self.order):  # sources as late as possible
            if not self.before[i] and i not in self.fed and self.after[i]:
                row[i] = min(row[j] for j in self.after[i]) - 1
        return row

    def _put_into_lanes(self) -> None:
        left = set(self.order)
        while left:
            chain = self._longest_chain(left)
            left.difference_update(chain)
            rows = (self.row[chain[0]], self.row[chain[-1]])
            free = (k for k, lane in enumerate(self.lanes) if lane.is_free(rows, None))
            number = next(free, len(self.lanes))
            if number == len(self.lanes):
                self.lanes.append(_Column())
            self.lanes[number].take(rows, ("chain", chain[0]))
            for i in chain:
                self.lane[i] = number
            self.chained.update(itertools.pairwise(chain))

    def _longest_chain(self, left: set[int]) -> list[int]:
        length: dict[int, float] = {}
        follows: dict[int, int | None] = {}
        for i in reversed(self.order):
            if i in left:
                nexts = [j for j in self.after[i] if j in left]
                best = max(nexts, key=lambda j: length[j], default=None)
                follows[i] = best
                length[i] = self.parts[i].length + (length[best] if best is not None else 0)
        at: int | None = max(length, key=lambda i: (length[i], -i))
        chain = []
        while at is not None:
            chain.append(at)
            at = follows[at]
        return chain

    def _way(self, edge: Edge, a: int | None, b: int | None) -> _Way:
        """How an edge passes the rows between two parts."""
        rows = (-1 if a is None else self.row[a], self.count if b is None else self.row[b])
        way = _Way(edge, a, b, rows)
        passed = (rows[0] + 1, rows[1] - 1)
        if passed[0] > passed[1]:
            return way
        if a is not None and b is not None and (a, b) in self.chained:
            way.lane = self.lane[a]
            return way
        target = edge.target
        for end in (a, b):
            if end is not None and self.lanes[self.lane[end]].is_free(passed, target):
                way.lane = self.lane[end]
                self.lanes[way.lane].take(passed, target)
                return way
        gap = max(self.lane[end] for end in (a, b) if end is not None)
        tracks = self.tracks[gap]
        number = next((k for k, t in enumerate(tracks) if t.is_free(passed, target)), len(tracks))
        if number == len(tracks):
            tracks.append(_Column())
        tracks[number].take(passed, target)
        way.track = (gap, number)
        return way

    def placed(self) -> Placed:
        """All parts in their places."""
        x = self._lane_places()
        result = Placed(0, 0, 0)
        for i, part in enumerate(self.parts):
            result.left = max(result.left, part.left - x[self.lane[i]])
            result.right = max(result.right, part.right + x[self.lane[i]])
        for gap, tracks in enumerate(self.tracks):
            if tracks:
                result.right = max(result.right, self._track_place(x, gap, len(tracks)))
        tops, bottoms = self._row_places(x, result)
        for i, part in enumerate(self.parts):
            result.add(part, x[self.lane[i]], tops[self.row[i]])
        result.length = bottoms[-1]
        for way in self.ways:
            points = result.ways.setdefault(way.edge, [])
            first, last = way.rows
            column = self._column(way, x)
            if way.source is not None:
                points.append((self._leaves(way, x), bottoms[first]))
            if column is not None:
                points.append((column, tops[first + 1] if way.source is not None else 0))
                points.append((column, bottoms[last - 1] if way.target is not None else result.length))
            if way.target is not None:
                points.append((self._enters(way, x), tops[last]))
        return result

    def _column(self, way: _Way, x: Sequence[float]) -> float | None:
        """The x in which an edge passes rows; None if it passes none."""
        if way.track is not None:
            return self._track_place(x, *way.track)
        return None if way.lane is None else x[way.lane]

    def _track_place(self, x: Sequence[float], gap: int, number: int) -> float:
        right = max(part.right for i, part in enumerate(self.parts) if self.lane[i] == gap)
        return x[gap] + right + COLUMN_GAP / 2 + number * TRACK

    def _leaves(self, way: _Way, x: Sequence[float]) -> float:
        """The x where an edge leaves its source's part."""
        assert way.source is not None
        return x[self.lane[way.source]] + self.parts[way.source].leaves(way.edge)

    def _enters(self, way: _Way, x: Sequence[float]) -> float:
        """The x where an edge enters its target's part."""
        assert way.target is not None
        return x[self.lane[way.target]] + self.parts[way.target].enters(way.edge)

    def _lane_places(self) -> list[float]:
        """The x of each lane's spine; 0 for the first."""
        places: list[float] = []
        x = 0.0
        for number in range(len(self.lanes)):
            parts = [part for i, part in enumerate(self.parts) if self.lane[i] == number]
            if number:
                x += max(part.left for part in parts)
            places.append(x)
            x += max(part.right for part in parts) + COLUMN_GAP + TRACK * len(self.tracks[number])
        return places

    def _row_places(self, x: Sequence[float], placed: Placed) -> tuple[list[float], list[float]]:
        """Where the rows begin and end. Between two rows there is room where an edge changes columns."""
        bent = [False] * (self.count + 1)
        for way in self.ways:
            column = self._column(way, x)
            if way.source is not None:
                goes_on = column
                if goes_on is None and way.target is not None:
                    goes_on = self._enters(way, x)
                if goes_on is not None and abs(goes_on - self._leaves(way, x)) > 1e-6:
                    bent[way.rows[0] + 1] = True
            if way.target is not None and column is not None:
                bent[way.rows[1]] |= abs(column - self._enters(way, x)) > 1e-6
        tops, bottoms = [], []
        y = 0.0
        for row in range(self.count):
            y += bend(placed.left + placed.right) if row and bent[row] else 0
            tops.append(y)
            y += max((part.length for i, part in enumerate(self.parts) if self.row[i] == row), default=0)
            bottoms.append(y)
        return tops, bottoms
