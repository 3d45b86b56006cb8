"""Whatever ends one rank ends all of them, soon, with one line that names it; ranks are real processes here."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minicaffe.device import workers
from tests.mpiexec import command, environment, needs_mpi

pytestmark = [needs_mpi, pytest.mark.cpu_only("processes of their own")]
SOON = 10  # seconds, on a machine that has other things to do
SOLVER = """
net: net.yaml
base_lr: 0.001
lr_policy: fixed
max_iter: 1000000
display: 1
snapshot_prefix: snap
"""
NET = """
name: digits
layer:
- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 10}}
- {name: faulty, type: Faulty, bottom: data}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
FAULTY = """
import logging
import os
import time
import minicaffe as mc

@mc.register_layer
class Faulty(mc.Layer):
    "Notes which process is which rank; in forward number 3 it does what FAULT says for this rank."
    def setup(self, bottom, top):
        self.rank, self.count = os.environ["PMI_RANK"], 0
        with open(f"rank{self.rank}", "w") as file:
            file.write(f"{os.getpid()} {os.getppid()}")
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].stored[...] = bottom[0].stored
        self.count += 1
        ranks, colon, fault = os.environ.get("FAULT", "").partition(":")
        if self.count == 3 and self.rank in ranks:
            exec(fault.strip())
    def backward(self, top, propagate_down, bottom):
        pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(NET)
    Path("solver.yaml").write_text(SOLVER)
    Path("faulty.py").write_text(FAULTY)
    return tmp_path


class Run:
    """A training by two ranks, started by ``mpiexec``."""

    def __init__(self, fault="", **more):
        words = ("-m", "minicaffe", "train", "solver.yaml", "--import", "faulty.py")
        self.process = subprocess.Popen(
            command(2, *words),
            env=environment(FAULT=fault, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output = ""

    def wait_for(self, text):
        for line in self.process.stdout:
            self.output += line
            if text in line:
                return self
        pytest.fail(f"'{text}' was not printed: {self.output}{self.process.stderr.read()}")

    @staticmethod
    def pids(rank):
        """The process of a rank, and its supervisor."""
        return [int(word) for word in Path(f"rank{rank}").read_text().split()]

    def end(self):
        """Wait for the end; the exit status, and the lines on stderr. Nothing is left running."""
        output, errors = self.process.communicate(timeout=60)
        self.output += output
        until = time.monotonic() + SOON
        left = [pid for rank in (0, 1) if Path(f"rank{rank}").exists() for pid in self.pids(rank)]
        while left := [pid for pid in left if is_running(pid)]:
            assert time.monotonic() < until, f"still running: {left}"
            time.sleep(0.02)
        return self.process.returncode, errors.splitlines()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("who, told", [(0, "was killed by SIGKILL"), (1, "has lost its supervisor")])
def test_a_killed_rank_or_supervisor_ends_all_with_one_line(folder, who, told):
    run = Run("01: time.sleep(5)").wait_for("Iteration 1")
    os.kill(run.pids(1)[who], signal.SIGKILL)
    status, errors = run.end()
    assert status == 2 and len(errors) == 1, errors
    assert errors[0].startswith("error: rank 1 (host ") and f"process {run.pids(1)[0]}) {told}" in errors[0]
    assert "--snapshot latest" in errors[0]
    assert "BAD TERMINATION" not in run.output


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc")
def test_a_rank_that_fails_before_the_ranks_have_met_leaves_no_other_waiting_in_mpi(folder):
    train = command(1, "-m", "minicaffe", "train")
    words = [*train, "solver.yaml", "--import", "faulty.py", ":", *train[1:], "missing.yaml"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "missing.yaml" in done.stderr
    until = time.monotonic() + SOON
    while left := processes_in(folder):
        assert time.monotonic() < until, f"still running: {left}"
        time.sleep(0.02)


def processes_in(folder):
    """The processes that have this working directory, but for this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == folder and int(path.parent.name) != os.getpid():
                found.append(path.parent.name)
    return [pid for pid in found if is_running(int(pid))]


def test_a_killed_mpiexec_leaves_nothing_behind(folder):
    run = Run().wait_for("Iteration 5")
    run.process.kill()
    assert run.end() == (-signal.SIGKILL, [])


@pytest.mark.parametrize(
    "fault, line",
    [
        ("1: raise mc.DataError('image 7 is damaged')", "error: rank 1: image 7 is damaged"),
        ("01: raise mc.DataError('image 7 is damaged')", "error: rank 0: image 7 is damaged"),
        ("1: raise KeyboardInterrupt", "interrupted: rank 1"),
        ("1: top[0].data[...] = float('nan')", "error: iteration 3: parameter 0 of layer 'ip' is not finite"),
    ],
)
def test_an_error_is_told_once_whether_one_rank_has_it_or_all(folder, fault, line):
    status, errors = Run(fault).end()
    assert status == (130 if "interrupted" in line else 2)
    assert len(errors) == 1 and (errors[0].startswith(line) or "the loss is nan" in errors[0]), errors


def test_a_bug_shows_a_traceback_and_the_rank(folder):
    Path("faulty.py").write_text(FAULTY.replace("exec(fault.strip())", "raise SystemExit(0)"))
    status, errors = Run("1: -").end()
    assert status == 1 and errors[0] == "rank 1:" and errors[-1] == "SystemExit: 0"


def test_control_c_stops_all_ranks_at_the_same_iteration_however_long_it_takes(folder):
    run = Run("1: time.sleep(2)").wait_for("Iteration 1")
    time.sleep(0.5)  # now rank 1 sleeps, and rank 0 waits for it
    run.process.send_signal(signal.SIGINT)
    status, errors = run.end()
    assert status == 0 and not errors
    (stopped,) = re.findall(r"Stopped early at iteration (\d+)", run.output)
    assert int(stopped) == 3 and Path(f"snap_iter_{stopped}.solverstate.npz").exists()


def test_warnings_of_other_ranks_are_shown_once_training_has_begun_and_have_their_number(folder):
    fault = "01: logging.getLogger('minicaffe').warning('%d workers', mc.device.workers.worker_count)"
    run = Run(f"{fault}; raise mc.DataError('no')")
    run.end()
    share = max(1, len(workers.usable_cores()) // 2) if workers._libraries else 1
    told = sorted(line for line in run.output.splitlines() if "workers" in line)
    assert told == sorted([f"{share} workers", f"rank 1: {share} workers"])
    assert run.output.count("Computing on cpu") == 1


def test_without_mpi4py_ranks_refuse_to_train_and_say_so_once(folder):
    Path("mpi4py").mkdir()
    Path("mpi4py/__init__.py").write_text("raise ImportError('none here')")
    more = environment(PYTHONPATH=os.pathsep.join([str(folder), environment()["PYTHONPATH"]]))
    status, errors = Run(**more).end()
    assert status == 2 and len(errors) == 1 and "several ranks need mpi4py" in errors[0], errors
    assert not list(folder.glob("snap*"))


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="other systems may send no signal for a pipe"
)
def test_at_the_end_of_python_the_system_ends_a_rank_without_supervisor(tmp_path):
    script = """
import os
from minicaffe.cli.supervisor import supervise
from minicaffe.device.launch import Launch
supervised = supervise(Launch(2, 1, 1))
supervised.leave_to_system()
print(os.getpid(), flush=True)
os.kill(os.getppid(), 9)
sum(range(10**12))  # no other thread can run meanwhile
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
        until = time.monotonic() + SOON
        while is_running(pid) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_running(pid)
