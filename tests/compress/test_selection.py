"""Plans are as cheap as a loss allows, or as good as a cost allows, and few of them are measured."""

import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minicaffe.compress import cost
from minicaffe.compress.curves import Point, make_curve, path
from minicaffe.compress.journal import Journal
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.score import Measured
from minicaffe.compress.selection import MOST_PLANS, NEAR_ENOUGH, Selector, _between
from minicaffe.errors import MinicaffeError

pytestmark = pytest.mark.cpu_only("numbers of Python, whatever the device is")

FULL = {"a": 50, "b": 14, "c": 90}  # ranks; at the last of them a layer is dense
DENSE_COSTS = {"a": 100, "b": 300, "c": 60}
SCALES = {"a": 0.3, "b": 0.1, "c": 0.05}  # what the least rank loses, about
BATCHES = [{"data": np.zeros(10)}] * 4
SPREAD = np.array([0.9, 1.2, 1.0, 0.9])  # of what is lost, over the batches

CAUTION = 1.5


class Cost(cost.Cost):
    name = "FLOPs"
    of_what = "the dense layers"

    def __init__(self):
        super().__init__(SimpleNamespace(candidates=FULL))

    def of(self, name, choice):
        return DENSE_COSTS[name] * (choice.rank / FULL[name] if choice else 1)


class Prediction:
    """Losses add up."""

    def rise(self, name, choice):
        return SCALES[name] * (1 - choice.rank / (1.1 * FULL[name])) ** 3

    def drop(self, plan):
        return sum(self.rise(name, choice) for name, choice in plan.items())

    def missed(self, name, choice):
        return self.rise(name, choice) ** 0.5 / SCALES[name]

    def curves(self, cost, loss=None):
        curves = {}
        for name, full in FULL.items():
            choices = [LayerRank("CHANNEL", rank) for rank in range(1, full)]
            points = [
                Point(choice, cost.of(name, choice), (loss or self.rise)(name, choice)) for choice in choices
            ]
            curves[name] = make_curve(Point(None, cost.of(name, None), 0.0), points)
        return curves


class Bench:
    """As a Workbench: what a plan loses is what was predicted times ``factor``, and times some noise."""

    def __init__(self, factor=1.0, noise=0.0):
        self.factor, self.noise = factor, noise
        self.score, self.plan = (
            SimpleNamespace(name="agreement", is_agreement=True, of_what=" of accuracy"),
            {},
        )
        self.measured = []

    def approximate(self, plan):
        self.plan = dict(plan)

    def lost(self, plan):
        seed = [1, *(choice.rank for choice in plan.values())]
        noise = np.exp(self.noise * np.random.default_rng(seed).standard_normal())
        return float(self.factor * noise * Prediction().drop(plan))

    def measure(self, batches):
        assert batches is BATCHES
        self.measured.append(self.plan)
        lost = tuple((self.lost(self.plan) * SPREAD).tolist())
        reckoned = tuple(CAUTION * x for x in lost)
        return Measured(tuple(0.9 - x for x in lost), tuple(0.5 + x for x in lost), lost, reckoned, (0,) * 4)


@pytest.fixture
def search(tmp_path):
    """Makes a search, with a journal of its own unless one is given."""
    names = (tmp_path / f"{i}.jsonl" for i in itertools.count())

    def make(bench=None, journal=None):
        journal = Journal(journal or next(names), "run")
        return Selector(bench or Bench(), BATCHES, Prediction(), Cost(), journal)

    return make


def least_cost(bench, max_drop):
    """The cost of the cheapest plan of the path that keeps to a drop."""
    plans = path(Prediction().curves(Cost()))
    return min(Cost().total(plan) for plan in plans if CAUTION * bench.lost(plan) <= max_drop) / Cost().total(
        {}
    )


CASES = {
    "as predicted": (1, 0),
    "half of it": (0.5, 0),
    "twice": (2, 0),
    "ten times": (10, 0),
    "noisy": (1, 0.1),
}


# -- for a loss ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_drop", [0.002, 0.01, 0.03, 0.1])
@pytest.mark.parametrize(("factor", "noise"), CASES.values(), ids=CASES)
def test_the_plan_within_a_drop_keeps_to_it_and_is_about_the_cheapest_that_does(
    search, factor, noise, max_drop
):
    bench = Bench(factor, noise)
    chooser = search(bench)
    found = chooser.within_drop(max_drop)
    assert found.measured.drop_from(chooser.dense) <= max_drop
    assert CAUTION * bench.lost(found.plan) <= max_drop
    assert found.cost == Cost().total(found.plan) / Cost().total({})
    least = least_cost(bench, max_drop)
    assert least - 1e-12 <= found.cost < least + (2 * NEAR_ENOUGH if not noise else 0.05)


@pytest.mark.parametrize("max_drop", [0.0, 0.002, 0.03, 10])
@pytest.mark.parametrize(("factor", "noise"), CASES.values(), ids=CASES)
def test_few_plans_are_measured_and_none_twice(search, factor, noise, max_drop):
    bench = Bench(factor, noise)
    chooser = search(bench)
    chooser.within_drop(max_drop)
    assert bench.measured[0] == {}
    assert len(bench.measured) <= MOST_PLANS + 1
    assert all(a != b for a, b in itertools.combinations(bench.measured, 2))
    plans = path(chooser.curves)
    assert all(plan in plans for plan in bench.measured)


