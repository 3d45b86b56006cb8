"""One of the peers of ``peers.py``, in a process of its own: ``PYTHON peer_process.py KIND FOLDER [CORES]``.

The folder has the net in the form that this kind reads, its weights, the batch in ``batch.npz``, and ``job.json``
(``is_training``, ``threads``). Commands are lines of the input, each answered by a line of JSON:

    run SECONDS     passes (or steps) for about that long, after one that does not count: seconds of the median
    outputs         the net's outputs (of training: the loss, and the gradients), written to KIND.npz
    layers          of ours: seconds of each layer's forward, by name; no memory is shared after it
    memory          megabytes: before the net was made, and the most since it has its weights

Caffe's Python imports this file too, so at the top is nothing that it lacks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

MOST_PASSES = 50
Job = Any  # a dict


class Ours:
    """minicaffe."""

    def __init__(self, folder: Path, job: Job) -> None:
        import minicaffe as mc
        from minicaffe.spec.net import parse_net
        from minicaffe.spec.solver import parse_solver

        self.imported = megabytes("VmRSS")
        spec = parse_net((folder / "net.yaml").read_text())
        if job["is_training"]:
            solver = mc.Solver(parse_solver((folder / "solver.yaml").read_text()), net=spec)
            self.net, self.solver = solver.net, solver
        else:
            self.net = mc.Net(spec, phase="test", seed=1)
        self.net.copy_from(folder / "ours.npz")
        for name, values in np.load(folder / "batch.npz").items():
            self.net.blobs[name].data[...] = values
        self.step = (lambda: self.solver.step(1)) if job["is_training"] else self.net.run_forward

    def layers(self) -> dict[str, float]:
        times: dict[str, list[float]] = {layer.name: [] for layer in self.net.layers}
        for _ in range(6):
            for i, name in enumerate(times):
                start = time.perf_counter()
                self.net.run_forward(i, i)
                times[name].append(time.perf_counter() - start)
        return {name: median(each[1:]) for name, each in times.items()}

    def outputs(self) -> dict[str, np.ndarray]:
        if self.net.state.phase == "TEST":
            self.net.run_forward()
            return {name: np.array(self.net.blobs[name].data) for name in self.net.outputs}
        self.net.clear_param_diffs()
        self.net.run_forward()
        self.net.run_backward()
        found = {f"{layer}/{i}": np.array(blob.diff) for layer, blobs in self.net.params.items()
                 for i, blob in enumerate(blobs)}  # fmt: skip
        return found | {"loss": np.array(self.net.blobs["loss"].data)}


class Torch:
    """PyTorch in eager mode."""

    def __init__(self, folder: Path, job: Job) -> None:
        import torch
        from torch_net import TorchNet

        torch.set_num_threads(job["threads"])
        self.torch = torch
        self.imported = megabytes("VmRSS")
        self.net = TorchNet(json.loads((folder / "layers.json").read_text()))
        self.net.load(folder / "weights.npz")
        self.batch = [torch.from_numpy(values) for _, values in np.load(folder / "batch.npz").items()]
        self.net.train(job["is_training"])
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
        self.step = self.train if job["is_training"] else self.infer

    def infer(self) -> Any:
        with self.torch.inference_mode():
            return self.net(*self.batch)

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.net(*self.batch).backward()
        self.optimizer.step()

    def outputs(self) -> dict[str, np.ndarray]:
        if not self.net.training:
            return {self.net.steps[-1]["top"][0]: self.infer().numpy()}
        self.optimizer.zero_grad()
        loss = self.net(*self.batch)
        loss.backward()
        found = {name: place.grad.numpy() for name, place in self.net.places() if place.grad is not None}
        return found | {"loss": loss.detach().numpy()}


class Onnx:
    """onnxruntime, on the model that ours exports."""

    def __init__(self, folder: Path, job: Job) -> None:
        import onnxruntime

        self.imported = megabytes("VmRSS")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        self.session = onnxruntime.InferenceSession(
            str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.batch = dict(np.load(folder / "batch.npz"))

    def step(self) -> list[np.ndarray]:
        return self.session.run(None, self.batch)

    def outputs(self) -> dict[str, np.ndarray]:
        return dict(zip((output.name for output in self.session.get_outputs()), self.step(), strict=True))


class Caffe:
    """BVLC Caffe."""

    def __init__(self, folder: Path, job: Job) -> None:
        os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112
        import caffe

        self.imported = megabytes("VmRSS")
        net, weights = str(folder / "net.prototxt"), str(folder / "net.caffemodel")
        if job["is_training"]:
            self.solver = caffe.SGDSolver(str(folder / "solver.prototxt"))
            self.net = self.solver.net
            self.net.copy_from(weights)
            self.step = lambda: self.solver.step(1)
        else:
            self.net = caffe.Net(net, weights, caffe.TEST)
            self.step = self.net.forward
        self.is_training = job["is_training"]
        for name, values in np.load(folder / "batch.npz").items():
            self.net.blobs[name].data[...] = values

    def outputs(self) -> dict[str, np.ndarray]:
        found = dict(self.net.forward())
        if self.is_training:
            self.net.clear_param_diffs()
            self.net.backward()
            found.update({f"{layer}/{i}": np.array(blob.diff) for layer, blobs in self.net.params.items()
                          for i, blob in enumerate(blobs)})  # fmt: skip
        return found


def megabytes(field: str) -> float:
    """Memory of this process: VmRSS, what it has now, or VmHWM, the most that it had."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def run(peer: Any, seconds: float) -> float:
    """Seconds of the median pass."""
    peer.step()
    times = []
    while not times or (sum(times) < seconds and len(times) < MOST_PASSES):
        start = time.perf_counter()
        peer.step()
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    kind, folder = sys.argv[1], Path(sys.argv[2])
    cores = int((*sys.argv, "0")[3])
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    classes = {"ours": Ours, "before": Ours, "torch": Torch, "onnx": Onnx, "caffe": Caffe}
    peer = classes[kind](folder, json.loads((folder / "job.json").read_text()))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM begins again
    for line in sys.stdin:
        command, *values = line.split()
        if command == "run":
            answer = run(peer, float(values[0]))
        elif command == "layers":
            answer = peer.layers()
        elif command == "memory":
            answer = [peer.imported, megabytes("VmHWM")]
        else:
            np.savez(folder / f"{kind}.npz", **peer.outputs())
            answer = 0
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
