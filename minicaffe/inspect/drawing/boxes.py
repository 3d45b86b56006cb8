"""Boxes: what is drawn of a net. A box for each layer, except for those that only change another layer's output.

A layer in place becomes a row in the box that made its blob, and so does an activation, a BatchNorm, Scale or Bias
that alone uses its bottom. Bottoms of which only labels or shapes are used are tags in the box, not edges.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, layer_classes
from minicaffe.inspect.drawing.measure import text_width, wrapped
from minicaffe.inspect.drawing.wires import Node, View, Wire, Wiring, wiring
from minicaffe.inspect.drawing.words import count, dims, low_rank_lines, percent, rank_asked, what
from minicaffe.inspect.summary import computed_counts
from minicaffe.layers.recurrent import RecurrentLayer
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import OneStage

KINDS = {
    "Convolution": "conv", "Deconvolution": "conv", "DepthwiseConvolution": "conv",
    "ConvolutionDepthwise": "conv", "InnerProduct": "ip", "Embed": "ip", "Pooling": "pool", "SPP": "pool",
    "ROIPooling": "pool", "PSROIPooling": "pool", "Input": "data", "Accuracy": "data",
}  # fmt: skip
ALONE = {"LRN", "MVN", "Python", "Softmax"}  # types that may work in place, but are no activations
WIDTH, SIDE = 156.0, 9.0  # of a box, and its margins
NAME, SMALL, TINY = 11.0, 9.5, 8.5  # sizes of texts: of a name, of the lines below it, of what is beside
NARROW = 100.0  # of a box beside others, where there is little room
MOST_TOPS = 8  # that a box lists
SHAPE_ONLY = {("Crop", 1), ("PriorBox", 1)}  # bottoms of which only the shape is used


@dataclass(eq=False)
class Box:
    """A layer and its rows. ``lines`` say what they do, ``tops`` what it gives if those are blobs of different
    shapes; ``tags`` name inputs that are not drawn as edges.

    ``kind`` is "conv", "ip", "pool", "data", "loss" or "other". ``work`` and ``weights`` are multiply-adds and
    parameters (a shared one belongs to the first box that has it), ``shape`` that of one image's output. ``path``
    is what the name begins with if that stands above the rest of it, in a narrow box. ``waist`` is rank / full rank
    of a layer of low rank, whose first stage is the first line; ``time`` the number of steps of a recurrent layer;
    ``letters`` number parameters that are shared. ``badge`` names the phase of a layer that the other phase does
    not have.
    """

    name: str
    type: str
    kind: str
    layers: list[str]
    lines: list[str]
    tops: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    shape: str = ""
    work: int = 0
    weights: int = 0
    waist: float | None = None
    time: int | None = None
    letters: list[int] = field(default_factory=list)
    is_fixed: bool = False
    badge: str = ""
    is_double: bool = False
    path: str = ""
    sentence: str = ""


@dataclass(eq=False)
class Edge:
    """What one box hands to another: ``size`` bytes of one image. ``is_partial``: in one phase only."""

    source: Box
    target: Box
    size: int = 0
    is_partial: bool = False


@dataclass
class Boxes:
    """What is drawn of a net: boxes, each after those that feed it, and edges; the net's totals; a box's width."""

    boxes: list[Box]
    edges: list[Edge]
    work: int = 0
    weights: int = 0
    width: float = WIDTH


def boxes_of(views: Sequence[View], weights: int = 0, width: float = WIDTH) -> Boxes:
    """The boxes, so wide, of a net with so many parameters, seen in one phase or in both.

    If some layers could not be made, there are no totals, and so no shares.
    """
    wired = wiring(views)
    groups = _groups(wired)
    whole = any(isinstance(node.layer, RecurrentLayer) for node in wired.nodes)
    shared = _shared(wired.nodes)
    home: dict[int, Box] = {}
    counted: set[int] = set()
    boxes = []
    for group in groups:
        box = _box(group, wired, shared, whole, width - 2 * SIDE)
        box.weights = sum(_own_weights(node.step.layer, counted) for node in group if node.step)
        home.update({id(node): box for node in group})
        box.tops = _tops(group[0], wired, whole)
        boxes.append(box)
    edges: dict[tuple[int, int], Edge] = {}
    phases: dict[Edge, set[str]] = {}
    made: dict[int, list[str]] = {}
    for wire in wired.wires:
        source, target = home[id(wire.source)], home[id(wire.target)]
        if source is target:
            continue
        if _is_tag(wire):
            target.tags.append(f"← {wire.name}")
            continue
        edge = edges.setdefault((id(source), id(target)), Edge(source, target))
        phases.setdefault(edge, set()).update(wire.phases)
        edge.size = max(edge.size, _bytes(wire.blob))
        edge.is_partial = len(phases[edge]) < len(wired.phases)
        made.setdefault(id(source), []).append(shape_text(wire.blob, whole))
    for box in boxes:
        shapes = dict.fromkeys(shape for shape in made.get(id(box), ()) if shape)
        box.shape = " · ".join(shapes) or box.shape
        if box.kind == "other" and id(box) not in made and not box.type.endswith("Silence"):
            box.kind = "data"  # what the net gives out
    is_whole = all(step for view in views for step in view.steps or ())
    work = sum(box.work for box in boxes) if is_whole else 0
    drawn = Boxes(boxes, list(edges.values()), work, weights if is_whole else 0, width)
    for box in boxes:
        box.sentence = _sentence(box, drawn)
    return drawn


def _groups(wired: Wiring) -> list[list[Node]]:
    """The nodes of each box: the layer, and those that are its rows."""
    uses = Counter((id(wire.source), wire.top) for wire in wired.wires)
    into: dict[int, list[Wire]] = {}
    for wire in wired.wires:
        into.setdefault(id(wire.target), []).append(wire)
    groups: list[list[Node]] = []
    group_of: dict[int, list[Node]] = {}
    for node in wired.nodes:
        group = _host(node, into.get(id(node), []), uses, group_of)
        if group is None:
            group = []
            groups.append(group)
        group.append(node)
        group_of[id(node)] = group
    return groups


def _host(
    node: Node, wires: list[Wire], uses: Counter[tuple[int, int]], group_of: dict[int, list[Node]]
) -> list[Node] | None:
    """The nodes of the box in which a layer is a row; None if it has a box of its own."""
    hosts = {id(group_of[id(wire.source)]): group_of[id(wire.source)] for wire in wires}
    if len(hosts) != 1 or len(node.spec.top) != 1:
        return None
    (host,) = hosts.values()
    if all(wire.is_in_place for wire in wires):
        return host
    tops = {(id(wire.source), wire.top) for wire in wires}
    source = wires[0].source
    is_alone = len(tops) == 1 and uses[next(iter(tops))] == 1 and len(source.spec.top) == 1
    cls = layer_classes.get(node.spec.type)
    changes_it = cls is not None and cls.in_place and node.spec.type not in ALONE
    is_next = host[-1] is source and node.phases == source.phases
    return host if is_alone and changes_it and is_next else None


def _is_tag(wire: Wire) -> bool:
    """Whether an input is named in the box rather than drawn: a label, a shape, marks of where sequences begin."""
    spec, is_given = wire.target.spec, not wire.source.spec.bottom
    if (spec.type, wire.bottom) in SHAPE_ONLY:
        return True
    if not is_given or wire.bottom == 0:
        return False
    cls = layer_classes.get(spec.type, Layer)
    takes_labels = spec.is_loss or any(spec.loss_weight) or spec.type == "Accuracy"
    return takes_labels or (issubclass(cls, RecurrentLayer) and wire.bottom == 1)


def _shared(nodes: Iterable[Node]) -> dict[int, list[int]]:
    """The numbers of the shared parameters that a node has, by the node's id."""
    holders: dict[object, list[Node]] = {}
    for node in nodes:
        blobs = node.step.layer.blobs if node.step else []
        owners: list[object] = [id(blob.data_owner) for blob in blobs]
        for owner in owners or [param.name for param in node.spec.param if param.name]:
            holders.setdefault(owner, []).append(node)
    letters: dict[int, list[int]] = {}
    groups: dict[tuple[int, ...], int] = {}
    for users in holders.values():
        users = list(dict.fromkeys(users))
        if len(users) > 1:
            number = groups.setdefault(tuple(id(user) for user in users), len(groups) + 1)
            for user in users:
                if number not in letters.setdefault(id(user), []):
                    letters[id(user)].append(number)
    return letters