def test_where_the_prediction_is_right_it_says_where_to_look(search):
    bench = Bench(1 / CAUTION)
    found = search(bench).within_drop(0.03)
    assert bench.measured[1] == found.plan
    assert found.cost == pytest.approx(least_cost(bench, 0.03))


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.5, 6])
def test_where_the_prediction_is_wrong_one_plan_corrects_it(search, factor):
    bench = Bench(factor / CAUTION)
    found = search(bench).within_drop(0.03)
    assert bench.measured[2] == found.plan
    assert found.cost == pytest.approx(least_cost(bench, 0.03))


def test_a_drop_that_every_plan_keeps_to_makes_the_cheapest_of_all(search):
    chooser = search()
    assert chooser.within_drop(10).plan == path(chooser.curves)[-1]
    assert len(chooser.bench.measured) == 2


def test_where_no_plan_holds_the_net_stays_dense_and_the_least_bad_is_the_one_that_lost_least(search):
    bench = Bench(1e6)
    chooser = search(bench)
    assert chooser.least_bad() is None
    found = chooser.within_drop(0.001)
    assert (found.plan, found.cost) == ({}, 1)
    assert found.measured == chooser.dense
    least = chooser.least_bad()
    assert least.plan == min((plan for plan in bench.measured if plan), key=bench.lost)
    assert len(least.plan) == 1  # the search went on towards the dense net


def test_what_was_counted_surely_stops_a_plan_whose_expected_loss_is_small(search):
    class Unlucky(Bench):
        """Loses twice as much as its probabilities make believe."""

        def measure(self, batches):
            found = super().measure(batches)
            return replace(found, **{x: tuple(np.divide(getattr(found, x), 2)) for x in ("lost", "reckoned")})

    with_labels = Unlucky()
    with_labels.score.is_agreement = False
    chooser = search(with_labels)
    found = chooser.within_drop(0.03)
    counted = found.measured.change_from(chooser.dense)
    assert 0.02 < -counted.mean - 2 * counted.error <= 0.03
    assert found.cost > search(Bench(0.5)).within_drop(0.03).cost
    # other answers than the dense net's are no accuracy that was lost
    assert search(Unlucky()).within_drop(0.03).cost == search(Bench(0.5)).within_drop(0.03).cost


def test_where_nothing_is_lost_twice_as_much_is_tried_next(search):
    class Free(Bench):
        def lost(self, plan):
            return 0.0

    chooser = search(Free())
    chooser.within_drop(0.001)
    for i in range(6):
        within = [plan for plan in path(chooser.curves) if Prediction().drop(plan) <= 0.001 * 2**i]
        assert chooser.bench.measured[1 + i] == within[-1]


def test_between_two_plans_that_were_measured_the_logarithm_of_the_loss_says_where_to_look():
    costs = np.linspace(1, 0, 101)
    assert _between(costs, {20: 0.001, 80: 0.1}, 20, 80, 0.01) == 50
    assert _between(costs, {20: 0.001, 80: 0.1}, 20, 80, 0.001) == 26  # a tenth of the way at least
    assert _between(costs, {20: 0.0, 80: 0.01}, 20, 80, 0.001) == 50  # as if it were LEAST_DROP


# -- for a cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.1])
def test_the_plan_within_a_cost_keeps_to_it_and_is_about_the_best_that_does(search, share):
    bench = Bench()
    chooser = search(bench)
    found = chooser.within_cost(share)
    assert found.cost <= share
    assert bench.measured[:2] == [{}, found.plan] and len(bench.measured) <= 3
    costs, rises = (
        sum(np.ix_(*([getattr(p, what) for p in curve] for curve in chooser.curves.values())))
        for what in ("cost", "rise")
    )
    best = rises[costs <= share * Cost().total({})].min()
    assert best - 1e-12 <= Prediction().drop(found.plan) <= 1.05 * best


def test_where_losses_do_not_add_up_the_plan_by_what_layers_miss_may_be_the_better(search):
    class Surprising(Bench):
        def lost(self, plan):
            """More than was predicted by the first plan that is tried."""
            return super().lost(plan) * (20 if plan == self.measured[1] else 1) if plan else 0.0

    bench = Surprising()
    found = search(bench).within_cost(0.5)
    assert len(bench.measured) == 3
    assert found.plan == bench.measured[2]
    assert found.cost <= 0.5


def test_all_of_the_cost_is_the_dense_net(search):
    assert search().within_cost(1).plan == {}


def test_a_cost_that_no_plan_has_is_an_error(search):
    least = r"the least that they reach is 0\.0\d+; allow more$"
    with pytest.raises(
        MinicaffeError, match=r"^no ranks bring FLOPs down to 0\.01 of the dense layers; " + least
    ):
        search().within_cost(0.01)


# -- the journal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_search_that_goes_on_measures_only_what_is_missing(search, tmp_path, kept):
    file = tmp_path / "net.jsonl"
    whole = search(Bench(3), file)
    found = whole.within_drop(0.02)
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == len(whole.bench.measured) > 3
    file.write_text("".join(lines[:kept]))
    again = search(Bench(3), file)
    assert again.within_drop(0.02) == found
    assert again.bench.measured == whole.bench.measured[kept:]
    assert file.read_text().splitlines(keepends=True) == lines


def test_what_a_line_says_of_a_plan_is_its_cost_its_score_and_what_was_lost(search):
    chooser = search()
    found = chooser.within_cost(0.5)
    assert chooser.images == 40
    line, lost = chooser.line(found), Prediction().drop(found.plan)
    assert line.startswith(
        f"FLOPs {found.cost:.3f} of the dense layers: agreement {found.measured.score:.4f} ("
    )
    assert f"({-100 * lost:+.2f} ± " in line
    assert re.search(rf"; expected {re.escape(f'{-100 * lost:+.2f}')} ± \S+ points of accuracy\)$", line)
