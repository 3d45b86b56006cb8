"""Time of a whole training step, ours against PyTorch's on the same cores: ``python benchmarks/training.py``.

Both train the same net on the same random batch: forward, loss, backward, momentum SGD with weight decay.
PyTorch runs in a process of its own, so that neither's idle threads disturb the other, and the two take turns
in short rounds. A row has the median step of each and the median ratio of the paired rounds.

``--before CHECKOUT`` compares with another checkout of minicaffe instead, on nets of low rank too.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np

import minicaffe as mc
from minicaffe.core.table import format_table
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

PROTOTXT = Path(__file__).parent.parent / "prototxt"
SHAPES = {"lenet": (64, 1, 28, 28)} | {f"cifar10_{x}": (100, 3, 32, 32) for x in ("quick", "full", "vgg")}
SOLVER = "net: given\nbase_lr: 0.001\nlr_policy: fixed\nmomentum: 0.9\nweight_decay: 0.0005\nrandom_seed: 1\n"
LIMITS = {"lenet": 0.8, "cifar10_quick": 1.8}
LOW_RANK = {  # a net, and what all its convolutions but the first are to have
    "lenet": "",
    "cifar10_quick": "",
    "cifar10_quick: channel": "rank: 16",
    "cifar10_quick: spatial": "rank: 16, scheme: spatial, factored: true",
    "cifar10_quick: data": "rank: 32, target: data",
}


def make_batch(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, the same for both."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])


def deploy_net(name: str) -> str:
    """The deploy spec of a net with its softmax replaced by a loss on a ``label`` input."""
    text = (PROTOTXT / name / "deploy.yaml").read_text()
    dims = f"dim: {list(SHAPES[name])}"
    text = text.replace(f"{{shape: {{{dims}}}}}", f"{{shape: [{{{dims}}}, {{dim: [{SHAPES[name][0]}]}}]}}")
    text = text.replace("- name: data\n", "- name: data\n  top: [data, label]\n")
    head, _, _ = text.partition("- name: prob")
    last = head.rpartition("- name: ")[2].split("\n")[0]
    loss = f"- {{name: loss, type: SoftmaxWithLoss, bottom: [{last}, label]}}\n"
    return head.replace("convolution_param: {", "convolution_param: {weight_filler: {type: xavier}, ") + loss


def with_rank(text: str, param: str) -> str:
    """A net whose convolutions but the first have ``low_rank_param``."""
    field = "  convolution_param:"
    head, first, others = text.partition(field)
    return (
        head + first + (others.replace(field, f"  low_rank_param: {{{param}}}\n{field}") if param else others)
    )


class Ours:
    """Training steps of minicaffe."""

    def __init__(self, name: str) -> None:
        net = name.split(":")[0]
        self.solver = mc.Solver(
            parse_solver(SOLVER), net=parse_net(with_rank(deploy_net(net), LOW_RANK[name]))
        )
        images, labels = make_batch(SHAPES[net])
        self.solver.net.blobs["data"].data[...] = images
        self.solver.net.blobs["label"].data[...] = labels

    def run(self, steps: int) -> float:
        """Seconds per step."""
        start = time.perf_counter()
        self.solver.step(steps)
        return (time.perf_counter() - start) / steps


class PyTorch:
    """Training steps of PyTorch; lives in a child process."""

    def __init__(self, name: str, threads: int) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(threads)
        self.torch = torch
        if name == "lenet":
            layers = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)]  # fmt: skip
        else:
            layers = [nn.Conv2d(3, 32, 5, padding=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(),
                      nn.Conv2d(32, 32, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
                      nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.AvgPool2d(3, 2, ceil_mode=True),
                      nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10)]  # fmt: skip
        self.net = nn.Sequential(*layers)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
        images, labels = make_batch(SHAPES[name])
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.loss = nn.CrossEntropyLoss()

    def run(self, steps: int) -> float:
        """Seconds per step."""
        start = time.perf_counter()
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.loss(self.net(self.images), self.labels).backward()
            self.optimizer.step()
        return (time.perf_counter() - start) / steps


class Peer:
    """What is compared with, in a process of its own, which answers a number of steps with the seconds per step."""

    def __init__(self, kind: str, name: str, threads: int, checkout: str | None = None) -> None:
        command = [sys.executable, __file__, "--serve", kind, name, str(threads)]
        environment = os.environ | ({"PYTHONPATH": checkout} if checkout else {})
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, steps: int) -> float:
        """Seconds per step."""
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(kind: str, name: str, threads: int) -> None:
    """In the process of a Peer: answer until the input ends."""
    trainer = PyTorch(name, threads) if kind == "pytorch" else Ours(name)
    for line in sys.stdin:
        print(trainer.run(int(line)), flush=True)


def compare(name: str, peer: Peer, rounds: int, steps: int) -> tuple[list[float], list[float]]:
    """Seconds per step of ours and of a peer, one of each a round, after two rounds that do not count."""
    ours, times = Ours(name), ([], [])
    for number in range(rounds + 2):
        other = peer.run(steps)
        own = ours.run(steps)
        if number >= 2:
            times[0].append(own)
            times[1].append(other)
    peer.close()
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    parser.add_argument(
        "--before", metavar="CHECKOUT", help="compare with another checkout of minicaffe, in place of PyTorch"
    )
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], args.serve[1], int(args.serve[2]))
        return
    threads = len(os.sched_getaffinity(0))
    rows = []
    for name in LOW_RANK if args.before else LIMITS:
        peer = Peer("before" if args.before else "pytorch", name, threads, args.before)
        own, other = compare(name, peer, args.rounds, args.steps)
        ratio = median(a / b for a, b in zip(own, other, strict=True))
        limit = "1.03" if args.before else f"{LIMITS[name]:.2f}"
        batch = str(SHAPES[name.split(":")[0]][0])
        rows.append(
            (name, batch, f"{median(own) * 1e3:.2f}", f"{median(other) * 1e3:.2f}", f"{ratio:.2f}", limit)
        )
    head = (
        "net",
        "batch",
        "minicaffe ms",
        f"{'before' if args.before else 'PyTorch'} ms",
        "ratio",
        "at most",
    )
    print(f"{date.today()}, {platform.machine()}, {threads} cores, NumPy {np.__version__}")
    print(format_table(head, rows, right=(1, 2, 3, 4, 5)))


if __name__ == "__main__":
    main()