def _box(group: list[Node], wired: Wiring, shared: dict[int, list[int]], whole: bool, room: float) -> Box:
    """The box of a layer and its rows, whose lines are as long as there is ``room``."""
    node = group[0]
    spec, layer = node.spec, node.layer
    lines, waist = [what(spec, layer)], None
    if isinstance(layer, LowRankLayer):
        lines = list(low_rank_lines(layer))
        low = layer.low_rank
        waist = 1.0 if isinstance(low.product(0), OneStage) else low.rank / low.full_rank
    elif (low_rank := spec.find_message(LowRankParam)) is not None and spec.has("low_rank_param"):
        lines.append(rank_asked(low_rank))
    if node.is_double:
        lines[0] += ", one for each phase"
    stage = [] if waist is None else [lines.pop(0)]  # above the waist there is one line
    lines = [*stage, *(part for line in lines for part in wrapped(line, room, SMALL))]
    rows = [_row(row, node) for row in group[1:]]
    steps = [n.step for n in group if n.step]
    is_partial = len(node.phases) < len(wired.phases)
    kind = KINDS.get(spec.type, "other")
    if spec.is_loss or any(spec.loss_weight):
        kind = "loss"
    elif spec.brings_data:
        kind = "data"
    return Box(
        spec.name,
        spec.type,
        kind,
        [n.spec.name for n in group],
        _with_rows(lines, rows, room),
        shape=shape_text(steps[-1].top[0], whole) if steps and steps[-1].top else "",
        work=sum(step.multiply_adds for step in steps),
        waist=waist,
        time=node.step.bottom[0].shape[0] if node.step and isinstance(layer, RecurrentLayer) else None,
        letters=sorted({letter for n in group for letter in shared.get(id(n), ())}),
        is_fixed=_is_fixed(node),
        badge=next(iter(node.phases)) if is_partial else "",
        is_double=node.is_double,
        path=_path(spec.name, room) if room < WIDTH - 2 * SIDE else "",
    )


