"""Caffe's solver files: a run that Caffe began goes on here (golden/caffe, by record.py)."""

import logging
import re
import shutil

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.caffe.formats.solverstate import read_state, write_state
from minicaffe.cli.program import main
from minicaffe.errors import SpecError, TrainingError, WeightError
from minicaffe.files.spec_formats import open_solver
from tests.golden_files import FOLDER, assert_near, param_blob, parts, recorded

GOLDEN = FOLDER / "caffe"
RULES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.fixture
def solver_of(tmp_path):
    """A solver of the recorded run of a rule, from a .prototxt; its folder has the net and Caffe's snapshots."""
    for file in [GOLDEN / "train.prototxt", *GOLDEN.glob("*_iter_6.*")]:
        shutil.copy(file, tmp_path)

    def make(rule, more=""):
        settings = str(recorded("caffe/train")[rule]["settings"])
        text = f"net: 'train.prototxt' type: '{rule}' {settings} weight_decay: 0.01 random_seed: 1 {more}"
        (tmp_path / "solver.prototxt").write_text(text)
        return mc.Solver(tmp_path / "solver.prototxt")

    return make


def train_to_the_end(solver):
    with np.load(GOLDEN / "train.npz") as file:
        data, label = file["data"], file["label"]
    for step in range(solver.iter, len(data)):
        solver.net.blobs["data"].data[...] = solver.net.setting.device.put(data[step])
        solver.net.blobs["label"].data[...] = solver.net.setting.device.put(label[step])
        solver.step(1)


def assert_weights_are_caffes(net, rule):
    for key, value in parts(recorded("caffe/train")[rule], "p_").items():
        assert_near(mc.to_host(param_blob(net, key).data), value, 1e-5, key)


@pytest.mark.parametrize("rule", RULES)
def test_a_run_goes_on_from_a_state_of_caffe(rule, solver_of, tmp_path):
    solver = solver_of(rule)
    solver.restore(tmp_path / f"{rule}_iter_6.solverstate")
    assert solver.iter == 6
    train_to_the_end(solver)
    assert_weights_are_caffes(solver.net, rule)


def test_a_state_in_hdf5_is_that_in_protobuf(solver_of, tmp_path):
    pytest.importorskip("h5py")
    solver = solver_of("SGD")
    solver.restore(tmp_path / "SGD_iter_6.solverstate.h5")
    train_to_the_end(solver)
    assert_weights_are_caffes(solver.net, "SGD")


def test_the_weights_of_a_state_may_be_given(solver_of, tmp_path):
    (tmp_path / "SGD_iter_6.caffemodel").rename(tmp_path / "moved.caffemodel")
    solver = solver_of("SGD")
    with pytest.raises(
        TrainingError, match=r"its weights, 'SGD_iter_6.caffemodel', are neither there nor beside"
    ):
        solver.restore(tmp_path / "SGD_iter_6.solverstate")
    solver.restore(tmp_path / "SGD_iter_6.solverstate", tmp_path / "moved.caffemodel")
    train_to_the_end(solver)
    assert_weights_are_caffes(solver.net, "SGD")


