"""Broken specs, data, weights and flags: each gives one clear line and exit status 2, and never a traceback."""

import re
import subprocess
import sys

import numpy as np
import pytest

from minicaffe.cli.program import main

pytestmark = pytest.mark.cpu_only("of words; test_divergence.py runs on the double too")
NET = """name: small
layer:
- name: data
  type: DummyData
  top: [data, label]
  dummy_data_param: {shape: [{dim: [4, 3, 8, 8]}, {dim: [4]}], data_filler: {type: constant}}
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 4, kernel_size: 3}
- name: pool
  type: Pooling
  pooling_param: {kernel_size: 2, stride: 2}
- name: ip
  type: InnerProduct
  inner_product_param: {num_output: 5}
- name: loss
  type: SoftmaxWithLoss
  bottom: [ip, label]
"""
SOLVER = """net: net.yaml
base_lr: 0.01
lr_policy: fixed
max_iter: 2
snapshot_prefix: snap/run
random_seed: 1
"""

# (what is wrong, text to replace in the net, what stands there instead, what the message must say)
NETS = [
    (
        "an unknown field",
        "num_output: 4,",
        "num_outputs: 4,",
        r"net.yaml:10: layer 'conv'.*num_outputs.*'num_output'",
    ),
    ("a solver", "layer:", "base_lr: 1\nlayer:", r"base_lr: unknown field; this is a solver spec, but a net"),
    ("an unknown type", "type: Convolution", "type: Convolutoin", r"net.yaml:8?.*Convolutoin.*'Convolution'"),
    (
        "a field of another type",
        "convolution_param",
        "pooling_param",
        r"layer 'conv': pooling_param: unknown field",
    ),
    (
        "text for a number",
        "num_output: 4,",
        "num_output: four,",
        r"num_output: expected a whole number, got 'four'",
    ),
    ("a fraction for a count", "num_output: 4,", "num_output: 4.5,", r"num_output: expected a whole number"),
    (
        "a count out of range",
        "num_output: 4,",
        "num_output: 0,",
        r"num_output: 0 is out of range.*at least 1",
    ),
    (
        "a missing required field",
        "num_output: 4, ",
        "",
        r"layer 'conv': convolution_param.num_output: required",
    ),
    (
        "a missing message",
        "  convolution_param: {num_output: 4, kernel_size: 3}\n",
        "",
        r"num_output: required",
    ),
    ("a list for a value", "num_output: 5", "num_output: [5, 6]", r"num_output: expected.*got a list"),
    ("a value for a message", "{num_output: 5}", "5", r"inner_product_param: expected a mapping"),
    ("a wrong enum value", "kernel_size: 2,", "kernel_size: 2, pool: MAXX,", r"MAXX.*did you mean 'MAX'"),
    (
        "a wrong truth value",
        "num_output: 5",
        "num_output: 5, bias_term: maybe",
        r"bias_term: expected true or false",
    ),
    (
        "an unknown filler",
        "kernel_size: 3",
        "kernel_size: 3, weight_filler: {type: xaver}",
        r"xaver.*'xavier'",
    ),
    ("a field given twice", "num_output: 5", "num_output: 5, num_output: 6", r"num_output: given twice"),
    (
        "two layers of one name",
        "name: pool",
        "name: conv",
        r"name: 'conv' is also the name of the layer at line 7",
    ),
    ("a bottom that nobody makes", "bottom: data", "bottom: dta", r"no layer makes the blob 'dta'.*'data'"),
    ("a bottom made further down", "bottom: data", "bottom: loss", r"cycle"),
    (
        "a top made twice",
        "type: Pooling",
        "type: Pooling\n  top: data",
        r"'data' is a top of layer 'data' already",
    ),
    ("too few bottoms", "bottom: [ip, label]", "bottom: [ip]", r"SoftmaxWithLoss takes 2, got 1"),
    (
        "too many tops",
        "type: Pooling",
        "type: Pooling\n  top: [a, b, c]",
        r"Pooling takes 1 to 2, got 3",
    ),
    ("a layer without a name", "- name: pool\n  type", "- type", r"name: required"),
    ("a layer without a type", "  type: Pooling\n", "", r"layer 'pool': type: required"),
    ("a kernel larger than the image", "kernel_size: 3", "kernel_size: 11", r"layer 'conv'.*does not fit"),
    (
        "a group that does not divide",
        "kernel_size: 3",
        "kernel_size: 3, group: 3",
        r"group: 3 does not divide",
    ),
    ("a pad as large as the kernel", "stride: 2}", "stride: 2, pad: 2}", r"layer 'pool'.*pad"),
    ("labels that do not match", "{dim: [4]}]", "{dim: [3]}]", r"layer 'loss'"),
    ("an axis out of range", "num_output: 5", "num_output: 5, axis: 9", r"axis 9 is out of range"),
    (
        "include and exclude",
        "type: Pooling",
        "type: Pooling\n  include: {phase: TRAIN}\n  exclude: {phase: TEST}",
        r"not both",
    ),
    ("an unknown phase", "type: Pooling", "type: Pooling\n  include: {phase: TRIAN}", r"TRIAN.*'TRAIN'"),
    (
        "too many params",
        "type: Pooling",
        "type: Pooling\n  param: [{lr_mult: 1}]",
        r"param: 1 given.*0 parameters",
    ),
    (
        "a wrong loss_weight count",
        "bottom: [ip, label]",
        "bottom: [ip, label]\n  loss_weight: [1, 2]",
        r"loss_weight: 2 given",
    ),
    ("no layers", NET, "name: empty\n", r"no layers"),
    ("an empty file", NET, "", r"net.yaml: the file is empty"),
    ("a list for a net", NET, "- a\n- b\n", r"a spec is a mapping"),
    ("YAML that is broken", "top: [data, label]", "top: [data, label", r"net.yaml:\d+: not valid YAML"),
    ("a tab for indentation", "  type: Pooling", "\ttype: Pooling", r"not valid YAML"),
    (
        "a Python object",
        "num_output: 5",
        "num_output: !!python/object/apply:os.getcwd []",
        r"num_output: expected",
    ),
    ("an anchor inside itself", NET, "layer: &a [*a]\n", r"net.yaml"),
]

