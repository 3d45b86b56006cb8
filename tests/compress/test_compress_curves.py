"""Curves keep what is worth having, plans on their hull are the best ones, and a journal loses nothing."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minicaffe.compress.curves import Point, best_within, cheapest, make_curve, plan_at
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.compress.selection import Selector
from minicaffe.compress.workbench import LayerRank, Measured
from minicaffe.errors import MinicaffeError, WriteError

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

DENSE = Point(None, 100.0, 0.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.journal.jsonl"


def point(rank, rise, scheme="CHANNEL"):
    return Point(LayerRank(scheme, rank), cost(LayerRank(scheme, rank)), rise)


def cost(choice):
    return choice.rank * {"CHANNEL": 10.0, "SPATIAL": 4.0}[choice.scheme]


def measured(curve):
    """(scheme, rank, rise) of the points of a curve after the dense one."""
    assert curve[0] is DENSE
    return [(p.choice.scheme, p.choice.rank, p.rise) for p in curve[1:]]


# -- curves ----------------------------------------------------------------------------------------------

DROPPED = {
    "dearer and no better": ([point(6, 0.3), point(5, 0.3)], [5]),
    "dearer and worse": ([point(6, 0.4), point(5, 0.3)], [5]),
    "dearer than dense": ([point(11, 0.01), point(5, 0.3)], [5]),
    "as dear as dense": ([point(10, 0.01), point(5, 0.3)], [5]),
    "of another scheme, dearer and worse": ([point(6, 0.4), point(5, 0.3, "SPATIAL")], [5]),
    "none": ([point(1, 0.3, "SPATIAL"), point(6, 0.1), point(5, 0.2, "SPATIAL")], [6, 5, 1]),
}


@pytest.mark.parametrize(("points", "ranks"), DROPPED.values(), ids=DROPPED)
def test_points_that_another_one_beats_are_dropped(points, ranks):
    for order in itertools.permutations(points):
        curve = make_curve(DENSE, order, cost)
        assert curve[0] is DENSE
        assert [p.choice.rank for p in curve if p in points] == ranks


@pytest.mark.parametrize("rise", [-0.2, 0.0, 5e-6])
def test_a_cheaper_point_that_loses_nothing_is_kept(rise):
    curve = make_curve(DENSE, [point(7, rise), point(3, 0.2)], cost)
    assert point(7, rise) in curve
    assert plan_at({"conv": curve}, 1e-6) == {"conv": LayerRank("CHANNEL", 7)}


def test_between_two_ranks_of_one_scheme_all_ranks_are_filled_in_rising_as_a_power_of_the_cost():
    curve = make_curve(DENSE, [point(8, 0.01), point(2, 0.16)], cost)
    assert [p.choice.rank for p in curve[1:]] == [8, 7, 6, 5, 4, 3, 2]
    assert [p.cost for p in curve[1:]] == [80, 70, 60, 50, 40, 30, 20]
    np.testing.assert_allclose([p.rise for p in curve[1:]], [0.01 * (8 / r) ** 2 for r in range(8, 1, -1)])


def test_no_ranks_are_filled_in_between_schemes_nor_before_the_first_point():
    points = [point(20, 0.02, "SPATIAL"), point(6, 0.03), point(10, 0.1, "SPATIAL"), point(3, 0.2)]
    assert measured(make_curve(DENSE, points, cost)) == [
        ("SPATIAL", 20, 0.02),
        ("CHANNEL", 6, 0.03),
        ("SPATIAL", 10, 0.1),
        ("CHANNEL", 3, 0.2),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_along_any_curve_costs_fall_and_losses_rise(seed):
    rng = np.random.default_rng(seed)
    points = [point(int(rank), float(rng.uniform(0.001, 1) / rank)) for rank in rng.permutation(9) + 1]
    points += [point(int(rank), float(rng.uniform(0.001, 1) / rank), "SPATIAL") for rank in range(1, 25, 3)]
    curve = make_curve(DENSE, points, cost)
    assert len(curve) > 3
    assert all(a.cost > b.cost and a.rise <= b.rise for a, b in itertools.pairwise(curve))
    beaten = [p for p in points if any(q.cost < p.cost and q.rise < p.rise for q in [DENSE, *points])]
    assert not set(beaten) & set(curve)


def test_a_cost_that_is_no_straight_line_of_the_rank_is_asked_for():
    steps = {2: 20.0, 3: 50.0, 4: 50.0, 5: 60.0, 6: 60.0}
    ends = [Point(LayerRank("CHANNEL", rank), steps[rank], rise) for rank, rise in ((6, 0.1), (2, 0.4))]
    curve = make_curve(DENSE, ends, lambda choice: steps[choice.rank])
    assert [(p.choice.rank, p.cost) for p in curve[1:]] == [(6, 60), (4, 50), (2, 20)]
    assert 0.1 < curve[2].rise < 0.4


# -- plans -----------------------------------------------------------------------------------------------


def random_curves(seed, count=3):
    """Curves of some layers that lose the more the cheaper they are."""
    rng = np.random.default_rng(seed)
    curves = {}
    for name in "abcd"[:count]:
        dense = Point(None, float(rng.uniform(50, 150)), 0.0)
        costs = dense.cost * np.sort(rng.uniform(0.05, 0.95, 5))[::-1]
        rises = np.sort(rng.uniform(0.001, 0.5, 5))
        curves[name] = [dense] + [
            Point(LayerRank("CHANNEL", 9 - i), float(c), float(r))
            for i, (c, r) in enumerate(zip(costs, rises, strict=True))
        ]
    return curves


def find(curves, name, plan):
    return next(p for p in curves[name] if p.choice == plan.get(name))


def total(curves, plan, what):
    return sum(getattr(find(curves, name, plan), what) for name in curves)


def hull_plans(curves):
    """Every plan that is best at some price, by trying prices between all that make a difference."""
    pairs = [pair for points in curves.values() for pair in itertools.combinations(points, 2)]
    turns = sorted({(b.rise - a.rise) / (a.cost - b.cost) for a, b in pairs} - {0.0})
    prices = [turns[0] / 2, *(math.sqrt(a * b) for a, b in itertools.pairwise(turns)), turns[-1] * 2]
    plans = []
    for price in prices:
        plan = plan_at(curves, price)
        plans += [plan] if plan not in plans else []
    return plans


def test_at_a_price_each_layer_has_the_rank_of_least_rise_and_price():
    curves = random_curves(1)
    for price in (1e-9, 1e-4, 1e-3, 1e-2, 1e9):
        plan = plan_at(curves, price)
        value = total(curves, plan, "rise") + price * total(curves, plan, "cost")
        for points in itertools.product(*curves.values()):
            assert value <= sum(p.rise + price * p.cost for p in points) + 1e-12
    assert plan_at(curves, 1e-9) == {}
    assert plan_at(curves, 1e9) == {name: points[-1].choice for name, points in curves.items()}


@pytest.mark.parametrize("allowed", [0.0005, 0.05, 0.2, 0.6, 0.9, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_plan_that_holds_is_the_cheapest_of_the_hull_that_does(seed, allowed):
    curves = random_curves(seed)
    found = cheapest(curves, lambda plan: total(curves, plan, "rise") <= allowed, bisections=40)
    holding = [plan for plan in hull_plans(curves) if total(curves, plan, "rise") <= allowed]
    assert found == min(holding, key=lambda plan: total(curves, plan, "cost"))
    assert found == {} or allowed > 0.0005


@pytest.mark.parametrize("seed", range(4))
def test_eight_bisections_come_within_a_few_hundredths_of_the_cheapest(seed):
    curves, asked = random_curves(seed, 4), []

    def holds(plan):
        asked.append(plan)
        return total(curves, plan, "rise") <= 0.7

    found = cheapest(curves, holds)
    holding = [plan for plan in hull_plans(curves) if total(curves, plan, "rise") <= 0.7]
    least = min(total(curves, plan, "cost") for plan in holding)
    assert total(curves, found, "rise") <= 0.7
    assert least <= total(curves, found, "cost") <= 1.05 * least
    assert len(asked) <= 8


def test_where_no_plan_holds_the_cheapest_is_the_dense_net_and_where_all_do_the_last_of_all():
    curves = random_curves(2)
    assert cheapest(curves, lambda plan: False) == {}
    ends = {name: points[-1].choice for name, points in curves.items()}
    assert cheapest(curves, lambda plan: True, bisections=30) == ends


@pytest.mark.parametrize("share", [1, 0.9, 0.7, 0.5, 0.3, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_plan_within_a_cost_is_the_one_of_the_hull_that_loses_least(seed, share):
    curves = random_curves(seed)
    limit = share * total(curves, {}, "cost")
    found = best_within(curves, lambda plan: total(curves, plan, "cost") <= limit)
    fitting = [plan for plan in hull_plans(curves) if total(curves, plan, "cost") <= limit]
    if not fitting:
        assert found is None
        return
    assert found == min(fitting, key=lambda plan: total(curves, plan, "rise"))
    assert (found == {}) == (share == 1)


def test_where_even_the_cheapest_plan_costs_too_much_there_is_none():
    curves = random_curves(3)
    least = sum(points[-1].cost for points in curves.values())
    assert best_within(curves, lambda plan: total(curves, plan, "cost") < least) is None
    assert best_within(curves, lambda plan: total(curves, plan, "cost") <= least) is not None


def test_curves_of_nothing_but_dense_layers_make_the_empty_plan():
    curves = {"a": [DENSE], "b": [DENSE]}
    assert cheapest(curves, lambda plan: True) == {}
    assert best_within(curves, lambda plan: True) == {}
    assert best_within(curves, lambda plan: False) is None


def test_layers_that_gain_by_being_approximated_are_at_any_price():
    gains = [DENSE, point(5, -0.1), point(2, 0.3)]
    curves = {"a": gains, "b": [DENSE, point(4, 0.2)]}
    assert cheapest(curves, lambda plan: total(curves, plan, "rise") <= -0.1) == {
        "a": LayerRank("CHANNEL", 5)
    }


# -- choosing, with layers whose losses add up ------------------------------------------------------------


class Layer:
    """A layer of 100 multiply-adds, of which a rank costs ``each``; ranks lose ``scale / rank``."""

    def __init__(self, each, scale):
        self.each, self.scale, self.schemes = each, scale, ["CHANNEL", "SPATIAL"]

    def rank_for(self, scheme, share):
        return max(1, int(share * 100 / self.each))

    def share(self, choice):
        return min(1.0, choice.rank * self.each / 100)

    def loss(self, choice):
        return (1 if choice.scheme == "SPATIAL" else 2) * self.scale / choice.rank


class Bench:
    """As a Workbench: batches are a number, how much more than a tenth of the loss is lost in accuracy on them."""

    def __init__(self):
        self.candidates, self.plan, self.measurements = {"a": Layer(2, 0.3), "b": Layer(7, 0.1)}, {}, 0

    def approximate(self, plan):
        self.plan = dict(plan)

    def fit_alone(self, name, choice):
        return SimpleNamespace(energy=1 - self.candidates[name].loss(choice))

    def measure(self, batches):
        self.measurements += 1
        loss = sum(self.candidates[name].loss(choice) for name, choice in self.plan.items())
        return Measured(0.9 - loss / 10 * sum(batches) / len(batches), 1 + loss)


class Cost:
    name = "FLOPs"
    of_what = "the dense layers"

    def __init__(self, bench):
        self.candidates = bench.candidates

    def of(self, name, choice):
        return 100 * (self.candidates[name].share(choice) if choice else 1)

    def total(self, plan):
        return sum(self.of(name, plan.get(name)) for name in self.candidates)


def selector(path, held_out=1.0):
    bench = Bench()
    return Selector(bench, [1.0] * 20, [held_out] * 3, Cost(bench), Journal(path, "run"))


def test_ranks_to_try_cost_no_more_than_their_share_and_are_of_the_scheme_that_misses_less(path):
    chooser = selector(path)
    choices = chooser.choices("b")
    assert [choice.rank for choice in choices] == [1, 2, 3, 4, 6, 10]  # none costs 0.05 of the layer
    assert {choice.scheme for choice in choices} == {"SPATIAL"}
    chooser.bench.candidates["b"] = Layer(80, 0.1)
    assert chooser.choices("b") == []


@pytest.mark.parametrize("max_drop", [0.0, 0.01, 0.03])
def test_the_plan_within_a_drop_keeps_it_on_held_out_batches_too(path, max_drop):
    alike, worse = selector(path).within_drop(max_drop), selector(Path(f"{path}2"), 1.6).within_drop(max_drop)
    for found in (alike, worse):
        assert 0.9 - found.held_out.accuracy <= max_drop + 1e-12
        assert found.cost == Cost(Bench()).total(found.plan) / 200
    if max_drop:
        assert max_drop / 1.8 < 0.9 - worse.chosen_on.accuracy < 0.9 - alike.chosen_on.accuracy
        assert alike.cost < worse.cost < 1
    else:
        assert alike.plan == worse.plan == {}


def test_where_held_out_batches_always_lose_too_much_the_plan_is_the_dense_net(path):
    assert selector(path, 1e9).within_drop(0.01).plan == {}


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.1])
def test_the_plan_within_a_cost_keeps_it_and_is_about_the_best_that_does(path, share):
    found = selector(path).within_cost(share)
    assert found.cost <= share
    layers = Bench().candidates
    losses = [
        sum(layers[name].loss(LayerRank("SPATIAL", rank)) for name, rank in zip("ab", ranks, strict=True))
        for ranks in itertools.product(range(1, 50), range(1, 15))
        if 2 * ranks[0] + 7 * ranks[1] <= 200 * share
    ]
    assert found.chosen_on.loss - 1 <= 1.1 * min(losses)


def test_a_cost_that_no_plan_has_is_an_error(path):
    with pytest.raises(
        MinicaffeError, match=r"no ranks bring FLOPs down to 0\.01 of the dense layers; allow more"
    ):
        selector(path).within_cost(0.01)


def test_a_search_that_goes_on_measures_only_what_is_missing(path):
    whole = selector(path)
    plan = whole.within_drop(0.02).plan
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7]))
    again = selector(path)
    assert again.within_drop(0.02).plan == plan
    assert again.bench.measurements == whole.bench.measurements - 7


# -- the journal -----------------------------------------------------------------------------------------

KEY, VALUE = ["curve", [["conv", "CHANNEL", 3]]], {"accuracy": 0.9, "loss": 0.31}


def test_a_journal_gives_back_what_was_noted_in_this_run_and_in_one_before(path):
    journal = Journal(path, "run")
    assert journal.get(KEY) is None and not path.exists()
    journal.note(KEY, VALUE)
    journal.note(["other"], {"loss": 1e-300})
    for known in (journal, Journal(path, "run")):
        assert known.get(KEY) == VALUE
        assert known.get([KEY[0], [("conv", "CHANNEL", 3)]]) == VALUE  # tuples are lists to JSON
        assert known.get(["other"]) == {"loss": 1e-300}
        assert known.get(["none"]) is None
    assert len(path.read_text().splitlines()) == 2


def test_a_journal_knows_nothing_of_other_runs_and_leaves_their_lines_alone(path):
    Journal(path, "one").note(KEY, VALUE)
    other = Journal(path, "other")
    assert other.get(KEY) is None
    other.note(KEY, {"loss": 2})
    assert Journal(path, "one").get(KEY) == VALUE
    assert Journal(path, "other").get(KEY) == {"loss": 2}


def test_what_was_noted_last_counts(path):
    for loss in (1, 2):
        Journal(path, "run").note(KEY, {"loss": loss})
    assert Journal(path, "run").get(KEY) == {"loss": 2}


DAMAGE = {
    "a line cut short": '{"run": "run", "key": "[1]", "val',
    "a line of nothing": "",
    "no JSON": "<<<<<<< HEAD",
    "JSON of another kind": '[1, 2]\n3\nnull\n"run"',
    "an object without a key": '{"run": "run"}',
    "a key that is no text": '{"run": "run", "key": [1], "value": {}}',
    "bytes that are no text": "\udcff\udcfe{",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_ignored_and_the_others_are_known(path, damage):
    Journal(path, "run").note(KEY, VALUE)
    with path.open("a", errors="surrogateescape") as file:
        file.write(damage + "\n")
    Journal(path, "run").note(["more"], VALUE)
    journal = Journal(path, "run")
    assert len(journal.known) == 2
    assert journal.get(KEY) == journal.get(["more"]) == VALUE


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_what_is_noted_after_a_line_that_was_cut_short_is_not_lost(path, cut):
    Journal(path, "run").note(KEY, VALUE)
    Journal(path, "run").note(["cut"], VALUE)
    path.write_bytes(path.read_bytes()[:-cut])
    Journal(path, "run").note(["more"], VALUE)
    journal = Journal(path, "run")
    assert journal.get(KEY) == journal.get(["more"]) == VALUE
    assert journal.get(["cut"]) == (VALUE if cut == 1 else None)


def test_every_value_is_on_the_disk_as_soon_as_it_is_noted(path):
    journal = Journal(path, "run")
    for i in range(3):
        journal.note([i], {"loss": i})
        assert json.loads(path.read_text().splitlines()[-1])["value"] == {"loss": i}


@pytest.mark.parametrize("place", ["no folder/net.jsonl", "a file/net.jsonl", "a folder"])
def test_a_journal_that_cannot_be_written_is_an_error_that_says_where(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(WriteError, match=rf"{place}: cannot be written \(.*\); check the path"):
        Journal(tmp_path / place, "run").note(KEY, VALUE)


def test_a_fingerprint_is_that_of_contents_and_texts(tmp_path):
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.write_bytes(b"\0weights")
    same.write_bytes(b"\0weights")
    other.write_bytes(b"\0other")
    assert fingerprint(one, "x") == fingerprint(same, "x")
    prints = [
        fingerprint(one, "x"),
        fingerprint(other, "x"),
        fingerprint(one, "y"),
        fingerprint(one, "x", ""),
    ]
    prints += [fingerprint("ab", "c"), fingerprint("a", "bc")]
    assert len(set(prints)) == len(prints)
