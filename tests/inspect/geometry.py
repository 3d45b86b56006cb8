"""What is wrong with the places in a layout: boxes that overlap, edges that cross boxes, things outside, and edges
of which one runs over the other.
"""

from itertools import pairwise

import numpy as np

from minicaffe.inspect.drawing.ink import bent
from minicaffe.inspect.drawing.parts import boxes_in
from minicaffe.inspect.drawing.png import flat

SHORT = 10  # pixels between two points of an edge that are looked at
ROOM = 12  # pixels along the drawing in which an edge changes columns
ALMOST = 0.5  # pixels that a line may lie in a box
CLOSE = 5  # pixels between two boxes, or between a box and an edge that has nothing to do with it
NEAR = 3  # pixels between two lines that look like one


def faults(layout):
    """A line for each fault of a layout."""
    boxes = list(layout.boxes)
    places = [layout.boxes[box] for box in boxes]
    x, y, w, h = np.array([(r.x, r.y, r.width, r.height) for r in places]).T
    found = []
    outside = (x < 0) | (y < 0) | (x + w > layout.width + 1e-6) | (y + h > layout.height + 1e-6)
    found += [f"{boxes[i].name} lies outside" for i in np.flatnonzero(outside)]
    beside = (x[:, None] < (x + w)[None] + CLOSE) & (y[:, None] < (y + h)[None] + CLOSE)
    for i, j in np.argwhere(beside & beside.T & np.tri(len(boxes), k=-1, dtype=bool)):
        found.append(f"{boxes[i].name} overlaps {boxes[j].name}")
    for stack in layout.folds:
        f, inside = stack.frame, {id(box) for box in boxes_in(stack.fold)}
        hit = (x < f.x + f.width + CLOSE) & (x + w > f.x - CLOSE) & (y < f.y + f.height) & (y + h > f.y)
        found += [
            f"{boxes[i].name} lies in a stack" for i in np.flatnonzero(hit) if id(boxes[i]) not in inside
        ]
    for edge, way in layout.ways.items():
        name = f"{edge.source.name} → {edge.target.name}"
        px, py = _points(bent(way, layout.direction == "LR"))
        inside = (px > (x + ALMOST)[:, None]) & (px < (x + w - ALMOST)[:, None])
        inside &= (py > (y + ALMOST)[:, None]) & (py < (y + h - ALMOST)[:, None])
        found += [f"{name} crosses {boxes[i].name}" for i in np.flatnonzero(inside.any(axis=1))]
        along = 1 if layout.direction == "TB" else 0
        if any(q[along] < p[along] - 1e-6 for p, q in pairwise(way)):
            found.append(f"{name} goes back")
        if any(abs(q[1 - along] - p[1 - along]) > 1 and q[along] - p[along] < ROOM for p, q in pairwise(way)):
            found.append(f"{name} has no room to change columns")
        ends = zip((layout.boxes[edge.source], layout.boxes[edge.target]), (way[0], way[-1]), strict=True)
        if not all(_touches(place, point) for place, point in ends):
            found.append(f"{name} does not touch its boxes")
    return found + _too_close(layout)


def _too_close(layout):
    """Edges that pass close by a box, and edges from other boxes to other boxes that lie on one line."""
    along = 1 if layout.direction == "TB" else 0
    edges, lines = [], []
    for edge, way in layout.ways.items():
        for p, q in pairwise(way):
            if abs(p[1 - along] - q[1 - along]) < 1e-6 and q[along] > p[along]:
                edges.append(edge)
                lines.append((p[1 - along], p[along], q[along]))
    across, begin, end = np.array(lines).T.reshape(3, -1)
    found = []
    for box, r in layout.boxes.items():
        (left, wide), (top, high) = ((r.x, r.width), (r.y, r.height))[:: 1 if along else -1]
        hit = (
            (across > left - CLOSE)
            & (across < left + wide + CLOSE)
            & (begin < top + high - 1)
            & (end > top + 1)
        )
        found += [
            f"{edges[i].source.name} → {edges[i].target.name} is close to {box.name}"
            for i in np.flatnonzero(hit)
        ]
    over = (
        (abs(across[:, None] - across) < NEAR) & (begin[:, None] < end - NEAR) & (begin < end[:, None] - NEAR)
    )
    return found + [
        f"{edges[i].source.name} → {edges[i].target.name} runs over {edges[j].source.name} → {edges[j].target.name}"
        for i, j in np.argwhere(over & np.tri(len(edges), k=-1, dtype=bool))
        if edges[i].source is not edges[j].source and edges[i].target is not edges[j].target
    ]


def _points(path):
    """Points on a path, close together."""
    points = np.array(flat(path, steps=8))
    n = 1 + int(np.abs(np.diff(points, axis=0)).max() / SHORT)
    steps = np.arange(n)[:, None, None] / n
    between = points[:-1] + steps * np.diff(points, axis=0)
    return between.reshape(-1, 2).T


def _touches(r, point):
    """Whether a point lies on the outline of a box."""
    x, y = point
    is_near = r.x - 1e-6 <= x <= r.x + r.width + 1e-6 and r.y - 1e-6 <= y <= r.y + r.height + 1e-6
    sides = (y - r.y, y - r.y - r.height, x - r.x, x - r.x - r.width)
    return is_near and min(map(abs, sides)) < 1e-6
