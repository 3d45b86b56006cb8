"""Ours beside what a user would pick instead: ``python benchmarks/peers.py [--only NETS] [--caffe PYTHON]``.

PyTorch (eager), onnxruntime (on the model that ours exports) and Caffe run the same nets with the same weights on
the same random batch, each in a process of its own, on the same cores. They take turns: in a round each runs for
about ``--seconds``, and its time is the median of these passes. A row has the medians of the rounds and the medians
of the paired ratios, ours / peer: below 1 ours is faster. A peer that does not compute what ours computes is left
out.

"Floor": the multiply-adds of convolutions and inner products, at the speed of a large product of matrices on this
machine, measured before each row; a training step counts three products for each, the first two. "MB": the most
memory that a process had since its weights were loaded, less what it had when its framework was imported.

A training step is forward, loss, backward and SGD with momentum and weight decay; nets with a train spec train as
it says, the others as their deploy spec with a loss; inputs are in place of the data layers. ``--against CHECKOUT``
is one more peer: another state of minicaffe.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peer_specs import (
    CAFFE_SOLVER,
    SOLVER,
    batch_for,
    described,
    fill,
    inference_spec,
    multiply_adds,
    net_of,
    plan_of,
    plan_spec,
    training_spec,
)

import minicaffe as mc
from minicaffe.caffe.exchange.export import export
from minicaffe.onnx.model import export_onnx

SERVER = Path(__file__).with_name("peer_process.py")
ROOT = Path(mc.__file__).parent.parent
TITLES = {"ours": "ours", "torch": "PyTorch", "onnx": "onnxruntime", "caffe": "Caffe", "before": "before"}
OUTPUT_ERROR = 1e-4  # share of the largest value
GRADIENT_ERROR = 0.03  # share of the norm: in float32 a number near 0 may pass one ReLU and not the other


@dataclass(frozen=True)
class Row:
    """A line of the table. ``goals``: of ours / peer, at most; ``drop``: what low rank may lose of accuracy."""

    mode: str
    net: str
    batch: int
    goals: dict[str, float] = field(default_factory=dict)
    drop: float = 0.0

    @property
    def is_training(self) -> bool:
        return self.mode == "training"


def _row(mode: str, net: str, batch: int, torch: float = 0, onnx: float = 0, drop: float = 0.0) -> Row:
    goals = {"torch": torch, "onnx": onnx, "caffe": 0.5}
    return Row(mode, net, batch, {kind: goal for kind, goal in goals.items() if goal}, drop)


ROWS = [
    _row("training", "lenet", 64, 0.60),
    _row("training", "cifar10_quick", 100, 1.0),
    _row("training", "cifar10_full", 100, 1.0),
    _row("training", "cifar10_vgg", 100, 0.75),
    _row("training", "caffenet", 16, 0.75),
    _row("training", "resnet18", 8, 0.85),
    _row("training", "squeezenet_v1.1", 8, 1.0),
    _row("training", "mobilenet_v1", 8, 1.1),
    _row("inference", "vgg16", 1, 0.65, 0.9),
    _row("inference", "cifar10_vgg", 100, 0.65, 1.2),
    _row("inference", "resnet18", 8, 0.75, 1.1),
    _row("inference", "caffenet", 1, 0.6, 1.0),
    _row("inference", "resnet50", 1, 0.85),
    _row("inference", "googlenet", 1, 0.7),
    _row("inference", "squeezenet_v1.1", 1, 0.7),
    _row("inference", "mobilenet_v1", 1, 1.2),
    _row("inference", "cifar10_vgg", 1, 1.1),
    _row("inference", "lenet", 64),
    _row("inference", "cifar10_quick", 100),
    _row("low rank", "cifar10_vgg", 100, 0.4, 0.65, drop=0.02),
    _row("low rank", "cifar10_vgg", 1, 0.7, 1.2, drop=0.02),
]


class Peer:
    """A process of ``peer_process.py``."""

    def __init__(
        self, kind: str, folder: Path, python: str = sys.executable, cores: int = 0, **environment: str
    ) -> None:
        self.kind, self.folder, self.is_ours = kind, folder, kind in ("ours", "before")
        self._log = folder / f"{kind}.log"
        self._process = subprocess.Popen(
            [python, str(SERVER), kind, str(folder), str(cores)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=self._log.open("w"), env=os.environ | environment,
        )  # fmt: skip
        self.memory()  # waits until it is ready, so that no two set up their nets at the same time

    def ask(self, command: str) -> Any:
        """The answer to a command. Raises RuntimeError where the process has ended."""
        with contextlib.suppress(BrokenPipeError):
            print(command, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.kind}: {self._log.read_text()[-2000:]}")
        return json.loads(answer)

    def run(self, seconds: float) -> float:
        """Seconds of a pass, the median of those of one turn."""
        return self.ask(f"run {seconds}")

    def outputs(self) -> dict[str, np.ndarray]:
        """What it computes."""
        self.ask("outputs")
        return dict(np.load(self.folder / f"{self.kind}.npz"))

    def memory(self) -> float:
        """Megabytes that the net took at most, beside its framework."""
        before, most = self.ask("memory")
        return most - before

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def write_job(folder: Path, row: Row, kinds: Sequence[str], without_dropout: bool = False) -> float:
    """Write what the processes read; return the multiply-adds of a pass of ours."""
    make, phase = (training_spec, "train") if row.is_training else (inference_spec, "test")
    spec = make(row.net, row.batch)
    if without_dropout:
        for layer in spec["layer"]:
            layer.get("dropout_param", {}).update(dropout_ratio=0)
    net = net_of(spec, phase)
    fill(net)
    net.save(folder / "weights.npz")
    (folder / "layers.json").write_text(json.dumps(described(net)))
    (folder / "solver.prototxt").write_text(CAFFE_SOLVER.replace("NET", f"{folder}/net.prototxt"))
    if "onnx" in kinds and not row.is_training:
        export_onnx(net, folder / "net.onnx")
    if "caffe" in kinds:
        export(net, folder / "net.prototxt", folder / "net.caffemodel")
    if row.drop:
        spec = plan_spec(row.net, row.batch, plan_of(row.net, row.drop))
    return write_ours(folder, spec, row.is_training)


def write_ours(folder: Path, spec: dict[str, Any], is_training: bool) -> float:
    """Write what a process of ours reads: a net with weights and a batch; return the multiply-adds of a pass."""
    net = net_of(spec, "train" if is_training else "test")
    fill(net)
    net.save(folder / "ours.npz")
    np.savez(folder / "batch.npz", **batch_for(net))
    (folder / "net.yaml").write_text(json.dumps(spec))
    (folder / "solver.yaml").write_text(SOLVER)
    job = {"is_training": is_training, "threads": len(os.sched_getaffinity(0))}
    (folder / "job.json").write_text(json.dumps(job))
    return multiply_adds(net, is_training)


def start(folder: Path, row: Row, args: argparse.Namespace) -> list[Peer]:
    """The processes of a row, ours first."""
    engine = {"MINICAFFE_ENGINE": args.engine} if args.engine else {}
    peers = [Peer("ours", folder, PYTHONPATH=str(ROOT), **engine)]
    if args.against:
        peers.append(Peer("before", folder, PYTHONPATH=args.against, **engine))
    if "torch" in args.peers:
        peers.append(Peer("torch", folder))
    if "onnx" in args.peers and not row.is_training:
        peers.append(Peer("onnx", folder))
    if args.caffe:
        peers.append(Peer("caffe", folder, args.caffe))
    return peers


def agreeing(peers: list[Peer], row: Row) -> list[Peer]:
    """The peers that compute what ours does; the others are ended, and said on standard error."""
    first, *others = (peer for peer in peers if not row.drop or not peer.is_ours)
    expected = first.outputs()
    left_out = []
    for peer in others:
        wrong = different(expected, peer.outputs())
        if wrong:
            print(f"{row.net}: {TITLES[peer.kind]} is left out, as it has another {wrong}", file=sys.stderr)
            peer.close()
            left_out.append(peer)
    return [peer for peer in peers if peer not in left_out]


def different(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> str:
    """The first of the values of both that are not the same, "" where all are."""
    for name in sorted(expected.keys() & found.keys()):
        own, other = expected[name].ravel(), found[name].ravel()
        order, most = (2, GRADIENT_ERROR) if "/" in name else (np.inf, OUTPUT_ERROR)
        error = np.linalg.norm(own - other, order) / (np.linalg.norm(own, order) or 1)
        if not error <= most:
            return f"{name}: off by {error:.1e}"
    return ""


def gemm_speed() -> float:
    """Multiply-adds a second of a large product, the median of seven."""
    a = np.ones((1024, 1024), np.float32)
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 1024**3 / median(times[1:])


def measure(row: Row, args: argparse.Namespace) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = write_job(folder, row, kinds_of(args))
        if row.is_training and "Dropout" in (folder / "net.yaml").read_text():
            same = agreeing_without_dropout(row, args)
            peers = [peer for peer in start(folder, row, args) if peer.kind in same]
        else:
            peers = agreeing(start(folder, row, args), row)
        floor = work / gemm_speed()
        rounds = [[peer.run(args.seconds) for peer in peers] for _ in range(args.rounds + 1)][1:]
        memory = {peer.kind: peer.memory() for peer in peers}
        for peer in peers:
            peer.close()
    times = {peer.kind: column for peer, column in zip(peers, zip(*rounds, strict=True), strict=True)}
    return line(row, times, floor, memory, kinds_of(args))


def agreeing_without_dropout(row: Row, args: argparse.Namespace) -> list[str]:
    """The kinds that compute what ours does where nothing is dropped: masks differ."""
    with tempfile.TemporaryDirectory() as name:
        write_job(Path(name), row, kinds_of(args), without_dropout=True)
        peers = agreeing(start(Path(name), row, args), row)
        for peer in peers:
            peer.close()
    return [peer.kind for peer in peers]


def kinds_of(args: argparse.Namespace) -> list[str]:
    """The kinds of peers that have a column."""
    return [*(["before"] if args.against else []), *args.peers, *(["caffe"] if args.caffe else [])]


def line(
    row: Row, times: dict[str, Sequence[float]], floor: float, memory: dict[str, float], kinds: list[str]
) -> str:
    """A row in Markdown: times, ratios with their goals, the floor, memory."""
    cells = [row.mode, row.net, str(row.batch)]
    cells += [_milliseconds(median(times[kind])) if kind in times else "" for kind in ("ours", *kinds)]
    for kind in kinds:
        cell = ""
        if kind in times:
            ratio = median(a / b for a, b in zip(times["ours"], times[kind], strict=True))
            goal = row.goals.get(kind)
            cell = f"{ratio:.2f}" + (f" (≤ {goal:g})" if goal else "")
            cell = f"**{cell}**" if goal and ratio <= goal else cell
        cells.append(cell)
    cells.append(_milliseconds(floor))
    cells += [f"{memory[kind]:.0f}" if kind in memory else "" for kind in ("ours", *kinds)]
    return f"| {' | '.join(cells)} |"


def head(kinds: list[str]) -> str:
    """The head of the table."""
    names = [TITLES[kind] for kind in kinds]
    cells = ["", "net", "batch", *(f"{name} ms" for name in ("ours", *names))]
    cells += [f"ours / {name}" for name in names] + ["floor ms", *(f"{name} MB" for name in ("ours", *names))]
    return f"| {' | '.join(cells)} |\n|{'---|' * 3}{'--:|' * (len(cells) - 3)}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{2 if seconds < 0.01 else 1 if seconds < 0.1 else 0}f}"


def machine() -> str:
    """Date, processor, cores and versions."""
    processor = platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            x.partition(":")[2] for x in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in x
        ]
        processor = names[0].strip() if names else processor
    parts = [str(date.today()), processor, f"{len(os.sched_getaffinity(0))} cores", f"NumPy {np.__version__}"]
    for package, title in (("torch", "PyTorch"), ("onnxruntime", "onnxruntime")):
        try:
            parts.append(f"{title} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def chosen_rows(args: argparse.Namespace) -> Iterator[Row]:
    """The rows asked for: names of nets, with a batch perhaps (``vgg:1``)."""
    wanted = [part.partition(":") for part in args.only.split(",")] if args.only else []
    for row in ROWS:
        is_named = any(row.net in nets_called(name) and n in ("", str(row.batch)) for name, _, n in wanted)
        if (not wanted or is_named) and args.mode in ("", row.mode):
            yield row


def nets_called(name: str) -> set[str]:
    """The net of this name; or else those whose names end (``vgg``), or begin with it (``resnet``)."""
    nets = {row.net for row in ROWS}
    endings = {net for net in nets if net.endswith(f"_{name}")}
    return {name} & nets or endings or {net for net in nets if net.startswith(name)}


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", default="", metavar="NETS", help="lenet,resnet,cifar10_vgg:1: parts of names"
    )
    parser.add_argument("--mode", default="", choices=["training", "inference", "low rank"])
    parser.add_argument("--peers", default="torch,onnx", type=lambda text: [x for x in text.split(",") if x])
    parser.add_argument("--caffe", metavar="PYTHON", help="a Python that can import caffe")
    parser.add_argument("--against", metavar="CHECKOUT", help="another state of minicaffe as one more peer")
    parser.add_argument(
        "--engine", choices=["default", "caffe", "winograd"], help="ours: of all convolutions"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each peer in a round")
    args = parser.parse_args()
    print(f"{machine()}\n\n{head(kinds_of(args))}", flush=True)
    for row in chosen_rows(args):
        print(measure(row, args), flush=True)


if __name__ == "__main__":
    main()
