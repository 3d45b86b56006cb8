"""Time of low-rank nets: a forward pass beside dense, PyTorch and Caffe; a training step beside dense."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from peer_specs import PLANS, PROTOTXT, SHAPES, SOLVER, plan_text, training_text
from peers import Peer, Row, write_job

import minicaffe as mc
from minicaffe.compress.fold import fold
from minicaffe.core.table import format_table
from minicaffe.device.array import Array
from minicaffe.layers.convolution import Convolution
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.products import TwoStage
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

Seconds = tuple[float, float]  # of the whole forward pass, and of its convolutions; of peers nan


class Ours:
    """Forward passes of minicaffe."""

    def __init__(self, text: str, images: np.ndarray, folded: bool = False) -> None:
        self.net, self.in_parts = (self._make(text, images, folded) for _ in range(2))
        self.convolutions = [i for i, x in enumerate(self.net.layers) if x.type == "Convolution"]

    @staticmethod
    def _make(text: str, images: np.ndarray, folded: bool) -> mc.Net:
        net = mc.Net(parse_net(text), phase="test", seed=1)
        if folded:
            net = fold(text, net)[1]
        blob = net.blobs[net.inputs[0]]
        blob.reshape(*images.shape)
        net.reshape()
        blob.data[...] = images
        net.run_forward()
        return net

    def run(self) -> tuple[float, float]:
        """Seconds of the whole pass, and of the convolutions."""
        start = time.perf_counter()
        self.net.run_forward()
        whole = time.perf_counter() - start
        part = 0.0
        for i in self.convolutions:
            start = time.perf_counter()
            self.in_parts.run_forward(i, i)
            part += time.perf_counter() - start
        return whole, part


def time_forward(args: argparse.Namespace) -> None:
    """Dense, PyTorch, Caffe and the plans, a forward pass of each in turn."""
    threads = len(os.sched_getaffinity(0))
    plans = json.loads((PLANS / f"{args.net}.json").read_text())["plans"]
    print(f"{date.today()}, {platform.machine()}, {threads} cores, NumPy {np.__version__}")
    for batch in (100, 1):
        _time_batch(args, batch, plans)


def _time_batch(args: argparse.Namespace, batch: int, plans: list[dict[str, Any]]) -> None:
    text = (PROTOTXT / args.net / "deploy.yaml").read_text()
    images = np.random.default_rng(0).standard_normal((batch, *SHAPES[args.net][1:]), np.float32)
    runs: dict[str, Callable[[], Seconds]] = {"dense": Ours(text, images).run}
    for entry in plans:
        runs[_name(entry)] = Ours(plan_text(text, entry["plan"]), images).run
    if "BatchNorm" in text:
        runs["dense, folded"] = Ours(text, images, folded=True).run
        for entry in plans:
            runs[f"{_name(entry)}, folded"] = Ours(plan_text(text, entry["plan"]), images, folded=True).run
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), Row("inference", args.net, batch), ["caffe"] if args.caffe else [])
        peers = {"PyTorch, dense": Peer("torch", Path(folder))}
        if args.caffe:
            peers["Caffe, dense"] = Peer("caffe", Path(folder), args.caffe)
        runs |= {name: lambda peer=peer: (peer.run(0), math.nan) for name, peer in peers.items()}
        times = in_turns(runs, args.rounds if batch > 1 else 5 * args.rounds)
        for peer in peers.values():
            peer.close()
    _print_times(f"{args.net}, batch {batch}", times)


def _name(entry: dict[str, Any]) -> str:
    return f"low rank, -{100 * entry['drop']:g} points"


def in_turns(runs: dict[str, Callable[[], Seconds]], rounds: int) -> dict[str, list[Seconds]]:
    """One run of each a round; two rounds do not count. In a turn the best of three: the first wakes the caches."""
    times: dict[str, list[Seconds]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            found = min(run() for _ in range(3))
            if number >= 2:
                times[name].append(found)
    return times


def _print_times(title: str, times: dict[str, list[tuple[float, float]]]) -> None:
    """Medians in ms, and the medians of the paired ratios: how many times faster than dense and PyTorch."""

    def faster(name: str, peer: str, part: int) -> str:
        if peer not in times:
            return ""
        ratio = median(b[part] / a[part] for a, b in zip(times[name], times[peer], strict=True))
        return "" if math.isnan(ratio) else f"{ratio:.2f}"

    def milliseconds(own: list[Seconds], part: int) -> str:
        return "" if math.isnan(own[0][part]) else f"{1e3 * median(t[part] for t in own):.2f}"

    ratios = ("dense", 0), ("dense", 1), ("PyTorch, dense", 0), ("Caffe, dense", 0)
    rows = [
        (name, *(milliseconds(own, part) for part in (0, 1)),
         *(faster(name, peer, part) for peer, part in ratios))
        for name, own in times.items()
    ]  # fmt: skip
    head = ("forward pass", "net ms", "conv ms", "x dense", "conv", "x PyTorch", "x Caffe")
    print(f"{title}\n{format_table(head, rows, right=range(1, 7))}")


def time_training(args: argparse.Namespace) -> None:
    """Steps of dense, factored and data-target nets on one random batch, in turns."""
    text = training_text(args.net)
    plan = json.loads((PLANS / f"{args.net}.json").read_text())["plans"][-1]["plan"]
    every = [x["name"] for x in yaml.safe_load(text)["layer"] if x["type"] == "Convolution"][1:]
    texts = {"dense": text, "factored, the plan": plan_text(text, plan)}
    quarter = {"low_rank_param": {"flops": 0.25, "scheme": "spatial", "factored": True}}
    texts["factored, 0.25 each"] = set_layer_fields(text, dict.fromkeys(every, quarter))
    for rank in args.data_ranks:
        fields = {"low_rank_param": {"rank": rank, "target": "data"}}
        texts[f"data, rank {rank:g}"] = set_layer_fields(text, dict.fromkeys(every, fields))
    solvers = {name: _solver(t, args.net) for name, t in texts.items()}
    times = in_turns(
        {name: lambda solver=solver: _step(solver) for name, solver in solvers.items()}, args.rounds
    )
    rows = []
    for name, solver in solvers.items():
        ratio = median(b[0] / a[0] for a, b in zip(times[name], times["dense"], strict=True))
        rows.append(
            (name, f"{1e3 * median(t[0] for t in times[name]):.1f}", f"{ratio:.2f}", *_kept(solver.net))
        )
    head = ("training step", "ms", "x dense", "kept for backward, MB", "whole data matrices, MB")
    print(
        f"{date.today()}, {args.net}, batch {SHAPES[args.net][0]}\n{format_table(head, rows, right=(1, 2, 3, 4))}"
    )


def _step(solver: mc.Solver) -> Seconds:
    start = time.perf_counter()
    solver.step(1)
    return time.perf_counter() - start, 0.0


def _solver(text: str, name: str) -> mc.Solver:
    solver = mc.Solver(parse_solver(SOLVER), net=parse_net(text))
    rng = np.random.default_rng(0)
    shape = solver.net.blobs["data"].shape
    solver.net.blobs["data"].data[...] = rng.standard_normal(shape)
    solver.net.blobs["label"].data[...] = rng.integers(0, 10, shape[0])
    return solver


def _kept_by(layer: Convolution) -> Array:
    """What a convolution keeps of its input: the padded input itself, or z."""
    if not isinstance(layer, LowRankLayer):
        return layer.padded[0]
    product = layer.low_rank.product(0)
    return product.padded_hidden if isinstance(product, TwoStage) else product.padded


def _kept(net: mc.Net) -> tuple[str, str]:
    """What the convolutions keep for backward (padded inputs, or z), and the size of whole K × P data matrices."""
    kept = matrices = 0
    for layer in net.layers:
        if layer.type != "Convolution":
            continue
        geometry = layer.products[0].geometry
        matrices += geometry.depth * geometry.group * geometry.columns * 4
        kept += _kept_by(layer).nbytes
    return f"{kept / 1e6:.1f}", f"{matrices / 1e6:.1f}"
