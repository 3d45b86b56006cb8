"""benchmarks/distributed.py: what its model computes, and that ranks it starts train as one process."""

import importlib
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.communicator import Communicator
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from tests import ROOT

pytestmark = pytest.mark.cpu_only("the benchmark is one of the CPU")
NAMES = ("distributed_model", "distributed_ranks", "distributed", "distributed_faults", "peer_specs", "peers")
NET = """
layer:
- {name: data, type: Input, top: [data, label], input_param: {shape: [{dim: [4, 6]}, {dim: [4]}]}}
- {name: ip1, type: InnerProduct, bottom: data, inner_product_param: {num_output: 5, weight_filler: {type: xavier}}}
- {name: ip2, type: InnerProduct, inner_product_param: {num_output: 3, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip2, label]}
"""
SOLVER = "net: given\nbase_lr: 0.1\nlr_policy: fixed\nrandom_seed: 1\n"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name)


def test_a_sum_takes_the_shorter_of_two_ways(modules):
    link = modules["distributed_model"].Link(latency=1e-3, rate=8e6)  # 1 µs a byte
    assert link.seconds_of_sum(10**6, 1) == 0
    assert link.seconds_of_sum(10**6, 2) == pytest.approx(1e-3 + 1)
    assert link.seconds_of_sum(10**6, 4) == pytest.approx(4e-3 + 1.5)
    assert link.seconds_of_sum(8, 4) == pytest.approx(2 * (1e-3 + 8e-6))
    assert link.seconds_of_sum(10**6, 1024) == pytest.approx(20e-3 + 2 * 1023 / 1024)


def test_what_backward_hides_costs_nothing(modules):
    Event = modules["distributed_model"].Event
    step = [Event(1, "start", 1, 10), Event(1, "start", 2, 20), Event(5, "wait", 1), Event(0.5, "wait", 2)]
    step.append(Event(0.5, "end"))
    seconds_of = modules["distributed_model"].seconds_of
    assert seconds_of(step, lambda size: 0) == (8, 0)
    assert seconds_of(step, lambda size: size / 10) == (8, 0)
    # the first arrives at 4, the second, which has to wait for it, at 10 in place of 8; 7.5 is when it is needed
    assert seconds_of(step, lambda size: size * 0.3) == (10.5, 2.5)
    assert seconds_of(modules["distributed_model"].scaled(step, 2), lambda size: 0) == (16, 0)


def test_a_recorded_step_has_all_that_is_sent(modules):
    model = modules["distributed_model"]
    ranks = model.Recorder()
    solver = mc.Solver(parse_solver(SOLVER), net=parse_net(NET), communicator=ranks)
    begun = time.perf_counter()
    with ranks.recording() as events:
        solver.step(1)
    taken = time.perf_counter() - begun
    sizes = {event.number: event.size for event in events if event.kind == "start"}
    assert list(sizes) == [
        event.number for event in sorted(events, key=lambda e: e.number) if event.kind == "wait"
    ]
    agreed = 4 + model.SMALL  # the loss, and whether to stop
    assert sum(sizes.values()) == solver.exchange.sent_bytes + agreed > agreed
    assert 0.5 * taken < model.seconds_of(events, lambda size: 0)[0] <= taken
    assert model.seconds_of(events, lambda size: 1.0)[0] > len(sizes)


def test_a_slow_communicator_hands_out_sums_late(modules):
    slow = modules["distributed_model"].Slow(_Two(), rate=8e6)
    begun = time.perf_counter()
    first, second = (slow.start_sum(np.zeros(size, np.uint8)) for size in (10_000, 30_000))
    first.wait()
    assert time.perf_counter() - begun >= 0.01
    second.wait()
    assert time.perf_counter() - begun >= 0.04


class _Two(Communicator):
    size = 2


def test_a_net_gets_batch_norm_of_all_ranks(modules):
    spec = modules["distributed_ranks"].with_batch_norm(
        modules["distributed_ranks"].train_net("cifar10_quick", 2)
    )
    net = parse_net(json.dumps(spec))
    kinds = [layer.type for layer in net.layer]
    assert [kinds[i + 1 : i + 3] for i, kind in enumerate(kinds) if kind == "Convolution"] == [
        ["BatchNorm", "Scale"]
    ] * 3
    assert all(
        each["batch_norm_param"] == {"sync": True} for each in spec["layer"] if each["type"] == "BatchNorm"
    )


def test_ranks_train_as_one_process(modules, monkeypatch):
    pytest.importorskip("mpi4py")
    if not (Path(sys.executable).with_name("mpiexec").exists() or shutil.which("mpiexec")):
        pytest.skip("there is no mpiexec")
    ranks, bench = modules["distributed_ranks"], modules["distributed"]
    monkeypatch.setattr(bench, "LOOKED_AT", (1, 3))
    own, whole = (json.dumps(ranks.train_net("lenet", batch, augments=False)) for batch in (8, 16))
    one, two = bench._trained("lenet", whole, double=True), bench._trained("lenet", own, 2, double=True)
    assert all(bench.furthest(a, b) < 1e-12 for a, b in zip(one, two, strict=True))
    assert bench.furthest(one[0], one[1]) > 1e-6
