"""What each layer loses at what cost, and the plans that are best provided that losses add up.

For a price p of one unit of cost, each layer takes the rank with the least rise + p · cost. As p grows, plans get
cheaper: they are the lower hull of all plans (Shoham and Gersho 1988, doi 10.1109/29.90373).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minicaffe.compress.workbench import LayerRank, Plan

LEAST_RISE = 1e-5  # of the loss: a smaller one cannot be told from none
BISECTIONS = 8


@dataclass(frozen=True)
class Point:
    """One layer at one rank (None: dense): its cost, and the rise of the loss when it alone is approximated."""

    choice: LayerRank | None
    cost: float
    rise: float


Curve = list[Point]  # of one layer: the dense layer first, and then cheaper and cheaper


def make_curve(dense: Point, points: Sequence[Point], cost: Callable[[LayerRank], float]) -> Curve:
    """The measured points that no other beats, and between two of one scheme all ranks, interpolated.

    The logarithm of the rise is assumed to be linear in the logarithm of the cost.
    """
    frontier: Curve = [dense]
    for point in sorted(points, key=lambda p: (max(p.rise, LEAST_RISE), p.cost)):
        if point.cost < frontier[-1].cost:
            frontier.append(point)
    filled = frontier[:1]
    for dearer, cheaper in pairwise(frontier):
        filled += [*_between(dearer, cheaper, cost), cheaper]
    return filled


def _between(dearer: Point, cheaper: Point, cost: Callable[[LayerRank], float]) -> Iterator[Point]:
    if dearer.choice is None or cheaper.choice is None or dearer.choice.scheme != cheaper.choice.scheme:
        return
    high, low = math.log(max(cheaper.rise, LEAST_RISE)), math.log(max(dearer.rise, LEAST_RISE))
    width, last = math.log(dearer.cost / cheaper.cost), dearer.cost
    for rank in range(dearer.choice.rank - 1, cheaper.choice.rank, -1):
        choice = LayerRank(cheaper.choice.scheme, rank)
        price = cost(choice)
        if cheaper.cost < price < last:  # measured times may not fall with every rank
            last = price
            part = math.log(dearer.cost / price) / width
            yield Point(choice, price, math.exp(low + part * (high - low)))


def plan_at(curves: dict[str, Curve], price: float) -> Plan:
    """The plan whose every layer has the least rise + price · cost."""
    best = {name: min(points, key=lambda p: p.rise + price * p.cost) for name, points in curves.items()}
    return {name: point.choice for name, point in best.items() if point.choice is not None}


def cheapest(curves: dict[str, Curve], allows: Callable[[Plan], bool], bisections: int = BISECTIONS) -> Plan:
    """The cheapest plan on the hull that is allowed, by bisection of the price; the empty one if there is none."""
    low, high = _price_range(curves)
    best: Plan = {}
    for _ in range(bisections):
        middle = (low + high) / 2
        plan = plan_at(curves, math.exp(middle))
        if plan == best or allows(plan):
            best, low = plan, middle
        else:
            high = middle
    return best


def best_within(curves: dict[str, Curve], fits: Callable[[Plan], bool]) -> Plan | None:
    """The plan on the hull that loses least among those that ``fits`` a limit of cost; None if there is none."""
    low, high = _price_range(curves)
    best = None
    for _ in range(40):
        middle = (low + high) / 2
        plan = plan_at(curves, math.exp(middle))
        if fits(plan):
            best, high = plan, middle
        else:
            low = middle
    return best


def _price_range(curves: dict[str, Curve]) -> tuple[float, float]:
    """Logarithms of prices that make every layer dense, and every layer as cheap as it gets."""
    slopes = [s for points in curves.values() for s in _slopes(points)]
    return math.log(min(slopes, default=1.0)) - 1, math.log(max(slopes, default=1.0)) + 1


def _slopes(points: Curve) -> Iterator[float]:
    """Rise for each unit of cost that is saved, from one point of a curve to the next."""
    for dearer, cheaper in pairwise(points):
        slope = (cheaper.rise - dearer.rise) / (dearer.cost - cheaper.cost)
        if slope > 0:
            yield slope