HUGE = [
    ("filters", "num_output: 4,", "num_output: 1000000000,", r"layer 'conv'.*more than"),
    (
        "beyond 32 bits",
        "num_output: 4,",
        "num_output: 1000000000000000000000000000000,",
        r"num_output.*out of range",
    ),
    ("outputs", "num_output: 5", "num_output: 1000000000", r"layer 'ip'.*more than"),
    ("padding", "kernel_size: 3", "kernel_size: 3, pad: 1000000", r"layer 'conv'.*more than"),
    ("kernel", "kernel_size: 3", "kernel_size: 1000000000, pad: 1000000000", r"layer 'conv'"),
    ("dimensions", "[4, 3, 8, 8]", "[1000000000, 3, 800, 800]", r"layer 'data'.*more than"),
    ("axes", "[4, 3, 8, 8]", str([1] * 71), r"layer 'data'.*32 axes"),
    ("nothing", "[4, 3, 8, 8]", "[4, 0, 8, 8]", r"layer 'conv'.*no channels"),
    ("a NUL", "name: small", "name: a\0b", r"net.yaml: not valid YAML"),
    ("an empty kernel", "kernel_size: 3", "kernel_size: []", r"kernel_size: required"),
    ("an empty name", "name: pool", 'name: ""', r"name: "),
]

