"""What is wrong with the places in a layout: boxes that overlap, edges that cross boxes, things outside."""

from minicaffe.inspect.drawing.ink import bent
from minicaffe.inspect.drawing.png import flat


def faults(layout):
    """A line for each fault of a layout."""
    found = []
    places = sorted(layout.boxes.items(), key=lambda item: item[1].y)
    for i, (box, a) in enumerate(places):
        if min(a.x, a.y) < -1e-6 or a.x + a.width > layout.width + 1e-6 or a.y + a.height > layout.height + 1e-6:
            found.append(f"{box.name} lies outside")
        for other, b in places[i + 1 :]:
            if b.y >= a.y + a.height:
                break
            if a.x < b.x + b.width and b.x < a.x + a.width:
                found.append(f"{box.name} overlaps {other.name}")
    for edge, way in layout.ways.items():
        points = flat(bent(way, layout.direction == "LR"), steps=8)
        fine = [
            (p[0] + (q[0] - p[0]) * k / n, p[1] + (q[1] - p[1]) * k / n)
            for p, q in zip(points, points[1:], strict=False)
            for n in [1 + int(max(abs(q[0] - p[0]), abs(q[1] - p[1])) / 20)]
            for k in range(n + 1)
        ]
        for box, r in layout.boxes.items():
            low, high, left, right = r.y + 0.5, r.y + r.height - 0.5, r.x + 0.5, r.x + r.width - 0.5
            if any(left < x < right and low < y < high for x, y in fine):
                found.append(f"{edge.source.name} → {edge.target.name} crosses {box.name}")
        if not _goes_on(way, layout.direction):
            found.append(f"{edge.source.name} → {edge.target.name} goes back")
        if not (_touches(layout.boxes[edge.source], way[0]) and _touches(layout.boxes[edge.target], way[-1])):
            found.append(f"{edge.source.name} → {edge.target.name} does not touch its boxes")
    return found


def _goes_on(way, direction):
    along = 1 if direction == "TB" else 0
    return all(p[along] <= q[along] + 1e-6 for p, q in zip(way, way[1:], strict=False))


def _touches(r, point):
    x, y = point
    inside = r.x - 1e-6 <= x <= r.x + r.width + 1e-6 and r.y - 1e-6 <= y <= r.y + r.height + 1e-6
    return inside and (min(abs(y - r.y), abs(y - r.y - r.height), abs(x - r.x), abs(x - r.x - r.width)) < 1e-6)
