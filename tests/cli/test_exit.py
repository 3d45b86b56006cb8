"""How programs end: whatever a user forgets or the terminal does, a command or script exits, and cleanly."""

import logging
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from tests import ROOT

pytestmark = pytest.mark.cpu_only("processes of their own")
SOLVER = """
net: net.yaml
base_lr: 0.001
lr_policy: fixed
max_iter: {max_iter}
display: 1
snapshot_prefix: snap
"""
NET = """
name: digits
layer:
- {name: data, type: Data, top: [data, label], data_param: {source: sample/mnist-test, batch_size: 10}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICAFFE_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(NET)
    Path("solver.yaml").write_text(SOLVER.format(max_iter=3))
    return tmp_path


@pytest.fixture
def threads():
    """A function that lists the threads started since; other tests may have left nets open."""
    before = set(threading.enumerate())
    return lambda: [x for x in set(threading.enumerate()) - before if x.name == "minicaffe-prefetch"]


def run(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, **options)


def test_a_net_and_a_solver_close_at_the_end_of_with(folder, threads):
    with mc.Net("net.yaml") as net:
        net.forward()
        assert threads()
    assert not threads()
    with pytest.raises(ZeroDivisionError), mc.Solver("solver.yaml") as solver:
        solver.step(1)
        raise ZeroDivisionError
    assert not threads() and solver.log._file is None


@pytest.mark.parametrize("command", ["test", "time"])
def test_commands_close_their_nets(folder, threads, command, capsys):
    mc.Net("net.yaml").save("w.npz")
    assert main([command, "net.yaml", "--weights", "w.npz", "--iterations", "1"]) == 0
    assert not threads()
    logging.getLogger().handlers.clear()


def test_classify_closes_its_net(folder, threads, capsys):
    """Of a net that has a data layer too, which a pass of a picture makes run."""
    given = NET.replace("data, type: Data, top: [data,", "other, type: Data, top: [other,")
    given = given.replace("layer:\n", "input: data\ninput_shape: {dim: [1, 1, 28, 28]}\nlayer:\n")
    given = given[: given.index("- {name: loss")] + "- {name: out, type: Silence, bottom: [other, label]}\n"
    Path("net.yaml").write_text(given)
    mc.Net("net.yaml").save("w.npz")
    Image.new("L", (28, 28)).save("digit.png")
    assert main(["classify", "net.yaml", "--weights", "w.npz", "digit.png"]) == 0
    assert not threads()
    logging.getLogger().handlers.clear()


def write_hdf5():
    h5py = pytest.importorskip("h5py")
    for name in ("one.h5", "two.h5"):
        with h5py.File(name, "w") as file:
            numbers = np.random.default_rng(0).normal(size=(20, 3, 64, 64))
            file.create_dataset("data", data=numbers, compression="gzip")
    Path("list.txt").write_text("one.h5\ntwo.h5\n")
    return "type: HDF5Data, hdf5_data_param: {source: list.txt, batch_size: 12}"


def write_photos():
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    Path("list.txt").write_text("photo.jpg 0\n" * 4)
    return (
        "type: ImageData, image_data_param: {source: list.txt, batch_size: 20, new_height: 32, new_width: 32}"
    )


@pytest.mark.parametrize("data", [write_hdf5, write_photos])
def test_a_script_that_does_not_close_its_net_ends_by_itself(folder, data):
    Path("net.yaml").write_text(f"layer:\n- {{name: data, {data()}}}")
    done = run("-c", "import minicaffe as mc; net = mc.Net('net.yaml'); net.forward()")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_few_runs_of_every_command_over_every_kind_of_data_end_by_themselves(folder, capsys):
    pytest.importorskip("lmdb")
    pytest.importorskip("h5py")
    program = runpy.run_path(str(ROOT / "benchmarks" / "exit_runs.py"))
    program["main"].__globals__.update(PHOTOS=3, SIZE=(225, 300))  # which are read again and again
    failed, shown = program["main"](2), capsys.readouterr().out
    assert failed == 0 and "0 of 2 runs failed" in shown, shown


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals of its own on this system")
def test_a_training_goes_on_when_its_terminal_goes_away(folder):
    import pty

    Path("solver.yaml").write_text(SOLVER.format(max_iter=600))  # more lines than a terminal holds unread
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "minicaffe.cli", "train", "solver.yaml"])
    seen = b""
    while b"Iteration 3" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found = {path.name for path in folder.glob("snap_iter_*.solverstate.npz")}
    assert "snap_iter_600.solverstate.npz" in found and len(found) == 2, (
        found
    )  # the end, and what SIGHUP asked for


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell is needed")
@pytest.mark.parametrize(("closed", "net", "status"), [(">&-", "net", 0), (">&- 2>&- <&-", "missing", 2)])
def test_a_closed_stdout_or_stderr_is_no_error(folder, closed, net, status):
    command = f"'{sys.executable}' -m minicaffe.cli summary {net}.yaml {closed}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=300)
    assert done.returncode == status and "Traceback" not in done.stderr


def test_a_terminal_without_a_letter_gets_its_number(folder):
    done = run("-m", "minicaffe.cli", "summary", "net.yaml", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and r"10\xd71\xd728\xd728" in done.stdout, done.stderr


def test_an_interrupted_end_waits_a_little_and_does_not_abort(folder):
    done = run(
        "-c",
        """
import os, signal, threading, time
from minicaffe.data import prefetch
signal.signal(signal.SIGINT, signal.default_int_handler)
prefetch.INTERRUPT_TIMEOUT = 0.2
prefetcher = prefetch.Prefetcher(lambda k: time.sleep(3600 * k))
prefetcher.next()
join = threading.Thread.join
def interrupted(self, timeout=None):
    os.kill(os.getpid(), signal.SIGINT) if timeout and timeout > 1 else join(self, timeout)
prefetch._Thread.join = interrupted
""",
    )
    assert (done.returncode, done.stderr) == (0, "")