SOLVERS = [
    ("a negative gamma", "fixed", "inv\ngamma: -1\npower: 1", r"gamma: -1 is out of range"),
    (
        "a count beyond 32 bits",
        "max_iter: 2",
        "max_iter: 2\naverage_loss: 100000000000000000000",
        r"average_loss",
    ),
    (
        "an unknown field",
        "base_lr: 0.01",
        "base_lrr: 0.01",
        r"base_lrr: unknown field; did you mean 'base_lr'",
    ),
    (
        "a net",
        "base_lr: 0.01",
        "layer: []",
        r"layer: unknown field; this is a net spec, but a solver spec is",
    ),
    ("no learning rate", "base_lr: 0.01\n", "", r"base_lr: required"),
    ("an unknown policy", "fixed", "stepp", r"unknown policy 'stepp'.*'step'"),
    ("a policy without its field", "fixed", "step", r"gamma: required by lr_policy 'step'"),
    ("an unknown solver", "max_iter: 2", "max_iter: 2\ntype: Adamm", r"unknown solver 'Adamm'.*'Adam'"),
    ("no net", "net: net.yaml\n", "", r"give one training net"),
    ("two nets", "max_iter: 2", "max_iter: 2\ntrain_net: net.yaml", r"net: give one training net"),
    (
        "an update of no batches",
        "max_iter: 2",
        "max_iter: 2\niter_size: 0",
        r"iter_size: 0 is out of range; it must be at least 1",
    ),
    (
        "a state too many for the tests",
        "max_iter: 2",
        "max_iter: 2\ntest_iter: 1\ntest_interval: 1\ntest_state: [{stage: a}, {stage: b}]",
        r"test_state: give one for each test net, as many as test_iter",
    ),
    (
        "a net that is not there",
        "net: net.yaml",
        "net: nett.yaml",
        r"solver.yaml:1: net: no file 'nett.yaml'",
    ),
    ("no max_iter", "max_iter: 2\n", "", r"max_iter: required"),
    ("a momentum of one", "max_iter: 2", "max_iter: 2\nmomentum: 1", r"momentum: 1 is out of range"),
    ("test_iter without an interval", "max_iter: 2", "max_iter: 2\ntest_iter: 1", r"test_interval: required"),
    (
        "too few test_iter",
        "max_iter: 2",
        "max_iter: 2\ntest_net: [a, b]\ntest_iter: 1\ntest_interval: 1",
        r"test_iter: 1 given for 2",
    ),
    ("a wrong regularization", "max_iter: 2", "max_iter: 2\nregularization_type: L3", r"L1 or L2"),
]

