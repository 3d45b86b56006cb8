"""The commands, as a user types them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training import write_job

from minicaffe.cli import main

PROTOTXT = Path(__file__).parent.parent / "prototxt"


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


def test_time_gives_each_layer_forward_and_backward(capsys):
    assert main(["time", str(PROTOTXT / "lenet" / "train.yaml"), "--iterations", "2"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^conv1 +Convolution +\d+\.\d+ +\d+\.\d+$", output, re.MULTILINE)
    assert re.search(r"forward and backward: \d+\.\d+ ms", output)


def test_summary_counts_parameters_and_multiply_adds(capsys):
    assert main(["summary", str(PROTOTXT / "lenet" / "deploy.yaml"), "--phase", "test"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"conv2 +Convolution +64×50×8×8 +25,050 +1,600,000", output)
    assert re.search(r"all layers +431,080 +2,293,000$", output)


def test_summary_says_how_many_parameters_are_not_trained(capsys):
    assert main(["summary", str(PROTOTXT / "cifar10_vgg" / "deploy.yaml")]) == 0
    # Six BatchNorms of 64, 64, 128, 128, 256 and 256 channels: a mean and a variance each, and one number a layer.
    assert re.search(r"all layers +1,150,672 +152,766,976 +1,798 not trained$", capsys.readouterr().out)


def test_summary_lists_the_layer_types(capsys):
    assert main(["summary", "--types"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^Convolution +y = w ∗ x \+ b", output, re.MULTILINE)
    assert len(output.splitlines()) > 50


def test_help_of_every_command_works(capsys):
    for command in ("train", "test", "time", "summary", "device", "data"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert "usage: minicaffe" in capsys.readouterr().out


def test_a_wrong_flag_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "solver.yaml", "--no-such-flag"])
    assert stop.value.code == 2


@pytest.mark.cpu_only("a process of its own")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_interrupt_while_modules_are_imported_is_one_word(tmp_path):
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
        assert (done.stderr, done.returncode) == ("interrupted\n", -signal.SIGINT)
    done = subprocess.run(
        [sys.executable, "-c", "import minicaffe"], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert "Traceback" in done.stderr, "a program that is not ours keeps Python's own way"
