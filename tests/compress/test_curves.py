"""Curves keep what nothing beats, and the plans on their hull are the best ones as long as losses add up."""

import itertools

import numpy as np
import pytest

from minicaffe.compress.curves import Point, best_within, filled, hull, make_curve, path
from minicaffe.compress.plan import LayerRank

pytestmark = pytest.mark.cpu_only("numbers of Python, whatever the device is")

DENSE = Point(None, 100.0, 0.0)
SEEDS = range(5)


def point(rank, cost, rise, scheme="CHANNEL"):
    return Point(LayerRank(scheme, rank), float(cost), float(rise))


def random_points(seed, count=40):
    """Points of two schemes, some dearer than the dense layer."""
    rng = np.random.default_rng(seed)
    return [
        point(rank, rng.uniform(1, 120), rng.uniform(0, 1), scheme)
        for scheme in ("CHANNEL", "SPATIAL")
        for rank in range(1, count // 2 + 1)
    ]


def random_curves(seed, layers=3, ranks=16):
    """Curves of layers that lose more than in proportion the cheaper they are, but for some noise."""
    rng = np.random.default_rng(seed)
    curves = {}
    for name in "dbca"[:layers]:
        cost, scale, power = rng.uniform(50, 150), rng.uniform(0.5, 2), rng.uniform(1.5, 4)
        points = [
            point(rank, cost * share, scale * rng.uniform(0.95, 1.05) * (1 - 0.8 * share) ** power)
            for rank, share in enumerate(np.linspace(0.05, 1.1, ranks), 1)
        ]
        curves[name] = make_curve(Point(None, float(cost), 0.0), points)
    return curves


def points_of(curves, plan):
    return [next(p for p in curve if p.choice == plan.get(name)) for name, curve in curves.items()]


def total(curves, plan, what):
    return sum(getattr(p, what) for p in points_of(curves, plan))


def all_plans(curves):
    """Every combination of the points of some curves: costs, rises, and the combinations."""
    combinations = list(itertools.product(*curves.values()))
    costs, rises = (
        np.array([sum(getattr(p, what) for p in points) for points in combinations])
        for what in ("cost", "rise")
    )
    return costs, rises, combinations


# -- the curve of one layer ------------------------------------------------------------------------------

DROPPED = {
    "dearer and no better": ([point(6, 60, 0.3), point(5, 50, 0.3)], [5]),
    "dearer and worse": ([point(6, 60, 0.4), point(5, 50, 0.3)], [5]),
    "no cheaper and worse": ([point(6, 50, 0.4), point(5, 50, 0.3)], [5]),
    "dearer than dense": ([point(11, 110, 0.01), point(5, 50, 0.3)], [5]),
    "as dear as dense": ([point(10, 100, 0.01), point(5, 50, 0.3)], [5]),
    "of another scheme, dearer and worse": ([point(6, 60, 0.4), point(5, 50, 0.3, "SPATIAL")], [5]),
    "none": ([point(1, 10, 0.3, "SPATIAL"), point(6, 60, 0.1), point(5, 50, 0.2)], [6, 5, 1]),
    "none, though it loses nothing": ([point(6, 60, 0.0), point(5, 50, 0.2)], [6, 5]),
}


@pytest.mark.parametrize(("points", "ranks"), DROPPED.values(), ids=DROPPED)
def test_points_that_another_one_beats_are_dropped(points, ranks):
    for order in itertools.permutations(points):
        curve = make_curve(DENSE, order)
        assert curve[0] is DENSE
        assert [p.choice.rank for p in curve[1:]] == ranks


@pytest.mark.parametrize("seed", SEEDS)
def test_a_curve_is_all_points_that_no_other_beats_and_along_it_costs_fall_and_losses_rise(seed):
    points = random_points(seed)
    curve = make_curve(DENSE, points)
    assert all(a.cost > b.cost and a.rise < b.rise for a, b in itertools.pairwise(curve))
    everything = [DENSE, *points]
    best = {
        p for p in everything if not any(q.cost <= p.cost and q.rise <= p.rise and q != p for q in everything)
    }
    assert set(curve) == best
    assert len(curve) > 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hull_is_convex_and_no_point_of_the_curve_lies_below_it(seed):
    curve = make_curve(DENSE, random_points(seed))
    found = hull(curve)
    assert found[0] == curve[0] and found[-1] == curve[-1]
    assert set(found) < set(curve)
    prices = [(b.rise - a.rise) / (a.cost - b.cost) for a, b in itertools.pairwise(found)]
    assert all(a < b for a, b in itertools.pairwise(prices))
    line = sorted((p.cost, p.rise) for p in found)
    for p in curve:
        assert p.rise >= np.interp(p.cost, *np.transpose(line)) - 1e-12


def test_points_on_a_straight_line_are_one_step_of_the_hull():
    curve = [DENSE, point(6, 60, 0.4), point(4, 40, 0.6), point(1, 10, 1.8)]
    assert hull(curve) == [DENSE, curve[2], curve[3]]
    assert hull([DENSE]) == [DENSE]


# -- plans for all layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plan_that_is_best_at_a_price_is_on_the_path_whatever_the_price(seed):
    curves = random_curves(seed)
    costs, rises, combinations = all_plans(curves)
    plans, met = path(curves), []
    for price in np.geomspace(1e-6, 1, 300):
        best = combinations[int((rises + price * costs).argmin())]
        plan = {name: p.choice for name, p in zip(curves, best, strict=True) if p.choice}
        assert plan in plans
        met.append(plans.index(plan))
    assert met == sorted(met)
    assert met[0] == 0 and met[-1] == len(plans) - 1
    assert len(set(met)) > len(plans) / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_path_goes_from_dense_to_cheapest_one_layer_at_a_time(seed):
    curves = random_curves(seed, layers=4)
    plans = path(curves)
    assert plans[0] == {}
    assert plans[-1] == {name: curve[-1].choice for name, curve in curves.items()}
    for before, after in itertools.pairwise(plans):
        assert sum(before.get(name) != after.get(name) for name in curves) == 1
        assert before.keys() <= after.keys()
        assert total(curves, after, "cost") < total(curves, before, "cost")
        assert total(curves, after, "rise") > total(curves, before, "rise")
    assert all(list(plan) == [name for name in curves if name in plan] for plan in plans)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plan_within_a_limit_keeps_to_it_and_is_within_a_few_hundredths_of_the_best(seed):
    curves = random_curves(seed)
    costs, rises, _ = all_plans(curves)
    worse = []
    for share in np.linspace(0.1, 0.95, 18):
        limit = share * costs.max()
        plan = best_within(curves, lambda plan: total(curves, plan, "cost") <= limit)  # noqa: B023
        assert total(curves, plan, "cost") <= limit
        worse.append(total(curves, plan, "rise") / rises[costs <= limit].min())
    assert min(worse) >= 1 - 1e-12
    assert max(worse) < 1.12
    assert np.mean(worse) < 1.03


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_left_of_a_limit_is_spent_until_no_step_back_fits(seed):
    curves = random_curves(seed)
    most = total(curves, {}, "cost")
    for share in (0.15, 0.3, 0.6, 0.9):
        limit = share * most
        plan = best_within(curves, lambda plan: total(curves, plan, "cost") <= limit)  # noqa: B023
        for at, curve in zip(points_of(curves, plan), curves.values(), strict=True):
            for dearer in curve[: curve.index(at)]:
                assert total(curves, plan, "cost") - at.cost + dearer.cost > limit


def test_a_plan_is_filled_with_what_gains_most_for_its_cost():
    curves = {
        "a": [DENSE, point(5, 50, 0.1), point(1, 10, 0.9)],
        "b": [DENSE, point(8, 80, 0.2), point(4, 40, 0.3)],
    }
    cheapest = path(curves)[-1]
    assert total(curves, cheapest, "cost") == 50
    for limit, ranks in (
        (50, (1, 4)),
        (89, (1, 4)),
        (90, (5, 4)),
        (130, (5, 8)),
        (150, (5, None)),
        (200, (None,) * 2),
    ):
        plan = filled(curves, cheapest, lambda plan: total(curves, plan, "cost") <= limit)  # noqa: B023
        found = tuple(plan[name].rank if name in plan else None for name in curves)
        assert found == ranks, limit
    assert cheapest == {"a": LayerRank("CHANNEL", 1), "b": LayerRank("CHANNEL", 4)}  # as it was


def test_where_everything_fits_the_plan_is_the_dense_net():
    assert best_within(random_curves(1), lambda plan: True) == {}


def test_where_even_the_cheapest_plan_costs_too_much_there_is_none():
    curves = random_curves(3)
    least = total(curves, path(curves)[-1], "cost")
    assert best_within(curves, lambda plan: total(curves, plan, "cost") < least) is None
    assert best_within(curves, lambda plan: total(curves, plan, "cost") <= least) == path(curves)[-1]


def test_curves_of_nothing_but_dense_layers_make_the_empty_plan():
    curves = {"a": make_curve(DENSE, []), "b": [DENSE]}
    assert path(curves) == path({}) == [{}]
    assert best_within(curves, lambda plan: True) == {}
    assert best_within(curves, lambda plan: False) is None
