"""caffe.SGDSolver and its kin."""

from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.pycaffe.proto import caffe_pb2

pytest.importorskip("google.protobuf")

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" }
    data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" param { lr_mult: 1 } param { lr_mult: 0 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def solver_file(tmp_path, monkeypatch):
    """Writes a solver, and its net, into files whose names say nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").write_text(NET)

    def write(more="", policy='"step" gamma: 0.5 stepsize: 4', seed="random_seed: 3"):
        (tmp_path / "solver").write_text(
            f'net: "net" test_iter: 1 test_interval: 10 base_lr: 0.1 lr_policy: {policy} '
            f'max_iter: 6 snapshot_prefix: "run" {seed} {more}'
        )
        return str(tmp_path / "solver")

    return write


def test_step_and_solve_count_iterations(solver_file):
    solver = caffe.get_solver(solver_file())
    assert solver.iter == 0 and solver.lr == 0.1 and solver.param.max_iter == 6
    solver.step(3)
    assert solver.iter == 3 and solver.lr == 0.1
    solver.step(1)
    assert solver.iter == 4 and solver.lr == 0.05
    solver.solve()
    assert solver.iter == 6
    assert len(solver.test_nets) == 1 and isinstance(solver.net, caffe.Net)


def test_snapshots_without_a_prefix_are_named_after_the_solver_file_as_in_caffe(solver_file, tmp_path):
    (tmp_path / "s.prototxt").write_text(
        Path(solver_file()).read_text().replace('snapshot_prefix: "run"', "")
    )
    caffe.get_solver("s.prototxt").snapshot()
    assert {"s_iter_0.caffemodel", "s_iter_0.solverstate"} <= {path.name for path in tmp_path.iterdir()}


def test_a_net_is_looked_up_in_the_working_directory_first_as_in_caffe(solver_file, tmp_path):
    (tmp_path / "sub").mkdir()
    path = solver_file()
    (tmp_path / "sub" / "solver").write_text((tmp_path / "solver").read_text())
    (tmp_path / "sub" / "net").write_text(NET.replace("num_output: 5", "num_output: 7"))
    for solver in (path, "sub/solver"):
        assert caffe.SGDSolver(solver).net.params["ip"][0].data.shape == (5, 3)
    (tmp_path / "net").unlink()
    assert caffe.SGDSolver("sub/solver").net.params["ip"][0].data.shape == (7, 3)


def test_apply_update_subtracts_what_is_written_into_diff(solver_file):
    solver = caffe.SGDSolver(solver_file())
    weight = solver.net.params["ip"][0]
    weight.data[...] = 0
    weight.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(weight.data, -0.1, rtol=1e-6)
    assert solver.iter == 1


def test_apply_update_counts_an_iteration_so_that_the_learning_rate_follows(solver_file):
    """A training loop of a script's own ends where ``step`` does, momentum, decay of the rate and all."""
    by_hand, by_step = (caffe.SGDSolver(solver_file()) for _ in range(2))
    for _ in range(6):
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.net.backward()
        by_hand.apply_update()
    by_step.step(6)
    assert by_hand.iter == 6 and by_hand.lr == by_step.lr
    for mine, its in zip(by_hand.net.params["ip"], by_step.net.params["ip"], strict=True):
        np.testing.assert_array_equal(mine.data, its.data)


@pytest.mark.parametrize(
    ("cls", "type_name"),
    [
        (caffe.SGDSolver, "SGD"),
        (caffe.NesterovSolver, "Nesterov"),
        (caffe.AdaGradSolver, "AdaGrad"),
        (caffe.RMSPropSolver, "RMSProp"),
        (caffe.AdaDeltaSolver, "AdaDelta"),
        (caffe.AdamSolver, "Adam"),
    ],
)
def test_the_class_says_the_rule_and_get_solver_finds_the_class(solver_file, cls, type_name):
    named = caffe.get_solver(solver_file(f'type: "{type_name}"'))
    assert type(named) is cls
    solver = cls(solver_file())
    named.step(3)
    solver.step(3)
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, named.net.params["ip"][0].data)


