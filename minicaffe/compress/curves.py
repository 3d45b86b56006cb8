"""What each layer loses at what cost, and plans that are good provided that losses add up.

For a price p of one unit of cost, each layer takes the rank with the least rise + p · cost. As p grows, one layer
after the other gets cheaper: these plans are the lower hull of all plans (Shoham and Gersho 1988,
doi 10.1109/29.90373).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minicaffe.compress.plan import LayerRank, Plan


@dataclass(frozen=True)
class Point:
    """One layer at one rank (None: dense): its cost, and what is lost when it alone is approximated."""

    choice: LayerRank | None
    cost: float
    rise: float


Curve = list[Point]  # of one layer: the dense layer first, and then cheaper and cheaper


def make_curve(dense: Point, points: Sequence[Point]) -> Curve:
    """The points that no other beats: along the curve costs fall and losses rise."""
    frontier = [dense]
    for point in sorted(points, key=lambda p: (p.rise, p.cost)):
        if point.cost < frontier[-1].cost:
            frontier.append(point)
    return frontier


def hull(curve: Curve) -> Curve:
    """The points of a curve that are the best at some price: each step saves its cost at a higher price."""
    found: Curve = []
    for point in curve:
        while len(found) > 1 and _price(found[-2], found[-1]) >= _price(found[-1], point):
            found.pop()
        found.append(point)
    return found


def _price(dearer: Point, cheaper: Point) -> float:
    """What is lost for each unit of cost that is saved."""
    return (cheaper.rise - dearer.rise) / (dearer.cost - cheaper.cost)


def path(curves: Mapping[str, Curve]) -> list[Plan]:
    """All plans that are the best at some price, from the dense net, {}, to the cheapest; layers in their order."""
    steps = []
    for name, curve in curves.items():
        best = hull(curve)
        steps += [(_price(a, b), name, b.choice) for a, b in pairwise(best)]
    chosen: dict[str, LayerRank | None] = dict.fromkeys(curves)
    plans: list[Plan] = [{}]
    for _, name, choice in sorted(steps, key=lambda step: step[0]):
        chosen[name] = choice
        plans.append({layer: rank for layer, rank in chosen.items() if rank is not None})
    return plans


def best_within(curves: Mapping[str, Curve], fits: Callable[[Plan], bool]) -> Plan | None:
    """A plan that ``fits`` a limit of cost, and loses about as little as any that does; None if there is none.

    It is the first of the path that fits, and then ``filled``. The path has the best plans at their own costs only:
    between two of them this is a greedy choice, which may lose more than the best.
    """
    plan = next((plan for plan in path(curves) if fits(plan)), None)
    return None if plan is None else filled(curves, plan, fits)


def filled(curves: Mapping[str, Curve], plan: Plan, fits: Callable[[Plan], bool]) -> Plan:
    """A plan with as much of its loss undone as still ``fits``: step by step what gains most for what it costs."""
    plan = dict(plan)
    while True:
        steps = []
        for name, curve in curves.items():
            at = next(i for i, point in enumerate(curve) if point.choice == plan.get(name))
            steps += [(_price(dearer, curve[at]), name, dearer.choice) for dearer in curve[:at]]
        for _, name, choice in sorted(steps, key=lambda step: -step[0]):
            better = {layer: rank for layer, rank in {**plan, name: choice}.items() if rank is not None}
            if fits(better):
                plan = better
                break
        else:
            return plan
