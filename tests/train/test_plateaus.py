"""``lr_policy: plateau``: the rate is lowered where the loss has not fallen for long enough."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.train.plateaus import Plateaus


def steps_of_fork(losses, windows):
    """The step of each iteration, written as sanghoon/caffe's GetLearningRate goes through it."""
    minimum, last_event, step, found = 3.4e38, 0, 0, []
    for iteration, loss in enumerate(losses):
        if loss < minimum:
            minimum, last_event = loss, iteration
        if step < len(windows) and iteration >= last_event + windows[step]:
            step, last_event = step + 1, iteration
        found.append(step)
    return found


@pytest.mark.parametrize("windows", [[5], [3, 4, 2], [1, 1], []])
@pytest.mark.parametrize("seed", range(4))
def test_plateaus_are_counted_as_in_the_fork(windows, seed):
    rng = np.random.default_rng(seed)
    losses = 1 / np.arange(1, 60) + rng.uniform(0, 0.5, 59)
    plateaus, found = Plateaus(windows), []
    for iteration, loss in enumerate(losses):
        before = plateaus.passed
        assert plateaus.see(loss, iteration) == (plateaus.passed > before)
        found.append(plateaus.passed)
        plateaus = Plateaus(windows, json.loads(json.dumps(plateaus.state_dict())))  # as a snapshot keeps it
    assert found == steps_of_fork(losses, windows)


NET = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 1]}}}
- {name: y, type: InnerProduct,
   inner_product_param: {num_output: 1, bias_term: false, weight_filler: {type: constant, value: 1}}}
- {name: goal, type: Input, input_param: {shape: {dim: [1, 1]}}}
- {name: loss, type: EuclideanLoss, bottom: [y, goal]}
"""
SOLVER = """net: none
base_lr: 0.5
lr_policy: plateau
gamma: 0.1
plateau_winsize: [3, 2]
average_loss: 2
max_iter: 20
snapshot_prefix: {prefix}
"""


def solver_at(prefix):
    """One whose loss is the same in all iterations: its input is 0."""
    solver = mc.Solver(parse_solver(SOLVER.format(prefix=prefix)), net=parse_net(NET))
    solver.net.blobs["goal"].data[...] = 1
    return solver


def rates(solver, iterations):
    found = []
    for _ in range(iterations):
        solver.step(1)
        found.append(solver.learning_rate(0))
    return found


def test_the_rate_falls_at_the_end_of_each_plateau(tmp_path, caplog):
    caplog.set_level("INFO", logger="minicaffe")
    solver = solver_at(tmp_path / "run")
    expected = [0.5] * 3 + [0.05] * 2 + [0.005] * 4
    assert rates(solver, 9) == pytest.approx(expected)
    assert "Iteration 3, plateau 1: the lowest loss was 0.5" in caplog.text


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    first = solver_at(tmp_path / "run")
    rates(first, 4)
    state = first.snapshot()
    second = solver_at(tmp_path / "other")
    second.restore(state)
    assert second.learning_rate() == pytest.approx(0.05)
    for solver in (first, second):
        assert rates(solver, 3) == pytest.approx([0.05, 0.005, 0.005])
