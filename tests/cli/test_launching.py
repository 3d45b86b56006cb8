"""``minicaffe train --gpus``, and what a process is that ``mpiexec`` has started."""

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicaffe import startup
from minicaffe.cli import ending, launching
from minicaffe.cli.program import main
from minicaffe.cli.ranks import Process, Rank
from minicaffe.device.array import DeviceError
from minicaffe.device.communicator import Communicator, of_all_ranks
from minicaffe.device.launch import Launch
from minicaffe.errors import MinicaffeError
from tests import ROOT

ARGV = ["/env/bin/python", "-m", "minicaffe", "train", "s.yaml", "--gpus", "0,2"]


class Replaced(Exception):
    """This process has become another program."""


@pytest.fixture
def gpus(monkeypatch):
    """A machine with three GPUs, whose number 1 is broken, and an mpiexec that only says how it was started."""

    def execv(program, words):
        raise Replaced(program, *words)

    monkeypatch.setattr(launching, "gpu_count", lambda: 3)
    monkeypatch.setattr(launching, "gpu_problem", lambda index: {1: "broken", 9: "none"}.get(index, ""))
    monkeypatch.setattr(launching, "find_mpiexec", lambda: "/env/bin/mpiexec")
    monkeypatch.setattr(launching, "find_spec", lambda name: name)
    monkeypatch.setattr(launching, "is_command", lambda: True)
    monkeypatch.setattr(launching.os, "dup2", lambda *files: None)
    monkeypatch.setattr(launching.os, "execv", execv)
    monkeypatch.setattr(sys, "executable", ARGV[0])
    monkeypatch.setattr(sys, "orig_argv", ARGV)


def begin(given, device=None):
    parser = argparse.ArgumentParser()
    launching.add_gpus(parser)
    args = parser.parse_args(["--gpus", given])
    args.device = device
    return launching.begin(args), args.device


def test_several_gpus_replace_the_command_by_mpiexec_with_the_same_command(gpus):
    with pytest.raises(Replaced) as replaced:
        begin("0,2")
    assert replaced.value.args == ("/env/bin/mpiexec", "/env/bin/mpiexec", "-n", "2", *ARGV)


def test_one_gpu_needs_no_mpi(gpus, monkeypatch):
    monkeypatch.setattr(launching, "find_mpiexec", lambda: None)
    process, device = begin("2")
    assert type(process) is Process and device == "gpu:2"
    monkeypatch.setattr(launching, "gpu_count", lambda: 1)
    assert begin("all")[1] == "gpu:0"


@pytest.mark.parametrize(
    "given, problem",
    [("0,1", "GPU 1: broken"), ("all", "GPU 1: broken"), ("9,0", "GPU 9: none")],
)
def test_gpus_that_cannot_be_used_are_refused_before_anything_starts(gpus, given, problem):
    with pytest.raises(DeviceError, match=problem):
        begin(given)


