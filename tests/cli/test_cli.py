"""The commands, as a user types them."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe as mc
from minicaffe.cli.caffe_flags import as_ours
from minicaffe.cli.command import CommandGroup
from minicaffe.cli.commands import inspect
from minicaffe.cli.parser import find_commands, make_parser
from minicaffe.cli.program import main
from minicaffe.core.net import Net
from tests import ROOT
from tests.train.training import write_job

PROTOTXT = ROOT / "prototxt"


def test_train_trains_and_test_scores_the_snapshot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    assert main(["train", "solver.yaml", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert "Computing on cpu" in output
    assert re.search(r"Iteration 5 \(\S+ iter/s, .* left\), loss = \S+, lr = 0.002", output)
    assert main(["test", "net.yaml", "--weights", "snap/run_iter_40.npz", "--iterations", "4"]) == 0
    output = capsys.readouterr().out
    assert "Batch 3, accuracy = " in output
    assert re.search(r"^accuracy = 0\.\d+", output, re.MULTILINE)


def test_train_resumes_from_the_latest_snapshot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    solver = write_job(tmp_path)
    main(["train", "solver.yaml"])
    solver.write_text(solver.read_text().replace("max_iter: 40", "max_iter: 44"))
    capsys.readouterr()
    assert main(["train", "solver.yaml", "--snapshot", "latest"]) == 0
    output = capsys.readouterr().out
    assert "Resumed from snap/run_iter_40.solverstate.npz at iteration 40" in output
    assert (tmp_path / "snap" / "run_iter_44.npz").exists()


def test_an_interrupt_before_a_training_begins_is_one_word_and_status_130(tmp_path, monkeypatch, capsys):
    def interrupted(self, spec, **given):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    monkeypatch.setattr(mc.Solver, "__init__", interrupted)
    assert main(["train", "solver.yaml"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_time_gives_each_layer_forward_and_backward(capsys):
    assert main(["time", str(PROTOTXT / "lenet" / "train.yaml"), "--iterations", "2"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^conv1 +Convolution +\d+\.\d+ +\d+\.\d+ +\d+\.\d%", output, re.MULTILINE)
    assert re.search(r"forward and backward: \d+\.\d+ ms", output)


def test_time_warns_of_numbers_that_are_not_finite(tmp_path, capsys):
    Path(tmp_path / "net.yaml").write_text(f"layer: [{DUMMY}, {{type: Log, name: log}}]")
    assert main(["time", str(tmp_path / "net.yaml"), "--iterations", "1"]) == 0
    assert "blob 'log' is not finite" in capsys.readouterr().out.splitlines()[-1]
    assert main(["time", str(PROTOTXT / "lenet" / "deploy.yaml"), "--iterations", "1"]) == 0
    assert "finite" not in capsys.readouterr().out


def test_summary_counts_parameters_and_multiply_adds(capsys):
    assert main(["summary", str(PROTOTXT / "lenet" / "deploy.yaml"), "--phase", "test"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"conv2 +Convolution +64×50×8×8 +25,050 +5\.8% +1,600,000 +69\.8% +12\.5 KiB", output)
    assert re.search(r"all layers +431,080 +2,293,000 +77\.0 KiB$", output, re.MULTILINE)


def test_summary_says_how_many_parameters_are_not_trained(capsys):
    assert main(["summary", str(PROTOTXT / "cifar10_vgg" / "deploy.yaml")]) == 0
    # Six BatchNorms of 64, 64, 128, 128, 256 and 256 channels: a mean and a variance each, and one number a layer.
    output = capsys.readouterr().out
    assert re.search(r"all layers +1,150,672 +152,766,976 ", output)
    assert "1,798 of the parameters are not trained" in output


def test_summary_lists_the_layer_types(capsys):
    assert main(["summary", "--types"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^Convolution +y = w ∗ x \+ b", output, re.MULTILINE)
    assert len(output.splitlines()) > 50
    assert main(["summary", "--types", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["Convolution"].startswith("y = w ∗ x + b")


def all_commands():
    """Every command as its file describes it, by all its words: "lowrank select"."""
    found = {}
    for command in find_commands():
        if isinstance(command, CommandGroup):
            found |= {f"{command.name} {sub.name}": sub for sub in command.commands}
        else:
            found[command.name] = command
    return found


@pytest.mark.parametrize("name", ["", "data", "lowrank", *all_commands()])
def test_help_of_every_command_works(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: minicaffe {name}" in capsys.readouterr().out


def test_a_wrong_flag_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "solver.yaml", "--no-such-flag"])
    assert stop.value.code == 2


@pytest.mark.parametrize(("name", "command"), all_commands().items())
def test_the_help_of_every_command_ends_with_an_example_that_parses(name, command, capsys):
    assert command.example.startswith(name)
    assert make_parser().parse_args(command.example.split()).function is command.run
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    assert capsys.readouterr().out.endswith(f"example:\n  minicaffe {command.example}\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("trian", "train"),
        ("lowrank selct", "select"),
        ("data imges", "images"),
        ("sumary net.yaml", "summary"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(words, meant, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and f"did you mean '{meant}'?" in error


def test_help_shows_the_default_of_every_flag_that_has_one():
    for name, sub in commands(make_parser()).items():
        shown = sub._get_formatter()
        for action in sub._actions:
            if action.option_strings and action.default not in (None, False, [], "", argparse.SUPPRESS):
                text = action.help and shown._expand_help(action)  # without help nothing is shown
                assert text and "(default: " in text, f"{name} {action.option_strings[-1]}: {text}"
            assert not action.help or "(default: )" not in shown._expand_help(action)


def commands(parser):
    """The parsers of all commands, by name."""
    found = {}
    for action in parser._actions:
        for sub in (getattr(action, "choices", None) or {}).values() if action.nargs == "A..." else ():
            found.update(commands(sub) or {sub.prog.partition(" ")[2]: sub})
    return found


def test_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"minicaffe {mc.__version__}\n"


@pytest.mark.cpu_only("a process of its own")
def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "minicaffe", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROTOTXT.parent)
    assert (done.stdout, done.stderr, done.returncode) == (f"minicaffe {mc.__version__}\n", "", 0)


INPUT = "{name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}"
DUMMY = "{name: x, type: DummyData, dummy_data_param: {shape: {dim: [2, 3]}}}"
IP = "{name: ip, type: InnerProduct, inner_product_param: {num_output: 2}"


@pytest.mark.cpu_only("of the phase that a command chooses")
@pytest.mark.parametrize(
    ("layers", "phase"),
    [
        ((INPUT, IP + "}"), "TEST"),
        ((DUMMY, IP + "}"), "TRAIN"),
        ((INPUT, IP + ", loss_weight: 1}"), "TRAIN"),
        ((INPUT, IP + "}", "{type: EuclideanLoss, name: l, bottom: [ip, ip]}"), "TRAIN"),
        ((INPUT, DUMMY.replace("name: x,", "name: y, include: {phase: TEST},"), IP + "}"), "TEST"),
    ],
)
def test_a_net_without_data_and_loss_is_looked_at_as_it_is_used(layers, phase, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text("layer: [" + ", ".join(layers) + "]")
    seen = []
    monkeypatch.setattr(inspect, "Net", lambda *args, **given: seen.append(Net(*args, **given)) or seen[-1])
    for command in ("summary", "time"):
        assert main([command, "net.yaml", *(["--iterations", "1"] if command == "time" else [])]) == 0
        assert main([command, "net.yaml", "--phase", "train"]) == 0
    assert [net.state.phase for net in seen] == [phase, "TRAIN", phase, "TRAIN"]


OURS = "test net.yaml --weights w --iterations 3 --device cpu"


@pytest.mark.parametrize(
    ("caffes", "ours"),
    [
        ("train --solver=s.prototxt -gpu 0", "train s.prototxt --device gpu:0"),
        ("train -solver s.prototxt -weights a,b -gpu all", "train s.prototxt --weights a,b --gpus all"),
        ("train -solver s.prototxt -gpu=0,2", "train s.prototxt --gpus 0,2"),
        ("test -model n.prototxt -weights w -gpu all", "test n.prototxt --weights w --device gpu"),
        ("train --solver s.prototxt --snapshot=x.solverstate", "train s.prototxt --snapshot=x.solverstate"),
        ("train -solver=s.prototxt -snapshot x -sigint_effect none",
         "train s.prototxt --snapshot x --sigint_effect none"),
        ("train --logtostderr=1 -alsologtostderr --log_dir=l -solver s.prototxt -v 2", "train s.prototxt"),
        ("test -model n.prototxt -weights w.caffemodel -iterations 100 -gpu=1",
         "test n.prototxt --weights w.caffemodel --iterations 100 --device gpu:1"),
        ("test -model n -weights w -stage a,b -level 2", "test n --weights w --stage a --stage b --level 2"),
        ("time -model n.prototxt -phase TEST", "time n.prototxt --phase test"),
        ("device_query -gpu 0", "device"),
        (OURS, OURS),
        ("summary -model n", "summary -model n"),
    ],
)  # fmt: skip
def test_caffes_own_command_line_is_understood(caffes, ours):
    assert as_ours(caffes.split()) == ours.split()


@pytest.mark.parametrize(
    ("caffes", "told"),
    [
        ("train -solver s -stage a", "train_state: {stage: a}"),
        ("train --solver s --level=2", "train_state: {level: 2}"),
        ("convert_imageset -shuffle root list out", "'minicaffe data images'"),
        ("compute_image_mean lmdb mean.binaryproto", "'minicaffe data mean'"),
    ],
)
def test_what_caffes_programs_do_in_another_way_is_told(caffes, told, capsys):
    assert main(caffes.split()) == 2
    assert told in capsys.readouterr().err


def test_caffes_command_line_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    assert main(["train", "-solver", "solver.yaml", "--sighup_effect=none"]) == 0
    assert main(["test", "-model=net.yaml", "-weights", "snap/run_iter_40.npz", "-iterations", "2"]) == 0
    assert "Batch 1, accuracy = " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["test", "-model", "n.prototxt", "-gpu", "0,1"], "-gpu 0,1: one GPU, except in training"),
        (["train", "-solver"], "-solver: needs a value"),
    ],
)
def test_what_caffes_command_line_has_and_ours_has_not_is_one_line(command, problem, capsys):
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {problem}") and error.count("\n") == 1


@pytest.mark.cpu_only("a process of its own")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupt_while_modules_are_imported_is_one_word_and_status_130(tmp_path):
    # numpy is the first large import: one of its name, found before it, interrupts there
    interrupts = (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    (tmp_path / "numpy.py").write_text("import os, signal\n" + interrupts)  # also where a shell ignores it
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROTOTXT.parent)])}
    for command in (["-m", "minicaffe.cli", "device"], [str(PROTOTXT.parent / "train.py"), "solver.yaml"]):
        done = subprocess.run(
            [sys.executable, *command], env=env, capture_output=True, text=True, cwd=tmp_path
        )
        assert (done.stderr, done.returncode) == ("interrupted\n", 130)
    done = subprocess.run(
        [sys.executable, "-c", "import minicaffe"], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert "Traceback" in done.stderr, "a program that is not ours keeps Python's own way"
