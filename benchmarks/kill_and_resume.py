"""``kill -9`` at random moments, resume each time: are the final weights those of a run that was not stopped?

``python benchmarks/kill_and_resume.py [--kills 20]`` trains LeNet on the bundled sample twice, once undisturbed
and once killed and resumed, compares the two weight files bit for bit, and exits with 1 if they differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROTOTXT = Path(__file__).parent.parent / "prototxt" / "lenet"


def write_solver(folder: Path, iterations: int) -> None:
    """The LeNet solver, with dropout in the net, more snapshots and fewer iterations."""
    net = (PROTOTXT / "train.yaml").read_text()
    net = net.replace("- name: ip2\n", "- name: drop\n  type: Dropout\n  bottom: ip1\n- name: ip2\n")
    (folder / "train.yaml").write_text(net)
    text = (PROTOTXT / "solver.yaml").read_text()
    for old, new in (("max_iter: 2000", f"max_iter: {iterations}"), ("snapshot: 1000", "snapshot: 10"),
                     ("test_interval: 500", "test_interval: 60")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (folder / "solver.yaml").write_text(text)


def train(folder: Path, *flags: str) -> subprocess.Popen:
    """Start training in a folder."""
    command = [sys.executable, "-m", "minicaffe.cli", "train", "solver.yaml", *flags]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> None:
    """Wait for a training that must end well."""
    if process.wait() != 0:
        sys.exit(f"training ended with status {process.returncode}")


def killed_run(folder: Path, kills: int, rng: random.Random) -> None:
    """Kill and resume, ``kills`` times, then let it end."""
    for number in range(kills):
        has_snapshot = any((folder / "snapshots").glob("*.solverstate.npz"))
        process = train(folder, *(["--snapshot", "latest"] if has_snapshot else []))
        time.sleep(rng.uniform(0.1, 1.6))
        if process.poll() is not None:
            sys.exit(f"the run ended before kill {number + 1}; give more --iterations")
        process.kill()
        process.wait()
        states = len(list((folder / "snapshots").glob("*.solverstate.npz")))
        print(f"kill {number + 1} of {kills}: {states} snapshots", flush=True)
    finish(train(folder, "--snapshot", "latest"))


def main() -> None:
    """Run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = []
        for run in ("whole", "killed"):
            folder = Path(name) / run
            folder.mkdir()
            write_solver(folder, args.iterations)
            if run == "whole":
                finish(train(folder))
            else:
                killed_run(folder, args.kills, random.Random(args.seed))
            files.append(np.load(folder / "snapshots" / f"lenet_iter_{args.iterations}.npz"))
        same = all(np.array_equal(files[0][key], files[1][key]) for key in files[0].files)
        print(f"after {args.kills} kills: final weights are {'bit-identical' if same else 'DIFFERENT'}")
        sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