def test_a_snapshot_after_a_state_of_caffe_is_one_of_ours(solver_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = solver_of("Adam", "snapshot_prefix: 'snap/run'")
    solver.restore(tmp_path / "Adam_iter_6.solverstate")
    state = solver.snapshot()
    again = solver_of("Adam", "snapshot_prefix: 'snap/run'")
    again.restore(state)
    train_to_the_end(again)
    assert_weights_are_caffes(again.net, "Adam")


def test_the_command_trains_on_from_a_state_of_caffe(solver_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    solver_of("SGD", "max_iter: 8 snapshot_prefix: 'snap/run' snapshot_format: HDF5 layer_wise_reduce: false")
    assert main(["train", "solver.prototxt", "--snapshot", "SGD_iter_6.solverstate"]) == 0
    assert (tmp_path / "snap" / "run_iter_8.solverstate.npz").is_file()
    (tmp_path / "SGD_iter_6.caffemodel").rename("moved.caffemodel")
    command = ["train", "solver.prototxt", "--snapshot", "SGD_iter_6.solverstate"]
    assert main(command) == 2
    assert "give them (--weights" in capsys.readouterr().err
    assert main([*command, "--weights", "moved.caffemodel"]) == 0


def other_step(state):
    state.current_step = 2


def test_another_count_of_passed_stepvalues_is_said(solver_of, tmp_path, caplog):
    path = tmp_path / "SGD_iter_6.solverstate"
    solver = solver_of("SGD")
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        solver.restore(path)
        assert caplog.text == ""
        change_state(path, other_step)
        solver.restore(path)
    assert "had passed 2 stepvalues, by this spec it would be 1" in caplog.text


def change_state(path, change):
    state = message_class("SolverState").FromString(path.read_bytes())
    change(state)
    path.write_bytes(state.SerializeToString())


def one_less(state):
    del state.history[-1]


def other_shape(state):
    state.history[0].shape.dim[:] = [54]


def fewer_numbers(state):
    del state.history[0].data[5:]


def no_iteration(state):
    state.ClearField("iter")


def early_iteration(state):
    state.iter = -1


def no_weights(state):
    state.ClearField("learned_net")


STATES = [
    ("another number of arrays", one_less, r"has 3 history arrays; this solver has 4"),
    ("another shape", other_shape, r"the history of parameter 0 has shape \(54,\), the net's \(3, 2, 3, 3\)"),
    ("too few numbers", fewer_numbers, r"5 numbers do not fit the shape \(3, 2, 3, 3\)"),
    ("no iteration", no_iteration, r"not a solver state of Caffe \(has no iteration\)"),
    ("an iteration before the first", early_iteration, r"iteration -1"),
    ("no weights", no_weights, r"names no weights; give them"),
]


@pytest.mark.parametrize(("what", "change", "message"), STATES, ids=[case[0] for case in STATES])
def test_a_state_that_does_not_fit_changes_nothing(solver_of, tmp_path, what, change, message):
    path = tmp_path / "SGD_iter_6.solverstate"
    solver = solver_of("SGD")
    before = mc.to_host(solver.net.params["ip"][0].data).copy()
    change_state(path, change)
    with pytest.raises(TrainingError, match=f"SGD_iter_6.solverstate: .*{message}"):
        solver.restore(path)
    assert solver.iter == 0
    np.testing.assert_array_equal(mc.to_host(solver.net.params["ip"][0].data), before)


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_a_state_is_written_as_caffe_writes_it_to_the_byte(rule, tmp_path):
    given = GOLDEN / f"{rule}_iter_6.solverstate"
    state = read_state(given)
    assert (state.iter, state.learned_net, state.current_step) == (6, f"{rule}_iter_6.caffemodel", 1)
    state.path = tmp_path / "again.solverstate"
    write_state(state)
    assert state.path.read_bytes() == given.read_bytes()


def data_sets(path):
    """{name: (type, shape, bytes)} of all that an HDF5 file holds."""
    found = {}
    with pytest.importorskip("h5py").File(path) as file:
        file.visititems(lambda name, item: found.update({name: item} if hasattr(item, "dtype") else {}))
        return {name: (str(x.dtype), x.shape, x[()].tobytes()) for name, x in found.items()}


def test_a_state_in_hdf5_is_written_with_the_data_sets_of_caffes(tmp_path):
    pytest.importorskip("h5py")
    given = GOLDEN / "SGD_iter_6.solverstate.h5"
    state = read_state(given)
    assert (state.iter, state.learned_net, state.current_step) == (6, "SGD_iter_6.caffemodel.h5", 1)
    state.path = tmp_path / "again.solverstate.h5"
    write_state(state)
    assert data_sets(state.path) == data_sets(given)


@pytest.mark.parametrize("missing", ["iter", "current_step", "history"])
def test_an_hdf5_file_without_what_a_state_has_is_refused(solver_of, tmp_path, missing):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "SGD_iter_6.solverstate.h5"
    with h5py.File(path, "r+") as file:
        del file[missing]
    with pytest.raises(TrainingError, match=r"SGD_iter_6\.solverstate\.h5: not a solver state of Caffe \("):
        solver_of("SGD").restore(path)


def old_axes(state):
    """The shape of every history array as files of 2014 have it: 1s before where it has fewer than four axes."""
    for array in state.history:
        axes = [1, 1, 1, 1, *array.shape.dim][-4:]
        array.num, array.channels, array.height, array.width = axes
        array.ClearField("shape")


def test_a_state_with_four_old_axes_goes_on_as_one_of_today(solver_of, tmp_path):
    path = tmp_path / "SGD_iter_6.solverstate"
    solver = solver_of("SGD")
    change_state(path, old_axes)
    solver.restore(path)
    train_to_the_end(solver)
    assert_weights_are_caffes(solver.net, "SGD")


def axes_behind(state):
    array = state.history[1]
    array.num, array.channels, array.height, array.width = *array.shape.dim, 1, 1, 1


def three_axes(state):
    state.history[1].shape.dim[:] = [1, 1, *state.history[1].shape.dim]


@pytest.mark.parametrize("change", [axes_behind, three_axes])
def test_ones_behind_or_too_few_before_are_another_shape(solver_of, tmp_path, change):
    """As where Caffe compares weights (``Blob::ShapeEquals``)."""
    path = tmp_path / "SGD_iter_6.solverstate"
    solver = solver_of("SGD")
    change_state(path, change)
    with pytest.raises(TrainingError, match="the history of parameter 1 has shape"):
        solver.restore(path)


def test_a_state_of_another_rule_is_refused(solver_of, tmp_path):
    with pytest.raises(TrainingError, match=r"has 8 history arrays; this solver has 4, 1 for each parameter"):
        solver_of("SGD").restore(tmp_path / "Adam_iter_6.solverstate")


def test_weights_that_are_not_the_nets_change_nothing(solver_of, tmp_path):
    solver = solver_of("SGD")
    with pytest.raises(
        TrainingError, match=r"current.caffemodel: has no weights for layer 'ip'|of another net"
    ):
        solver.restore(tmp_path / "SGD_iter_6.solverstate", GOLDEN / "v0.caffemodel")
    with pytest.raises(WeightError, match=r"'conv/0' has shape"):
        solver.restore(tmp_path / "SGD_iter_6.solverstate", shape_changed(tmp_path / "SGD_iter_6.caffemodel"))
    assert solver.iter == 0
    assert not any(mc.to_host(a).any() for arrays in solver.history.values() for a in arrays)


def shape_changed(path):
    model = message_class("NetParameter").FromString(path.read_bytes())
    next(layer for layer in model.layer if layer.name == "conv").blobs[0].shape.dim[:] = [54]
    path.write_bytes(model.SerializeToString())
    return path


def test_a_state_of_ours_takes_no_other_weights(solver_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = solver_of("SGD", "snapshot_prefix: 'snap/run'").snapshot()
    with pytest.raises(TrainingError, match="has weights of its own"):
        solver_of("SGD").restore(state, "w.npz")


NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3] } }
                 include { phase: TRAIN } }
         layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: [2, 3] } }
                 include { phase: TEST stage: "one" } }
         layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1 } }
         layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }"""
OLD_NET = """input: "data" input_shape { dim: [2, 3] } layers {
         name: "ip" type: INNER_PRODUCT bottom: "data" top: "ip" inner_product_param { num_output: 1 } }"""


def test_nets_may_stand_in_the_solver_itself(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text(
        f"net_param {{ {NET} }} test_net_param {{ {OLD_NET} }} test_iter: [1, 1] test_interval: 5 "
        "test_state {} test_state { stage: 'one' } base_lr: 0.1 lr_policy: 'fixed'"
    )
    solver = mc.Solver(path)
    assert [layer.type for layer in solver.net.layers][:1] == ["Input"]
    assert [net.layers[0].type for net in solver.test_nets] == ["Input", "DummyData"]
    solver.net.params["ip"][0].data[...] = 5
    assert mc.to_host(solver.test_nets[0].params["ip"][0].data).tolist() == [[5, 5, 5]]
    path.write_text(f"train_net_param {{ {NET} }} base_lr: 0.1 lr_policy: 'fixed'")
    assert mc.Solver(path).test_nets == []


BROKEN = [
    ("base_lr: 0.1", "base_lrr: 0.1", r"solver.prototxt:2: base_lrr: unknown field; did you mean 'base_lr'"),
    ("base_lr: 0.1", "base_lr: 'x'", r"solver.prototxt:2: base_lr: expected no quotes around x"),
    ("lr_policy: 'fixed'", "lr_policy: 'stepp'", r"solver.prototxt:3: lr_policy: unknown policy 'stepp'"),
    ("net: 'net.prototxt'", "", r"net: give one training net"),
    ("net: 'net.prototxt'", "net: 'net.prototxt' net_param {}", r"net_param: no layers"),
    ("net: 'net.prototxt'", "net: 'none.prototxt'", r"solver.prototxt:1: net: no file 'none.prototxt'"),
    (
        "net: 'net.prototxt'",
        "net_param { layer { nam: 'x' } }",
        r"solver.prototxt:1: layer '\?': name: req|type: req",
    ),
    ("net: 'net.prototxt'", "solver_mode: TPU", r"solver_mode: expected one of CPU, GPU, got 'TPU'"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN, ids=[case[1] for case in BROKEN])
def test_a_broken_solver_says_file_line_and_mend(tmp_path, old, new, message):
    text = "net: 'net.prototxt'\nbase_lr: 0.1\nlr_policy: 'fixed'\n"
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(text.replace(old, new))
    with pytest.raises(SpecError, match=message):
        mc.Solver(tmp_path / "solver.prototxt")


def test_weights_in_the_solver_may_be_several_in_one_text(tmp_path):
    (tmp_path / "solver.prototxt").write_text(
        "net: 'n' base_lr: 1 lr_policy: 'fixed' weights: 'a.caffemodel, b.npz' weights: 'c.npz'"
    )
    assert open_solver(tmp_path / "solver.prototxt").weights == ["a.caffemodel", "b.npz", "c.npz"]


def test_commands_take_a_prototxt_where_they_take_yaml(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(OLD_NET)
    assert main(["summary", "net.prototxt"]) == 0
    assert re.search(r"ip +InnerProduct +2×1 +4 ", capsys.readouterr().out)
    mc.Net("net.prototxt").save("w.npz")
    data = 'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 1 } } }\n'
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }\n'
    (tmp_path / "scored.prototxt").write_text(data + ip)
    mc.Net("scored.prototxt").save("scored.npz")
    assert main(["test", "scored.prototxt", "--weights", "scored.npz", "--iterations", "1"]) == 0
    assert main(["time", "net.prototxt", "--iterations", "1"]) == 0