FLAGS = [
    ("a prototxt that is not there", ["train", "solver.prototxt"], r"solver.prototxt: cannot be read"),
    ("a solver that is not there", ["train", "nothing.yaml"], r"nothing.yaml: cannot be read"),
    ("a folder for a solver", ["train", "."], r"is a folder, and no spec; name one that is in it"),
    ("binary for a solver", ["train", "weights.npz"], r"holds weights alone, not a net"),
    (
        "an unknown device",
        ["train", "solver.yaml", "--device", "tpu"],
        r"device 'tpu': must be auto, cpu, gpu",
    ),
    ("a device number for the CPU", ["train", "solver.yaml", "--device", "cpu:1"], r"device 'cpu:1'"),
    (
        "weights that are not there",
        ["train", "solver.yaml", "--weights", "no.npz"],
        r"no.npz: cannot be read",
    ),
    (
        "weights that are text",
        ["train", "solver.yaml", "--weights", "net.yaml"],
        r"net.yaml: is a text; expected weights \(.npz, .caffemodel",
    ),
    (
        "truncated weights",
        ["train", "solver.yaml", "--weights", "short.npz"],
        r"short.npz: not a readable .npz",
    ),
    ("weights of another net", ["train", "solver.yaml", "--weights", "other.npz"], r"another net's weights"),
    (
        "weights of other shapes",
        ["train", "solver.yaml", "--weights", "shape.npz"],
        r"'conv/0' has shape \(4, 3, 5, 5\)",
    ),
    (
        "weights with too few arrays",
        ["train", "solver.yaml", "--weights", "few.npz"],
        r"layer 'conv' has 1 arrays",
    ),
    ("pickled weights", ["train", "solver.yaml", "--weights", "pickle.npz"], r"pickle.npz"),
    ("weights for a state", ["train", "solver.yaml", "--snapshot", "weights.npz"], r"is not a solver state"),
    (
        "an image for weights",
        ["train", "solver.yaml", "--weights", "image.npz"],
        r"image.npz: is a PNG image; expected weights",
    ),
    (
        "an image for a state",
        ["train", "solver.yaml", "--snapshot", "image.npz"],
        r"image.npz: is a PNG image; expected a solver state \(.solverstate.npz",
    ),
    ("nothing for weights", ["train", "solver.yaml", "--weights", "empty.npz"], r"empty.npz: is empty"),
    (
        "a state for weights",
        ["train", "solver.yaml", "--weights", "run.solverstate.npz"],
        r"run.solverstate.npz: a solver state, not weights; give the weights that were written beside it",
    ),
    (
        "a state by another name for weights",
        ["train", "solver.yaml", "--weights", "state.npz"],
        r"state.npz: a solver state, not weights",
    ),
    ("no name of weights", ["train", "solver.yaml", "--weights", ""], r"cannot be read"),
    ("no name of a state", ["train", "solver.yaml", "--snapshot", ""], r"cannot be read"),
    (
        "a state that is not there",
        ["train", "solver.yaml", "--snapshot", "no.npz"],
        r"no.npz: cannot be read",
    ),
    (
        "no snapshot to resume",
        ["train", "solver.yaml", "--snapshot", "latest"],
        r"no snapshot 'snap/run_iter",
    ),
    ("weights and a state", ["train", "solver.yaml", "--weights", "a", "--snapshot", "b"], r"not both"),
    ("a net for a solver", ["train", "net.yaml"], r"net.yaml:\d+: "),
    ("a solver for a net", ["summary", "solver.yaml"], r"solver.yaml:\d+: "),
    ("summary of nothing", ["summary"], r"give a net spec"),
    (
        "test of a net that is not there",
        ["test", "no.yaml", "--weights", "weights.npz"],
        r"no.yaml: cannot be read",
    ),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a good net, a good solver, and weights good and bad."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "solver.yaml").write_text(SOLVER)
    good = {
        "conv/0": np.zeros((4, 3, 3, 3)),
        "conv/1": np.zeros(4),
        "ip/0": np.zeros((5, 36)),
        "ip/1": np.zeros(5),
    }
    np.savez("weights.npz", **good)
    (tmp_path / "short.npz").write_bytes((tmp_path / "weights.npz").read_bytes()[:-300])
    np.savez("run.solverstate.npz", **{"history/conv/0/0": np.zeros(3), "meta": np.array("{}")})
    (tmp_path / "state.npz").write_bytes((tmp_path / "run.solverstate.npz").read_bytes())
    (tmp_path / "image.npz").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "empty.npz").touch()
    np.savez("other.npz", **{"fc/0": np.zeros(3)})
    np.savez("shape.npz", **{**good, "conv/0": np.zeros((4, 3, 5, 5))})
    np.savez("few.npz", **{"conv/0": good["conv/0"]})
    np.savez("pickle.npz", **{"conv/0": np.array([None, {}], object), "conv/1": good["conv/1"]})
    return tmp_path


def assert_one_line(arguments, capsys, message):
    status = main(arguments)
    error = capsys.readouterr().err
    assert status == 2
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert re.search(message, error), error


