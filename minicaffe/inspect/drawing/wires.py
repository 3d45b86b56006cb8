"""Wires: which layer feeds which, in one phase or in both at once. Split layers are dissolved into their users."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from minicaffe.core.blob import Blob
from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer
from minicaffe.spec.net import LayerSpec


@dataclass(frozen=True)
class View:
    """The layers of a net in one phase, connected; with the steps of those that could be made."""

    phase: str
    layers: Sequence[LayerSpec]
    steps: Sequence[Step | None] | None = None


@dataclass(eq=False)
class Node:
    """A layer, in the phases that have it. ``is_double``: each phase has one of its own of this name."""

    spec: LayerSpec
    step: Step | None
    phases: set[str]
    is_double: bool = False

    @property
    def layer(self) -> Layer | None:
        """The layer itself, where the net could be made."""
        return self.step.layer if self.step else None


@dataclass(eq=False)
class Wire:
    """Top number ``top`` of the source, named ``name`` there, is bottom number ``bottom`` of the target.

    ``is_in_place``: the target writes into the blob that it reads.
    """

    source: Node
    top: int
    name: str
    target: Node
    bottom: int
    blob: Blob | None
    is_in_place: bool
    phases: set[str]


@dataclass
class Wiring:
    """Nodes, each after those that feed it, and the wires between them, in the order of their targets."""

    phases: list[str]
    nodes: list[Node] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)


def wiring(views: Sequence[View]) -> Wiring:
    """The layers of all views; one of the same name and type in two views is one node.

    Raises SpecError where the views connect their layers in opposite orders.
    """
    result = Wiring([view.phase for view in views])
    nodes: dict[tuple[str, str], Node] = {}
    wires: dict[tuple[int, int, int, int], Wire] = {}
    for view in views:
        last: Node | None = None
        maker: dict[str, tuple[Node, int, str]] = {}
        for index, spec in enumerate(view.layers):
            if spec.type == "Split":
                maker.update(dict.fromkeys(spec.top, maker[spec.bottom[0]]))
                continue
            step = view.steps[index] if view.steps else None
            node = nodes.get((spec.name, spec.type))
            if node is None:
                node = nodes[spec.name, spec.type] = Node(spec, step, set())
                result.nodes.insert(_place_after(last, result.nodes), node)
            elif node.spec.include or node.spec.exclude:
                node.is_double = True
            node.phases.add(view.phase)
            last = node
            for bottom, name in enumerate(spec.bottom):
                source, top, first_name = maker[name]
                made = source.step.top[top] if source.step else None
                blob = step.bottom[bottom] if step else made
                wire = Wire(source, top, first_name, node, bottom, blob, name in spec.top, set())
                wire = wires.setdefault((id(source), top, id(node), bottom), wire)
                wire.phases.add(view.phase)
            maker.update({name: (node, top, name) for top, name in enumerate(spec.top)})
    result.nodes = _sorted(result.nodes, list(wires.values()))
    place_of = {id(node): i for i, node in enumerate(result.nodes)}
    result.wires = sorted(wires.values(), key=lambda wire: (place_of[id(wire.target)], wire.bottom))
    return result


def _place_after(node: Node | None, nodes: list[Node]) -> int:
    """The place behind a node in a list: most often the end."""
    if node is None:
        return 0
    return len(nodes) if node is nodes[-1] else nodes.index(node) + 1


def _sorted(nodes: list[Node], wires: list[Wire]) -> list[Node]:
    """The nodes in their order, but each after those that feed it."""
    rank = {id(node): i for i, node in enumerate(nodes)}
    waits = {id(node): 0 for node in nodes}
    users: dict[int, list[Node]] = {id(node): [] for node in nodes}
    for wire in wires:
        waits[id(wire.target)] += 1
        users[id(wire.source)].append(wire.target)
    ready = [rank[id(node)] for node in nodes if not waits[id(node)]]
    result: list[Node] = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        result.append(node)
        for user in users[id(node)]:
            waits[id(user)] -= 1
            if not waits[id(user)]:
                heapq.heappush(ready, rank[id(user)])
    if len(result) < len(nodes):
        odd = next(node for node in nodes if waits[id(node)])
        raise odd.spec.error("", "the two phases connect it in opposite orders; draw one phase at a time")
    return result