@pytest.mark.parametrize("missing, name", [("mpiexec", "find_mpiexec"), ("mpi4py", "find_spec")])
def test_several_gpus_without_mpi_say_what_to_install(gpus, monkeypatch, missing, name):
    monkeypatch.setattr(launching, name, lambda *args: None)
    with pytest.raises(MinicaffeError, match=rf"{missing} is not installed: pip install 'minicaffe\[mpi\]'"):
        begin("0,2")


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--gpus", "0,0"], "has a GPU twice"),
        (["--gpus", "0,x"], "write the numbers of GPUs"),
        (["--gpus", ""], "write the numbers of GPUs"),
        (["--gpus", "0", "--device", "cpu"], "--device cpu and --gpus: give one of them"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, told, capsys):
    try:
        assert main(["train", "solver.yaml", *flags]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert told in capsys.readouterr().err


def test_each_rank_takes_the_gpu_of_its_number_on_its_machine(gpus, monkeypatch):
    monkeypatch.setattr(launching, "supervise", lambda launch: None)
    devices = []
    for local_rank in (0, 1):
        monkeypatch.setattr(launching, "launch_of", lambda: Launch(4, 2 + local_rank, local_rank))  # noqa: B023
        devices.append(begin("0,2")[1])
    assert devices == ["gpu:0", "gpu:2"] and begin("all")[1] == "gpu"
    with pytest.raises(DeviceError, match="2 of them for at least 3 ranks on one machine"):
        monkeypatch.setattr(launching, "launch_of", lambda: Launch(3, 2, 2))
        begin("0,2")
    for filtering in [*logging.getLogger("minicaffe").filters]:
        if isinstance(getattr(filtering, "__self__", None), Rank):
            logging.getLogger("minicaffe").removeFilter(filtering)


class Two(Communicator):
    """Rank 1 of two."""

    rank, size, is_left = 1, 2, False

    def end(self):
        self.is_left = True


@pytest.fixture
def rank(monkeypatch):
    """Rank 1, which waits for nobody, and whose end is an exception."""

    def leave(status):
        raise Replaced(status)

    monkeypatch.setattr(ending.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "_exit", leave)
    made = Rank(Launch(2, 1, 1), None)
    yield made
    logging.getLogger("minicaffe").removeFilter(made._shows)


def test_an_error_of_one_rank_names_it_and_does_not_wait_for_others(rank, capsys):
    ranks = Two()
    rank.met(ranks)
    with pytest.raises(Replaced, match="2"):
        rank.end(2, "error: no such image", MinicaffeError())
    assert capsys.readouterr().err == "error: rank 1: no such image\n" and not ranks.is_left


def test_an_error_of_all_ranks_is_left_to_rank_0_and_all_leave_together(rank, capsys):
    ranks = Two()
    rank.met(ranks)
    assert rank.end(2, "error: no", of_all_ranks(MinicaffeError("no"))) == 2
    assert not capsys.readouterr().err and ranks.is_left


def test_another_rank_than_rank_0_shows_errors_then_warnings_too(rank, caplog):
    logger, iterations = logging.getLogger("minicaffe"), [0]
    with caplog.at_level(logging.INFO, "minicaffe"):
        rank.show_warnings(lambda: iterations[0] > 0)
        for _ in range(2):
            logger.info("info")
            logger.warning("warning %d", 7)
            logger.error("error")
            iterations[0] += 1
    assert caplog.messages == ["rank 1: error", "rank 1: warning 7", "rank 1: error"]


@pytest.mark.cpu_only("a process of its own")
def test_one_process_imports_nothing_of_mpi(tmp_path):
    poison = tmp_path / "mpi4py.py"
    poison.write_text("raise SystemExit('imported')")
    script = """
import sys
from minicaffe.cli.program import main
assert main(["train", "solver.yaml", "--device", "cpu"]) == 0
assert "mpi4py" not in sys.modules
"""
    (tmp_path / "net.yaml").write_text(
        "layer:\n- name: d\n  type: DummyData\n  top: [x, y]\n"
        "  dummy_data_param: {shape: [{dim: [2, 3]}, {dim: [2]}]}\n"
        "- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 2}}\n"
        "- {name: loss, type: SoftmaxWithLoss, bottom: [ip, y]}\n"
    )
    (tmp_path / "solver.yaml").write_text("net: net.yaml\nbase_lr: 0.1\nlr_policy: fixed\nmax_iter: 2\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "solver_iter_2.npz").exists()


@pytest.mark.parametrize("rank, told", [("0", "interrupted\n"), ("1", "")])
def test_ranks_that_are_interrupted_while_they_start_say_so_once(monkeypatch, capsys, rank, told):
    monkeypatch.setenv("PMI_RANK", rank)
    with pytest.raises(SystemExit) as end:
        startup.show(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert end.value.code == 130 and capsys.readouterr().err == told