@pytest.mark.parametrize("form", ["", "snapshot_format: HDF5"])
@pytest.mark.parametrize("type_name", ["SGD", "Adam"])
def test_a_snapshot_is_caffes_and_training_goes_on_from_it(solver_file, tmp_path, form, type_name):
    if form:
        pytest.importorskip("h5py")
    ending = ".h5" if form else ""
    path = solver_file(f'{form} type: "{type_name}" momentum: 0.9 snapshot: 3 snapshot_after_train: false')
    solver = caffe.get_solver(path)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    make_constant(solver, x)
    solver.step(6)
    assert (tmp_path / f"run_iter_3.caffemodel{ending}").is_file()
    if form:
        with pytest.importorskip("h5py").File("run_iter_3.solverstate.h5") as file:
            assert file["learned_net"].dtype == f"S{len('run_iter_3.caffemodel.h5') + 1}", (
                "with its zero byte"
            )
    again = caffe.get_solver(path)
    again.restore(f"run_iter_3.solverstate{ending}")
    assert again.iter == 3
    make_constant(again, x)
    again.step(3)
    np.testing.assert_array_equal(again.net.params["ip"][0].data, solver.net.params["ip"][0].data)


@pytest.mark.parametrize(("iteration", "passed"), [(3, 0), (4, 1), (5, 1), (6, 2)])
def test_a_state_has_the_steps_that_were_passed(solver_file, tmp_path, iteration, passed):
    """As Caffe 1.0 wrote it at these iterations: a step is passed once an iteration ran at the new rate."""
    solver = caffe.SGDSolver(solver_file(policy='"multistep" gamma: 0.5 stepvalue: 3 stepvalue: 5'))
    solver.step(iteration)
    solver.snapshot()
    state = caffe_pb2.SolverState.FromString((tmp_path / f"run_iter_{iteration}.solverstate").read_bytes())
    assert (state.iter, state.current_step) == (iteration, passed)


def make_constant(solver, x):
    """Let every batch be ``x``: the weights are what is compared, not the data's random numbers."""
    solver.add_callback(lambda: None, lambda: put_gradient(solver, x))


def put_gradient(solver, x):
    weight = solver.net.params["ip"][0]
    weight.diff[...] = 0.01 * (weight.data - x.sum())


def test_callbacks_run_before_forward_and_after_backward(solver_file):
    solver = caffe.SGDSolver(solver_file())
    seen = []

    def start():
        seen.append(("start", bool(solver.net.params["ip"][0].diff.any())))

    def ready():
        seen.append(("ready", bool(solver.net.params["ip"][0].diff.any())))
        solver.net.params["ip"][0].diff[...] = 0

    before = solver.net.params["ip"][0].data.copy()
    solver.add_callback(start, ready)
    solver.step(2)
    assert seen == [("start", False), ("ready", True)] * 2
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, before)


def test_the_learning_rate_may_be_changed(solver_file):
    solver = caffe.SGDSolver(solver_file())
    solver.param.base_lr = 0
    before = solver.net.params["ip"][0].data.copy()
    solver.step(2)
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, before)


def test_nets_outlive_their_solver_and_share_its_weights(solver_file):
    solver = caffe.SGDSolver(solver_file())
    net, other = solver.net, caffe.Net("net", caffe.TEST)
    before = net.params["ip"][0].data.copy()
    solver.share_weights(other)
    np.testing.assert_array_equal(net.params["ip"][0].data, before)
    del solver
    net.params["ip"][0].data[...] = 4
    other.forward()
    assert (other.params["ip"][0].data == 4).all()


def test_a_seed_for_the_process_makes_runs_equal(solver_file):
    found = []
    for seed in (11, 11, 12):
        caffe.set_random_seed(seed)
        (solver := caffe.SGDSolver(solver_file(seed=""))).step(2)
        found.append(solver.net.params["ip"][0].data.copy())
    np.testing.assert_array_equal(*found[:2])
    assert (found[0] != found[2]).any()


def test_a_wrong_solver_file_is_one_line(tmp_path):
    (tmp_path / "solver").write_text('net: "gone" base_lr: 0.1 lr_policy: "fixed"')
    with pytest.raises(
        mc.SpecError, match="no file 'gone' beside the solver spec or in the working directory"
    ):
        caffe.get_solver(tmp_path / "solver")


def test_functions_around_layers_are_called_in_training_too(solver_file):
    solver, calls = caffe.SGDSolver(solver_file()), []
    solver.net.after_forward(lambda i: calls.append(solver.net._layer_names[i]))
    solver.step(2)
    assert calls == ["data", "ip", "loss"] * 2
