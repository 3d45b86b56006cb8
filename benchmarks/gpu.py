"""Everything that is to be known of a GPU, in one command: ``python benchmarks/gpu.py``.

1. The tests that a GPU is for (tests/device/test_gpu.py): Caffe's recorded numbers, each kernel, memory.
2. LeNet trained on the bundled sample: accuracy and time.
3. A forward pass, dense and with the plans of benchmarks/plans (low rank), beside the time of the dense GEMMs alone
   (the floor) and PyTorch with cuDNN, where it is installed with CUDA.
4. A training step, beside PyTorch.
5. Memory: what is in use of CuPy's pool after a few steps, and how much more after many (it should be none).

``--device cpu`` runs the same on the CPU, to see that the script works. ``--tf32`` allows TF32 here and in PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from statistics import median
from typing import Any

import numpy as np
from lowrank_time import Ours
from peer_specs import (
    PLANS,
    PROTOTXT,
    SHAPES,
    SOLVER,
    described,
    inference_spec,
    make_batch,
    net_of,
    plan_text,
    training_spec,
    training_text,
)

import minicaffe as mc
from minicaffe.cli.flags import add_device, choose_device, positive
from minicaffe.core.table import format_table
from minicaffe.device import array
from minicaffe.device.array import CPU, current_device, describe_devices, synchronize
from minicaffe.errors import MinicaffeError
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

MB = 1e6


def milliseconds(call: Callable[[], object], rounds: int, wait: Callable[[], object] = synchronize) -> float:
    """The median of some rounds of ten calls, each call's share, after a round that does not count."""
    times = []
    for _ in range(rounds + 1):
        wait()
        start = time.perf_counter()
        for _ in range(10):
            call()
        wait()
        times.append((time.perf_counter() - start) / 10)
    return median(times[1:]) * 1e3


def run_tests() -> str:
    """The last line that pytest prints."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "--device",
        "gpu",
        "tests/device/test_gpu.py",
    ]
    exact = {name: value for name, value in os.environ.items() if name != "CUPY_TF32"}  # which --tf32 sets
    done = subprocess.run(
        command, cwd=PROTOTXT.parent, env=exact, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
    return "tests: " + (done.stdout.strip().splitlines() or [f"failed with status {done.returncode}"])[-1]


def train_lenet() -> str:
    """Accuracy on the sample's held-out digits, by the main job's solver."""
    start = time.perf_counter()
    solver = mc.Solver(PROTOTXT / "lenet" / "solver.yaml")
    solver.step(solver.spec.max_iter)
    accuracy = float(solver.test_all()[0]["accuracy"])
    solver.close()
    return f"LeNet on the bundled sample: accuracy {accuracy:.3f} after {time.perf_counter() - start:.1f} s"


def gemm_floor(net: mc.Net, rounds: int) -> float:
    """Milliseconds of the net's matrix products alone, their operands at hand."""
    xp = current_device().xp
    products = []
    for step in net.steps:
        layer = step.layer
        if not layer.blobs or not hasattr(layer, "as_product"):
            continue
        product, _, _ = layer.as_product(step.bottom[0], step.top[0])
        m, k, n = product.geometry.filters, product.geometry.depth, product.geometry.columns
        products.append([xp.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n))])
    return milliseconds(lambda: [xp.matmul(w, x, out=y) for w, x, y in products], rounds)


