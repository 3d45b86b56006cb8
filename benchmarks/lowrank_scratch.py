"""Training cifar10_vgg at low rank in as many iterations as the dense net: from scratch, or dense ones first.

    python benchmarks/lowrank_scratch.py            10 epochs
    python benchmarks/lowrank_scratch.py --quick    3 epochs of images of 16 × 16, with more weight decay

All runs have the solver of the dense net (``solver.yaml``), whose rate falls to 0 in a straight line, and one seed.
The low-rank net (``train_lowrank.yaml``) takes over from the dense one after a share of the iterations, with its
weights truncated, and at the rate that this has then.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import yaml
from peer_specs import PROTOTXT

import minicaffe as mc
from minicaffe.core.table import format_table
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

FOLDER = PROTOTXT / "cifar10_vgg"
FRESH = 300  # passes over training batches: three times as many as the moving averages remember
POOL = """- name: halved
  type: Pooling
  bottom: data
  pooling_param: {pool: AVE, kernel_size: 2, stride: 2}
- name: conv1
  type: Convolution
  bottom: halved
"""


def net_text(name: str, halved: bool) -> str:
    """The net's spec, perhaps with images of half the height and width."""
    text = (FOLDER / name).read_text()
    if halved:
        text = text.replace("- name: conv1\n  type: Convolution\n  bottom: data\n", POOL)
    return text


def make_solver(text: str, iterations: int, done: int, weight_decay: float) -> mc.Solver:
    """A solver for what is left of a number of iterations after ``done`` of them."""
    fields = yaml.safe_load((FOLDER / "solver.yaml").read_text())
    left = 1 - done / iterations
    fields |= {
        "base_lr": fields["base_lr"] * left,
        "weight_decay": weight_decay,
        "max_iter": iterations - done,
        "test_interval": iterations,
        "snapshot": 0,
    }
    solver = parse_solver(yaml.safe_dump(fields), str(FOLDER / "solver.yaml"))
    return mc.Solver(solver, net=parse_net(text, str(FOLDER / "train.yaml")))


def main() -> None:
    """Train the dense net, then the low-rank one from several of its states, and print their accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 epochs of images of 16 × 16")
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.3, 0.5], help="of dense iterations")
    args = parser.parse_args()
    iterations, decay = (1500, 0.0015) if args.quick else (5000, 0.0005)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = {share: Path(folder) / f"{share}.npz" for share in args.shares}
        with make_solver(net_text("train.yaml", args.quick), iterations, 0, decay) as solver:
            start = time.perf_counter()
            for share in sorted({*args.shares, 1.0}):
                solver.step(round(share * iterations) - solver.iter)
                if share < 1:
                    solver.net.save(weights[share])
            rows.append(row("dense", solver, start))
        for share in args.shares:
            done, start = round(share * iterations), time.perf_counter()
            text = net_text("train_lowrank.yaml", args.quick)
            with make_solver(text, iterations, done, decay) as solver:
                if done:
                    solver.copy_from(weights[share])
                solver.step(iterations - done)
                rows.append(row(f"low rank after {done} dense iterations", solver, start))
    print(f"{date.today()}, cifar10_vgg, {iterations} iterations of {16 if args.quick else 32} pixels")
    head = ("", "accuracy", "fresh BatchNorm", "loss in training", "minutes")
    print(format_table(head, rows, right=(1, 2, 3, 4)))


def row(name: str, solver: mc.Solver, start: float) -> tuple[str, ...]:
    """A row of the table: tested as it is, and with means and variances of BatchNorm that are up to date."""
    minutes, loss = (time.perf_counter() - start) / 60, solver.smoothed_loss()
    accuracies = [float(solver.test_all()[0]["accuracy"])]
    for _ in range(FRESH):
        solver.net.run_forward()
    accuracies.append(float(solver.test_all()[0]["accuracy"]))
    return name, *(f"{100 * accuracy:.2f} %" for accuracy in accuracies), f"{loss:.4f}", f"{minutes:.1f}"


if __name__ == "__main__":
    main()
