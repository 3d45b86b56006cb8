"""The table of what low rank would lose and save has, in each row, the shares of one plan."""

import itertools
import re

import pytest

from minicaffe.compress import forecast, spatial_fits
from minicaffe.compress.cost import FlopCost, ParamCost
from minicaffe.compress.forecast import Row
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.prediction import Prediction
from minicaffe.compress.workbench import Workbench

pytestmark = pytest.mark.cpu_only("of numbers that other tests compute on the double")
SHARES = (0.8, 0.4, 0.1, 0.05, 0.001)


class Time:
    """The more layers have a rank, the less time the net takes."""

    def total(self, plan):
        return 20.0 - 4 * len(plan)

    def share(self, plan):
        return self.total(plan) / self.total({})


@pytest.fixture(scope="module")
def bench(digits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial_fits, "SWEEPS", 2)  # to be quick
        patch.chdir(digits)
        with Workbench("net.yaml", "lenet.npz", ("conv1", "conv2", "ip1"), calibration=2) as made:
            yield made


@pytest.fixture(scope="module")
def prediction(bench):
    return Prediction(bench, bench.draw(2), ("CHANNEL",), probed=(0.01, 0.1))


@pytest.fixture(scope="module")
def rows(bench, prediction):
    return forecast.rows(bench, prediction, SHARES, Time())


def test_a_row_has_the_costs_and_the_loss_of_its_plan(bench, prediction, rows):
    assert [row.share for row in rows] == list(SHARES[:4])  # no ranks are as cheap as the last share
    for row in rows:
        assert row.flops == FlopCost(bench).share(row.plan) <= row.share
        assert row.params == ParamCost(bench).share(row.plan)
        assert (row.milliseconds, row.time) == (Time().total(row.plan), Time().total(row.plan) / 20)
        assert row.drop == prediction.drop(row.plan)
    assert max(abs(row.params - row.flops) for row in rows) > 0.1
    assert all(a.drop <= b.drop for a, b in itertools.pairwise(rows))


def test_the_layers_that_carry_most_of_a_loss_come_first(prediction, rows):
    for row in rows:
        rises = {name: prediction.rise(name, choice) for name, choice in row.plan.items()}
        assert list(row.carried) == sorted(rises, key=rises.get, reverse=True)
        assert row.carried == pytest.approx({name: x / sum(rises.values()) for name, x in rises.items()})
    assert len(rows[-1].carried) == 3


def test_cheap_plans_are_marked_where_more_is_off_than_was_measured(prediction, rows):
    marks = [row.is_beyond for row in rows]
    assert marks == [prediction.is_beyond(row.plan) for row in rows] == sorted(marks)
    assert not marks[0] and marks[-1]


def test_the_table_says_what_is_lost_of_what_and_at_least_where_it_is_not_sure(bench):
    plan = {"conv1": LayerRank("CHANNEL", 3)}
    carried = {"conv2": 0.5, "ip1": 0.3, "conv1": 0.15, "other": 0.05}
    made = [
        Row(0.3, plan, 0.299, 0.41, 12.34, 0.567, 0.0123, False, carried),
        Row(0.1, plan, 0.1, 0.2, 8.0, 0.4, 0.08, True, carried),
    ]
    head, _, *lines = forecast.table(bench, made).splitlines()
    assert head.split("  ")[-2:] == [f"expected loss of {bench.score.name}", "most of it from"]
    assert re.split("  +", lines[0].strip()) == (
        ["0.3", "0.299", "0.410", "12.3", "0.57", "1.23 points", "conv2 50 %, ip1 30 %, conv1 15 %"]
    )
    assert re.split("  +", lines[1].strip())[5] == "at least 8.00 points"