class Torch:
    """The same net in PyTorch on its first GPU; None where there is no such PyTorch."""

    @classmethod
    def make(cls, name: str) -> Torch | None:
        try:
            import torch
        except ImportError:
            return None
        return cls(torch, name) if torch.cuda.is_available() else None

    def __init__(self, torch: Any, name: str) -> None:
        self.torch = torch
        from torch_net import TorchNet

        self.batch = [torch.from_numpy(a).cuda() for a in make_batch(SHAPES[name])]
        specs = (
            (inference_spec(name, len(self.batch[0])), "test"),
            (training_spec(name, len(self.batch[0])), "train"),
        )
        self.net, self.trained = (TorchNet(described(net_of(*spec))).cuda() for spec in specs)
        self.net.eval()
        self.optimizer = torch.optim.SGD(
            self.trained.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005
        )

    def forward(self) -> None:
        """A pass without gradients."""
        with self.torch.inference_mode():
            self.net(self.batch[0])

    def step(self) -> None:
        """A training step."""
        self.optimizer.zero_grad()
        self.trained(*self.batch).backward()
        self.optimizer.step()

    def milliseconds(self, call: Callable[[], object], rounds: int) -> float:
        """As the function of that name."""
        return milliseconds(call, rounds, self.torch.cuda.synchronize)


def forward_rows(name: str, rounds: int) -> list[tuple[str, ...]]:
    """Dense, the floor, the plans, PyTorch."""
    text, images = (
        (PROTOTXT / name / "deploy.yaml").read_text(),
        current_device().put(make_batch(SHAPES[name])[0]),
    )
    dense = Ours(text, images)
    times = {
        "dense": milliseconds(dense.net.run_forward, rounds),
        "its GEMMs alone": gemm_floor(dense.net, rounds),
    }
    plans = PLANS / f"{name}.json"
    for entry in json.loads(plans.read_text())["plans"] if plans.is_file() else ():
        net = Ours(plan_text(text, entry["plan"]), images).net
        times[f"low rank, -{100 * entry['drop']:g} points"] = milliseconds(net.run_forward, rounds)
    if peer := Torch.make(name):
        times["PyTorch, dense"] = peer.milliseconds(peer.forward, rounds)
    return _rows(name, "forward", times)


def training_rows(name: str, rounds: int) -> list[tuple[str, ...]]:
    """Ours, PyTorch; and the pool's memory."""
    solver = mc.Solver(parse_solver(SOLVER), net=parse_net(training_text(name)))
    for blob, values in zip(("data", "label"), make_batch(SHAPES[name]), strict=True):
        solver.net.blobs[blob].data[...] = current_device().put(values)
    solver.step(5)
    before = array.pool_bytes()
    times = {"dense": milliseconds(lambda: solver.step(10), rounds) / 10}  # waits for the loss of the last
    print(f"{name}: {before / MB:.1f} MB of the pool are in use after 5 steps, and "
          f"{(array.pool_bytes() - before) / MB:+.1f} MB after {100 * (rounds + 1)} more")  # fmt: skip
    if peer := Torch.make(name):
        times["PyTorch, dense"] = peer.milliseconds(peer.step, rounds)
    return _rows(name, "training step", times)


def _rows(name: str, what: str, times: dict[str, float]) -> list[tuple[str, ...]]:
    return [(name, str(SHAPES[name][0]), f"{what}, {which}", f"{ms:.3f}", f"{times['dense'] / ms:.2f}")
            for which, ms in times.items()]  # fmt: skip


def main() -> None:
    """Print what is measured as it comes, and a table at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_device(parser)
    parser.add_argument("--nets", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--rounds", type=positive, default=9)
    args = parser.parse_args()
    args.device = args.device or "gpu"
    choose_device(args)
    print(f"{date.today()}, {platform.machine()}\n{describe_devices()}\nTF32: {'on' if args.tf32 else 'off'}")
    if args.tf32 and (peer := Torch.make("lenet")):
        peer.torch.backends.cuda.matmul.allow_tf32 = peer.torch.backends.cudnn.allow_tf32 = True
    if current_device() != CPU:
        print(run_tests())
    print(train_lenet())
    rows = []
    for name in args.nets:
        rows += forward_rows(name, args.rounds) + training_rows(name, args.rounds)
    print(format_table(("net", "batch", "what", "ms", "dense / this"), rows, right=(1, 3, 4)))


if __name__ == "__main__":
    try:
        main()
    except MinicaffeError as error:
        sys.exit(f"error: {error}")