def _path(name: str, room: float) -> str:
    """What a name begins with if the rest alone has room: "inception_3a/" of "inception_3a/3x3_reduce", else ""."""
    if text_width(name, NAME, True) <= room:
        return ""
    rests = (found.end() for sign in ("/", r"[_.\- ]") for found in re.finditer(sign, name))
    fitting = (place for place in rests if 0 < text_width(name[place:], NAME, True) <= room)
    return name[: next(fitting, 0)]


def _tops(node: Node, wired: Wiring, whole: bool) -> list[str]:
    """What a layer gives, blob by blob, if their shapes differ or if one of them is for nobody."""
    if node.step is None or len(node.spec.top) < 2 or node.spec.brings_data:
        return []
    used = {wire.top for wire in wired.wires if wire.source is node}
    shapes = [shape_text(blob, whole) for blob in node.step.top]
    if len(set(shapes)) == 1 and len(used) == len(shapes):
        return []
    told = [
        f"{name}: {shape or 'one number'}{'' if i in used else ', net output'}"
        for i, (name, shape) in enumerate(zip(node.spec.top, shapes, strict=True))
    ]
    more = len(told) - MOST_TOPS
    return told if more <= 0 else [*told[:MOST_TOPS], f"and {more} more"]


def _own_weights(layer: Layer, counted: set[int]) -> int:
    """How many parameters a layer has of its own: those that are shared belong to the first that has them."""
    owners = [id(blob.data_owner) for blob in layer.blobs]
    numbers = sum(n for n, owner in zip(computed_counts(layer), owners, strict=True) if owner not in counted)
    counted.update(owners)
    return numbers


def _with_rows(lines: list[str], rows: list[str], room: float) -> list[str]:
    """The lines of a box with its rows, in the last line if there is room, or else in their own."""
    joined = " · ".join(rows)
    together = f"{lines[-1]} · {joined}"
    if not rows:
        return lines
    fits = text_width(together, SMALL) <= room
    return [*lines[:-1], together] if fits else [*lines, *wrapped(joined, room, SMALL)]


def _row(row: Node, host: Node) -> str:
    """A row's words; with its phase, if only one has it."""
    words = what(row.spec, row.step.layer if row.step else None)
    return words if row.phases == host.phases else f"{words} ({', '.join(row.phases).lower()})"


def _is_fixed(node: Node) -> bool:
    """Whether the layer has parameters, and the spec says that none of them is trained."""
    params = node.spec.param
    has_any = bool(node.step.layer.blobs) if node.step else bool(params)
    enough = len(params) >= len(node.step.layer.blobs) if node.step else True
    return has_any and bool(params) and enough and node.spec.type not in ("BatchNorm", "BN") and all(
        param.lr_mult == 0 for param in params
    )  # fmt: skip


def shape_text(blob: Blob | None, whole: bool = False) -> str:
    """The shape of one image's blob, "20×12×12", or of the whole, as of sequences. "" if it is one number."""
    if blob is None:
        return ""
    return dims(blob.shape if whole else blob.shape[1:])


def _bytes(blob: Blob | None) -> int:
    """The bytes of one image's blob."""
    return math.prod(blob.shape[1:]) * blob.dtype.itemsize if blob is not None else 0


def _sentence(box: Box, drawn: Boxes) -> str:
    """The box in words, for those who hear it."""
    first = f"{box.name}, {box.type}: {', '.join(box.lines)}"
    parts = [first, f"output {box.shape}"] if box.shape else [first]
    parts += [f"takes {tag.removeprefix('← ')} too" for tag in box.tags]
    for number, total, noun in (
        (box.weights, drawn.weights, "parameters"),
        (box.work, drawn.work, "multiply-adds"),
    ):
        if number:
            share = f" ({percent(number / total)} of all)" if total else ""
            parts.append(f"{count(number)} {noun}{share}")
    parts += [f"rank {box.waist:.0%} of the full rank"] if box.waist is not None else []
    parts += [f"runs over {box.time} steps"] if box.time is not None else []
    parts += ["its parameters are not trained"] if box.is_fixed else []
    parts += [f"shares parameters (number {', '.join(map(str, box.letters))})"] if box.letters else []
    parts += [f"only in phase {box.badge}"] if box.badge else []
    return "; ".join(parts)
