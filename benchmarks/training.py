"""Time of a whole training step, ours against PyTorch's on the same cores: ``python benchmarks/training.py``.

Both train the same net on the same random batch: forward, loss, backward, momentum SGD with weight decay.
PyTorch runs in a process of its own, so that neither's idle threads disturb the other, and the two take turns
in short rounds. A row has the median step of each and the median ratio of the paired rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

import minicaffe as mc
from minicaffe.inspect.table import format_table
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

PROTOTXT = Path(__file__).parent.parent / "prototxt"
SHAPES = {"lenet": (64, 1, 28, 28)} | {f"cifar10_{x}": (100, 3, 32, 32) for x in ("quick", "full", "vgg")}
SOLVER = "net: given\nbase_lr: 0.001\nlr_policy: fixed\nmomentum: 0.9\nweight_decay: 0.0005\nrandom_seed: 1\n"
LIMITS = {"lenet": 0.8, "cifar10_quick": 1.8}


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


class Ours:
    """Training steps of minicaffe."""

    def __init__(self, name: str) -> None:
        self.solver = mc.Solver(parse_solver(SOLVER), net=parse_net(deploy_net(name)))
        images, labels = make_batch(SHAPES[name])
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


def serve_pytorch(pipe: Connection, name: str, threads: int) -> None:
    """In the child: answer each number of steps with the seconds per step, until told 0."""
    peer = PyTorch(name, threads)
    while steps := pipe.recv():
        pipe.send(peer.run(steps))


def compare(name: str, rounds: int, steps: int, threads: int) -> tuple[list[float], list[float]]:
    """Seconds per step of ours and of PyTorch, one of each a round, after two rounds that do not count."""
    context = multiprocessing.get_context("spawn")
    pipe, child_end = context.Pipe()
    child = context.Process(target=serve_pytorch, args=(child_end, name, threads), daemon=True)
    child.start()
    ours, times = Ours(name), ([], [])
    for number in range(rounds + 2):
        pipe.send(steps)
        peer = pipe.recv()
        own = ours.run(steps)
        if number >= 2:
            times[0].append(own)
            times[1].append(peer)
    pipe.send(0)
    child.join()
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=20, help="steps in a round")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    rows = []
    for name, limit in LIMITS.items():
        own, peer = compare(name, args.rounds, args.steps, threads)
        ratio = median(a / b for a, b in zip(own, peer, strict=True))
        rows.append((name, str(SHAPES[name][0]), f"{median(own) * 1e3:.2f}", f"{median(peer) * 1e3:.2f}",
                     f"{ratio:.2f}", f"{limit:.2f}"))  # fmt: skip
    head = ("net", "batch", "minicaffe ms", "PyTorch ms", "ratio", "at most")
    print(f"{date.today()}, {platform.machine()}, {threads} cores, NumPy {np.__version__}")
    print(format_table(head, rows, right=(1, 2, 3, 4, 5)))


if __name__ == "__main__":
    main()