def test_the_unbroken_files_work(folder, capsys):
    assert main(["train", "solver.yaml", "--weights", "weights.npz"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("what", "old", "new", "message"), NETS, ids=[case[0] for case in NETS])
def test_a_broken_net_gives_one_line(folder, capsys, what, old, new, message):
    assert old in NET
    (folder / "net.yaml").write_text(NET.replace(old, new, 1))
    assert_one_line(["train", "solver.yaml"], capsys, message)


@pytest.mark.parametrize(("what", "old", "new", "message"), SOLVERS, ids=[case[0] for case in SOLVERS])
def test_a_broken_solver_gives_one_line(folder, capsys, what, old, new, message):
    assert old in SOLVER
    (folder / "solver.yaml").write_text(SOLVER.replace(old, new, 1))
    assert_one_line(["train", "solver.yaml"], capsys, message)


@pytest.mark.parametrize(("what", "arguments", "message"), FLAGS, ids=[case[0] for case in FLAGS])
def test_a_broken_flag_or_file_gives_one_line(folder, capsys, what, arguments, message):
    assert_one_line(arguments, capsys, message)


@pytest.mark.parametrize(("what", "old", "new", "message"), HUGE, ids=[case[0] for case in HUGE])
def test_a_size_beyond_reason_gives_one_line_at_once(folder, capsys, what, old, new, message):
    assert old in NET
    (folder / "net.yaml").write_text(NET.replace(old, new, 1))
    assert_one_line(["train", "solver.yaml"], capsys, message)


WRONG_FLAGS = [
    ["train"],
    ["train", "s.yaml", "--nope"],
    ["test", "n.yaml", "--weights", "w", "--iterations", "x"],
    ["x"],
]


@pytest.mark.parametrize("arguments", WRONG_FLAGS, ids=" ".join)
def test_a_wrong_flag_gives_one_line(folder, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1


def test_a_full_disk_under_the_log_gives_one_line(folder, capsys):
    import os

    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    (folder / "snap").mkdir()
    (folder / "snap" / "run.log.jsonl").symlink_to("/dev/full")
    assert_one_line(
        ["train", "solver.yaml", "--allow-output", "/dev"], capsys, r"run.log.jsonl.*No space left"
    )


LIST_NET = NET.replace(
    "type: DummyData", "type: ImageData\n  image_data_param: {source: list.txt, batch_size: 2}"
).replace(
    "  dummy_data_param: {shape: [{dim: [4, 3, 8, 8]}, {dim: [4]}], data_filler: {type: constant}}\n", ""
)

LISTS = [
    ("a list that is not there", None, r"list.txt"),
    ("an empty list", b"", r"list.txt"),
    ("a line without a label", b"a.png\n", r"list.txt.*1"),
    ("a label that is no number", b"a.png one\n", r"list.txt.*1"),
    ("an image that is not there", b"a.png 0\nnone.png 1\n", r"none.png"),
    ("an image that is text", b"a.png 0\nlist.txt 1\n", r"list.txt"),
    ("an image of another size", b"a.png 0\nb.png 1\n", r"size|shape|8"),
]


@pytest.mark.parametrize(("what", "content", "message"), LISTS, ids=[case[0] for case in LISTS])
def test_a_broken_image_list_gives_one_line(folder, capsys, what, content, message):
    from PIL import Image

    (folder / "net.yaml").write_text(LIST_NET)
    Image.new("RGB", (8, 8)).save("a.png")
    Image.new("RGB", (9, 8)).save("b.png")
    if content is not None:
        (folder / "list.txt").write_bytes(content)
    assert_one_line(["train", "solver.yaml"], capsys, message)


@pytest.mark.cpu_only("a GPU would have to wait for it")
def test_labels_that_are_no_class_give_one_line(folder, capsys):
    net = NET.replace(
        "data_filler: {type: constant}", "data_filler: [{type: constant}, {type: constant, value: 7}]"
    )
    (folder / "net.yaml").write_text(net)
    assert_one_line(["train", "solver.yaml"], capsys, r"layer 'loss': labels from 7 to 7.*5 classes")


def test_a_loss_that_is_no_number_gives_one_line_and_leaves_snapshots(folder, capsys):
    main(["train", "solver.yaml"])
    kept = sorted(p.name for p in (folder / "snap").iterdir())
    (folder / "solver.yaml").write_text(
        SOLVER.replace("0.01", "1e30").replace("max_iter: 2", "max_iter: 9\ndisplay: 1")
    )
    net = NET.replace("{type: constant}", "{type: gaussian}").replace(
        "num_output: 5", "num_output: 5, weight_filler: {type: xavier}"
    )
    (folder / "net.yaml").write_text(
        net.replace(
            "{dim: [4]}], data_filler: {type: gaussian}",
            "{dim: [4]}], data_filler: [{type: gaussian}, {type: constant}]",
        )
    )
    capsys.readouterr()
    with np.errstate(all="ignore"):
        assert_one_line(["train", "solver.yaml"], capsys, r"iteration \d: the loss is (nan|inf).*base_lr")
    assert sorted(p.name for p in (folder / "snap").iterdir()) == kept


def test_a_folder_that_cannot_be_written_gives_one_line(folder, capsys):
    (folder / "snap").write_text("a file where the folder should be")
    assert_one_line(["train", "solver.yaml"], capsys, r"snap")


def test_the_command_itself_ends_with_status_2_and_no_traceback(folder):
    result = subprocess.run(
        [sys.executable, "-m", "minicaffe.cli", "train", "none.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: none.yaml")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(folder):
    from minicaffe.errors import SpecError

    with pytest.raises(SpecError):
        main(["train", "none.yaml", "--debug"])
