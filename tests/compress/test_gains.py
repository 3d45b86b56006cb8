"""What low rank gains is counted, and timed in pairs; a warning says so where times are noise."""

import logging
import re
from itertools import cycle

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress import cost, stopwatch
from minicaffe.compress import gains as measuring
from minicaffe.compress.batches import draw
from minicaffe.compress.cost import TimeCost
from minicaffe.compress.gains import Gains, Pair, gains
from minicaffe.compress.pictures import LABELS
from minicaffe.compress.stopwatch import spread, warn_of_noise
from minicaffe.compress.workbench import Workbench
from minicaffe.device.array import to_host

DEPLOY = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 10, 10]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 8, kernel_size: 3}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 20}}
"""
LOW = DEPLOY.replace("num_output: 20}", "num_output: 20}, low_rank_param: {rank: 4, factored: true}")
IP = 8 * 8 * 8 * 20


class Clock:
    """Time that passes when a net runs: for the first of two nets, and for the second, the next of its times."""

    def __init__(self, first, second):
        self.now, self.calls = 0.0, []
        self.times = {"first": cycle(first), "second": cycle(second)}

    def __call__(self):
        return self.now

    def run(self, name):
        self.calls.append(name)
        self.now += next(self.times[name])


@pytest.fixture
def timed(monkeypatch):
    """Gains of two nets whose passes take given times."""

    def measure(first, second):
        clock, names = Clock(first, second), iter(("first", "second"))

        def its_pass(net, batch):
            name = next(names)
            return lambda: clock.run(name)

        monkeypatch.setattr(stopwatch, "clock", clock)
        monkeypatch.setattr(measuring, "_pass", its_pass)
        batch = {LABELS: np.zeros(1), "data": np.zeros((1, 1, 10, 10), np.float32)}
        return gains(mc.Net.from_text(DEPLOY), mc.Net.from_text(LOW), batch), clock

    return measure


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    return caplog


def test_numbers_and_multiply_adds_are_those_of_the_net_and_of_its_layers_of_low_rank(timed):
    found, _ = timed([0.004], [0.001])
    factors = 4 * (512 + 20)
    assert found.parameters == Pair(72 + 8 + IP + 20, 72 + 8 + factors + 20)
    assert found.multiply_adds == Pair(64 * 72 + IP, 64 * 72 + factors)
    assert found.layers_multiply_adds == Pair(IP, factors)
    assert found.megabytes.before == pytest.approx(4e-6 * (IP + 100))


def test_times_are_medians_of_passes_that_take_turns_in_changing_order(timed, log):
    found, clock = timed([0.004], [0.001])
    assert clock.calls[:6] == ["second", "first", "first", "second", "second", "first"]
    assert clock.calls.count("first") == clock.calls.count("second") == 53
    assert (found.milliseconds.before, found.milliseconds.after) == (pytest.approx(4), pytest.approx(1))
    assert (found.time_ratio, found.rounds, found.images) == (pytest.approx(0.25), 50, 1)
    assert not log.records


def test_a_machine_that_gets_slower_changes_the_times_but_not_their_ratio(timed):
    found, _ = timed([0.001 * 1.02**i for i in range(53)], [0.0005 * 1.02**i for i in range(53)])
    assert found.time_ratio == pytest.approx(0.5)


@pytest.mark.parametrize(("each", "rounds"), [(100.0, 5), (1.0, 5), (0.25, 18)])
def test_slow_nets_run_five_times_and_others_for_ten_seconds(timed, each, rounds):
    found, _ = timed([each], [each])
    assert found.rounds == rounds


def test_first_passes_do_not_count(timed):
    found, _ = timed([9, 9, 9, *[1.0] * 50], [1.0])
    assert found.milliseconds.before == 1000


@pytest.mark.parametrize("scatters", [0, 1])
def test_times_of_either_net_that_scatter_are_named_as_noise_once(timed, log, scatters):
    times = [[0.001], [0.001]]
    times[scatters] = [0.001, 0.002, 0.003]
    found, _ = timed(*times)
    assert found.time_spread > stopwatch.NOISE
    (record,) = log.records
    assert record.levelname == "WARNING"
    assert re.match(r"The times of a forward pass scatter by \d+ %, .*; measure again when nothing else runs",
                    record.getMessage())  # fmt: skip


def test_the_table_says_the_gains():
    found = Gains(
        Pair(1_025_000, 325_000), Pair(12.3e6, 4.1e6), Pair(10e6, 2e6), Pair(3.4, 1.9), 0.55, 0.04, 20, 1
    )
    lines = found.table().splitlines()
    assert lines[3].split() == ["size,", "MB", "4.1", "1.3", "0.317"]
    assert [line.split() for line in lines[1:] if "layers of" in line] == [
        ["of", "the", "layers", "of", "low", "rank", "10,000,000", "2,000,000", "0.200"]
    ]
    assert lines[-2].split() == ["forward", "pass,", "ms", "3.4", "1.9", "0.550"]
    assert lines[-1].startswith("Times: medians of 20 passes of a batch of 1, which scatter by up to 4%;")


def test_real_nets_run_on_the_batch_and_data_layers_do_not(folder, monkeypatch):
    monkeypatch.setattr(measuring, "MOST_ROUNDS", 1)
    with mc.Net("net.yaml", weights="lenet.npz", phase="test") as net:
        (batch,) = draw(net, 1)
        read = []
        monkeypatch.setattr(type(net.layers[0]), "forward", lambda *given: read.append(given))
        found = gains(net, net, batch)
        assert not read
        assert found.images == 30
        assert found.milliseconds.before > 0
        assert found.layers_multiply_adds == Pair(0, 0)
        assert "low rank" not in found.table()
        np.testing.assert_array_equal(to_host(net.blobs["data"].data), to_host(batch["data"]))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.0] * 9, 0),
        ([1, 2, 3, 9], 0),
        ([*range(11)], (8.9 - 1.1) / 5),
        ([0.0] * 5, 0),
        ([1] * 9 + [50], 0),
        ([1] * 6 + [3], 0.6),
        ([1] * 8 + [3, 3], 2),
    ],
)
def test_the_spread_leaves_out_a_tenth_at_both_ends(times, expected):
    assert spread(times) == pytest.approx(expected)


def test_noise_is_what_is_above_the_bound(log):
    warn_of_noise([1, 1.1, 1.2, 1.3, 1.4], "x")
    assert not log.records
    warn_of_noise([1, 1.25, 1.5, 1.75, 2], "the dense net")
    assert "The times of the dense net scatter by 50 %" in log.text


@pytest.mark.parametrize(("times", "warnings"), [([1.0], 0), ([1.0, 2.0, 4.0], 1)])
def test_times_of_a_dense_net_that_scatter_are_named_once_before_ranks_are_timed(
    folder, monkeypatch, log, times, warnings
):
    each = cycle(times)
    monkeypatch.setattr(cost, "REPEATS", 7)
    monkeypatch.setattr(cost, "seconds", lambda call: next(each))
    bench = Workbench("net.yaml", "lenet.npz", ["conv1"], calibration=1)
    log.clear()
    of_layers = TimeCost(bench, draw(bench.original, 1)[0])
    assert of_layers.total({}) > 0
    assert [r.getMessage()[:31] for r in log.records] == ["The times of the dense net scat"] * warnings
    bench.close()
