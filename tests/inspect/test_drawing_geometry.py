"""No two boxes of a drawing overlap, and no edge crosses a box."""

from dataclasses import replace
from itertools import pairwise

import pytest

from minicaffe.files.spec_formats import open_net
from minicaffe.inspect.drawing import fold
from minicaffe.inspect.drawing.boxes import Box, Boxes, Edge, boxes_of
from minicaffe.inspect.drawing.drawing import view_of
from minicaffe.inspect.drawing.geometry import COLUMN_GAP, FRAME, LANE
from minicaffe.inspect.drawing.layout import LOOP, lay_out
from minicaffe.inspect.drawing.parts import divide
from tests import ROOT
from tests.inspect.drawn import boxes, conv, join, shape_of, spec_of
from tests.inspect.geometry import faults

pytestmark = pytest.mark.cpu_only("of places in a picture: no device computes here")
NETS = sorted(path for path in (ROOT / "prototxt").glob("*/*.yaml") if "solver" not in path.name)


@pytest.mark.parametrize("path", NETS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_nothing_overlaps_in_the_drawings_of_our_nets(path):
    spec = open_net(path)
    phases = ["test"] if "deploy" in path.name or path.parent.name == "mtcnn" else ["train", "test"]
    views = [view_of(spec, phase) for phase in phases]
    drawn = boxes_of(views)
    assert faults(lay_out(drawn, "TB", unfold=True)) == []
    assert faults(lay_out(drawn, "LR")) == []


DETECTOR = spec_of(
    conv("a", "data"), conv("b", "a"), conv("c", "b"), conv("d", "c"), conv("e", "d"),
    *[conv(f"loc_{x}", x) for x in "bde"],
    *[conv(f"conf_{x}", x) for x in "bde"],
    join("loc", *[f"loc_{x}" for x in "bde"], type="Concat"),
    join("conf", *[f"conf_{x}" for x in "bde"], type="Concat"),
    join("sum", "loc", "conf", "a", type="Concat"),
)  # fmt: skip
CROSSED = spec_of(
    conv("a", "data"), conv("b", "data"), join("c", "a", "b"), join("d", "a", "b"), join("e", "b", "c", "d"),
    join("f", "a", "d", "data"), conv("g", "data"), join("h", "e", "f", "g"), conv("end", "a"),
)  # fmt: skip
SKIP = spec_of(  # b → e is a branch beside c, and both are a part of the mesh
    conv("a", "data"), conv("b", "data"), conv("c", "b"), conv("d", "b"), join("e", "a", "b", "c")
)


@pytest.mark.parametrize("direction", ["TB", "LR"])
@pytest.mark.parametrize("spec", [DETECTOR, CROSSED, SKIP], ids=["detector", "crossed", "skip"])
def test_nothing_overlaps_in_a_mesh(spec, direction):
    drawn = boxes(spec)
    assert "[" in shape_of(divide(drawn.boxes, drawn.edges))
    assert faults(lay_out(drawn, direction)) == []


def test_faults_are_found():
    drawn = boxes(spec_of(conv("a", "data"), conv("b", "a"), join("c", "a", "b")))
    layout = lay_out(drawn)
    assert faults(layout) == []
    a, b = (box for box in drawn.boxes if box.name in "ab")
    whole = layout.boxes[b]
    layout.boxes[b] = replace(whole, y=layout.boxes[a].y + 10)
    assert any("overlaps" in fault for fault in faults(layout))
    layout.boxes[b] = replace(whole, x=whole.x + 100)
    found = faults(layout)
    assert any("lies outside" in fault for fault in found)
    assert any("a → c crosses b" in fault for fault in found)
    assert any("a → b does not touch its boxes" in fault for fault in found)


def test_a_chain_is_one_straight_line():
    layout = lay_out(boxes(spec_of(conv("a", "data"), conv("b", "a"))))
    assert len({x for way in layout.ways.values() for x, _ in way}) == 1


def test_the_longest_branch_stays_in_line_and_the_skip_lies_beside_it():
    spec = spec_of(conv("a", "data"), conv("b", "a"), conv("c", "b"), join("d", "c", "data"))
    layout = lay_out(boxes(spec))
    assert len(set(middles_of(layout).values())) == 1
    (skip,) = (
        way for edge, way in layout.ways.items() if (edge.source.name, edge.target.name) == ("data", "d")
    )
    right = max(place.x + place.width for place in layout.boxes.values())
    assert max(x for x, _ in skip) > right


def middles_of(layout):
    """The x of the middle of each box, by its name."""
    return {box.name: place.x + place.width / 2 for box, place in layout.boxes.items()}


@pytest.mark.parametrize(("length", "is_in_line"), [(4, True), (3, False)])
def test_a_branch_much_longer_than_the_other_stays_in_line(length, is_in_line):
    branch = [conv(f"long{i}", f"long{i - 1}" if i else "data") for i in range(length)]
    spec = spec_of(*branch, conv("a", "data"), conv("b", "a"), join("end", f"long{length - 1}", "b"))
    middles = middles_of(lay_out(boxes(spec)))
    assert (middles["long0"] == middles["data"]) == is_in_line


def test_a_short_branch_with_a_source_of_its_own_stands_where_it_is_needed():
    other = "{name: other, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}"
    long = [conv(f"long{i}", f"long{i - 1}" if i else "data") for i in range(5)]
    spec = spec_of(*long, other, conv("a", "other"), conv("b", "a"), join("end", "long4", "b"))
    bottoms = {box.name: place.y + place.height for box, place in lay_out(boxes(spec)).boxes.items()}
    assert bottoms["b"] == bottoms["long4"]


def graph_of(feeds):
    """Boxes 0, 1, …, of which each is fed by those that ``feeds`` names."""
    found = [Box(f"{i}", "Concat", "other", [f"{i}"], ["Concat"], shape="3×8×8") for i in range(len(feeds))]
    return Boxes(
        found, [Edge(found[j], found[i], 100) for i, sources in enumerate(feeds) for j in sorted(sources)]
    )


def test_nothing_overlaps_in_nets_that_are_connected_at_random(rng):
    for _ in range(12):
        feeds = [set()]
        for i in range(1, rng.integers(5, 60)):
            near = max(0, i - rng.choice([2, 3, 8, 60]))
            feeds.append(set(rng.integers(near, i, rng.integers(0 if i % 9 == 0 else 1, 4)).tolist()))
        for direction in ("TB", "LR"):
            assert faults(lay_out(graph_of(feeds), direction)) == [], feeds


def test_skips_within_skips_and_long_chains_are_no_matter_of_depth():
    n = 100
    nested = [set(), *({i} for i in range(n)), *({n + i, n - i} for i in range(n))]
    sides = [set(), *({2 * (i // 2)} for i in range(2 * n))]
    chain = [set(), *({i} for i in range(2000))]
    for feeds in (nested, sides, chain):
        layout = lay_out(graph_of(feeds), unfold=True)
        corners = [(place.x, place.y) for place in layout.boxes.values()]
        assert len(set(corners)) == len(feeds)


def test_a_source_stands_just_above_the_place_where_it_is_needed():
    feeds = [set(), {0}, {1}, {2}, {3}, set(), {4, 5}, {1, 6}]
    layout = lay_out(graph_of(feeds))
    bottoms = {box.name: place.y + place.height for box, place in layout.boxes.items()}
    top = next(place.y for box, place in layout.boxes.items() if box.name == "6")
    assert 0 < top - bottoms["5"] < 80


def test_beside_a_recurrent_layer_there_is_room_for_its_loop():
    drawn = graph_of([set(), {0}, {0}, {1, 2}])
    drawn.boxes[1].time = 5
    places = {box.name: place for box, place in lay_out(drawn).boxes.items()}
    assert places["2"].x - (places["1"].x + places["1"].width) >= LOOP


def test_in_a_mesh_a_source_stands_in_the_row_above_its_user():
    feeds = [set(), {0}, {0}, {1, 2}, {1, 3}, set(), {4, 5}, {2, 3, 6}]
    drawn = graph_of(feeds)
    assert shape_of(divide(drawn.boxes, drawn.edges)).startswith("0 [")
    tops = {box.name: place.y for box, place in lay_out(drawn).boxes.items()}
    assert tops["5"] == tops["4"]


def test_a_drawing_may_be_laid_out_again_in_another_way():
    drawn = graph_of([set(), *({i} for i in range(60))])
    assert len(lay_out(drawn).boxes) == 1
    assert len(lay_out(drawn, unfold=True).ways) == 60
    assert len(lay_out(drawn).folds) == 1


def lines_beside(layout):
    """Where the way of an edge runs in a column that is neither its source's nor its target's: {"0 → 6": {x}}."""
    middles = middles_of(layout)
    found = {}
    for edge, way in layout.ways.items():
        ends = edge.source.name, edge.target.name
        runs = {p[0] for p, q in pairwise(way) if p[0] == q[0]} - {middles[name] for name in ends}
        if runs:
            found[" → ".join(ends)] = runs
    return found


@pytest.mark.parametrize(
    ("feeds", "one", "other"),
    [
        ([set(), {0}, {0}, {2}, {0, 2, 3}, {2}, {0, 2, 4}], "0 → 6", "2 → 6"),
        ([set(), {0}, {1}, {2}, {2}, {1, 2}, {2, 4}, {1, 2, 5}], "1 → 7", "2 → 7"),
    ],
)
def test_in_a_mesh_edges_to_one_box_share_a_track_and_edges_to_others_do_not(feeds, one, other):
    lines = lines_beside(lay_out(graph_of(feeds)))
    assert lines[one] == lines[other]
    assert all(lines[edge] != lines[one] for edge in lines if edge[-1] != one[-1])


def test_in_a_mesh_edges_to_one_box_share_a_free_lane_too():
    drawn = graph_of([set(), {0}, {0, 1}, {2}, {1}, {0}, {1, 2}, {1, 5}, {1, 4, 6}])
    for box in drawn.boxes[1::2]:
        box.time = 3
    layout = lay_out(drawn)
    lines = lines_beside(layout)
    assert middles_of(layout)["4"] in lines["1 → 8"]
    assert "4 → 8" not in lines  # it goes down below its source


def test_a_track_has_room_in_the_width_of_its_mesh():
    """A mesh that stands left of another branch, whose boxes its outermost track would else touch."""
    feeds = [set(), {0}, {0}, {2}, {3}, {3, 4}, {4, 5}, {4, 6}, {2, 7}, {8}, {9}, {10}, {11}]
    drawn = graph_of(feeds)
    for box in drawn.boxes[1::2]:
        box.time = 3
    assert faults(lay_out(drawn)) == []


def gap_between(layout, left, right):
    """The room between two boxes that stand beside each other."""
    places = {box.name: place for box, place in layout.boxes.items()}
    return places[right].x - places[left].x - places[left].width


def test_beside_a_branch_that_ends_only_what_is_as_deep_takes_room():
    feeds = [set(), {0}, {0}, {1}]  # 2 ends beside 1, and 3 lies below
    for recurrent, room in ((3, 0), (1, LOOP)):
        drawn = graph_of(feeds)
        drawn.boxes[recurrent].time = 3
        assert gap_between(lay_out(drawn), "1", "2") == room + COLUMN_GAP, recurrent


@pytest.mark.parametrize(
    "feeds",
    [
        [set(), {0}, {0, 1}, {0}],  # beside 0 → 2
        [set(), {0}, {0}, {0, 2}],
        [set(), {0}, {0}, {1}, {0}, {2}, {2}, {6}, {6}],  # 5 lies just below 3
        [set(), {0}, {1}, {0, 1}, {0, 2, 3}, {4}],
    ],
)
def test_what_stands_beside_a_long_branch_keeps_off_its_edges_and_boxes(feeds):
    for times in ((), (1, 3, 5, 7)):
        drawn = graph_of(feeds)
        for i in times:
            if i < len(drawn.boxes):
                drawn.boxes[i].time = 3
        layout = lay_out(drawn)
        assert faults(layout) == []
        assert rooms_beside_lines(layout) >= COLUMN_GAP


@pytest.mark.parametrize("feeds", [[set(), {0}, {0}, {0, 2}], [set(), {0}, {0}, {0, 2}, {2}]])
def test_what_ends_beside_a_long_branch_keeps_off_the_columns_of_its_edges(feeds):
    """Also of one that only begins to bend where the short branch has ended."""
    layout = lay_out(graph_of(feeds))
    boxes = {box.name: place for box, place in layout.boxes.items()}
    columns = [x for edge, way in layout.ways.items() if edge.target.name != "1" for x, _ in way]
    assert boxes["1"].x - max(columns) == COLUMN_GAP + LANE


def test_edges_far_below_a_branch_that_ends_are_no_matter_to_it():
    assert gap_between(lay_out(graph_of([set(), {0}, {0}, {1}, {1}])), "1", "2") == COLUMN_GAP


def rooms_beside_lines(layout):
    """The least room between a box and an edge that passes it."""
    rooms = [1000.0]
    for way in layout.ways.values():
        for (x, top), (right, bottom) in pairwise(way):
            for place in layout.boxes.values():
                if x == right and top < place.y + place.height and bottom > place.y:
                    rooms.append(max(place.x - x, x - place.x - place.width))
    return min(rooms)


def test_what_stands_beside_a_stack_keeps_off_its_frame(monkeypatch):
    monkeypatch.setattr(fold, "MANY", 3)
    names = ["data", "r1", "r2", "r3", "r4"]
    blocks = [
        layer
        for before, name in pairwise(names)
        for layer in (
            conv(f"{name}a", before),
            conv(f"{name}b", f"{name}a"),
            join(name, f"{name}b", before),
        )
    ]
    layout = lay_out(boxes(spec_of(conv("aux", "data"), *blocks)))
    (stack,) = layout.folds
    aux = next(place for box, place in layout.boxes.items() if box.name == "aux")
    assert faults(layout) == []
    assert aux.x - stack.frame.x - stack.frame.width == FRAME + COLUMN_GAP


def test_faults_of_what_is_too_close_are_found():
    layout = lay_out(graph_of([set(), {0}, {0, 1}, {0}]))
    assert faults(layout) == []
    edge = next(edge for edge in layout.ways if (edge.source.name, edge.target.name) == ("0", "2"))
    one = next(place for box, place in layout.boxes.items() if box.name == "1")
    x = one.x + one.width + 2
    layout.ways[edge] = [
        layout.ways[edge][0],
        (x, one.y - 1),
        (x, one.y + one.height + 1),
        layout.ways[edge][-1],
    ]
    assert any("0 → 2 is close to 1" in fault for fault in faults(layout))
    other = next(edge for edge in layout.ways if (edge.source.name, edge.target.name) == ("1", "2"))
    odd = Edge(next(box for box in layout.boxes if box.name == "3"), other.source)
    layout.ways[odd] = layout.ways[other]
    assert any("runs over" in fault for fault in faults(layout))
