"""The peers that speed is held against, each in a process of its own: PyTorch, and Caffe where a Python has it.

They run the nets of prototxt/*/deploy.yaml, which are chains, with random weights.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

Seconds = tuple[float, float]  # of the whole forward pass, and of its convolutions


class TorchPeer:
    """The net in PyTorch, dense."""

    def __init__(self, text: str, shape: tuple[int, ...], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._child = context.Process(target=serve_torch, args=(child_end, text, shape, threads), daemon=True)
        self._child.start()

    def run(self) -> Seconds:
        """One forward pass."""
        self._pipe.send(1)
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(0)
        self._child.join()


class CaffePeer:
    """The net in Caffe, dense; ``python`` is one that can import caffe."""

    def __init__(self, python: str, text: str, shape: tuple[int, ...]) -> None:
        net = with_connections(yaml.safe_load(text))
        net["layer"][0]["input_param"]["shape"] = {"dim": list(shape)}
        path = Path("snapshots") / "benchmark.prototxt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(prototxt(net))
        command = [python, "-c", CAFFE_SERVER, str(path)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def run(self) -> Seconds:
        """One forward pass."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        whole, part = self._process.stdout.readline().split()
        return float(whole), float(part)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def serve_torch(pipe: Connection, text: str, shape: tuple[int, ...], threads: int) -> None:
    """In a process of its own: forward passes of the same net in PyTorch, one for each number received."""
    import torch

    torch.set_num_threads(threads)
    modules = torch_modules(text, shape[1])
    x = torch.randn(*shape)
    with torch.inference_mode():
        while pipe.recv():
            start = time.perf_counter()
            y = x
            for module in modules:
                y = module(y)
            whole, part, y = time.perf_counter() - start, 0.0, x
            for module in modules:
                start = time.perf_counter()
                y = module(y)
                part += (time.perf_counter() - start) * isinstance(module, torch.nn.Conv2d)
            pipe.send((whole, part))


def torch_modules(text: str, channels: int) -> list[Any]:
    """The layers of a deploy spec as PyTorch modules in evaluation mode; they form one chain."""
    from torch import nn

    modules: list[nn.Module] = []
    flat = False
    for layer in yaml.safe_load(text)["layer"]:
        kind, conv, pool = layer["type"], layer.get("convolution_param"), layer.get("pooling_param")
        if kind == "Convolution":
            modules.append(nn.Conv2d(channels, conv["num_output"], conv["kernel_size"], padding=conv.get("pad", 0),
                                     bias=conv.get("bias_term", True)))  # fmt: skip
            channels = conv["num_output"]
        elif kind == "Pooling" and pool.get("global_pooling"):
            modules.append(nn.AdaptiveAvgPool2d(1))
        elif kind == "Pooling":
            pooling = nn.MaxPool2d if pool["pool"] == "MAX" else nn.AvgPool2d
            modules.append(pooling(pool["kernel_size"], pool["stride"], ceil_mode=True))
        elif kind == "InnerProduct":
            modules += [] if flat else [nn.Flatten()]
            modules.append(nn.LazyLinear(layer["inner_product_param"]["num_output"]))
            flat = True
        elif kind == "LRN":
            lrn = layer["lrn_param"]
            modules.append(nn.LocalResponseNorm(lrn["local_size"], lrn["alpha"], lrn["beta"]))
        elif kind == "BatchNorm":
            modules.append(nn.BatchNorm2d(channels, affine=False))
        else:
            simple = {"ReLU": lambda: nn.ReLU(inplace=True), "Softmax": lambda: nn.Softmax(1)}
            modules.append(simple.get(kind, nn.Identity)())  # Input; Scale, which is small
    return [module.eval() for module in modules]


CAFFE_SERVER = """
import os, sys, time
os.environ["GLOG_minloglevel"] = "2"
import caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
convolutions = [i for i, layer in enumerate(net.layers) if layer.type == "Convolution"]
for line in sys.stdin:
    start = time.perf_counter(); net.forward(); whole = time.perf_counter() - start
    part = 0
    for i in convolutions:
        start = time.perf_counter(); net._forward(i, i); part += time.perf_counter() - start
    print(whole, part, flush=True)
"""


def prototxt(value: Any, indent: str = "") -> str:
    """A YAML spec as Caffe's text format: the same fields."""
    lines = []
    for name, items in value.items():
        for item in items if isinstance(items, list) else [items]:
            if isinstance(item, dict):
                lines.append(f"{indent}{name} {{\n{prototxt(item, indent + '  ')}{indent}}}\n")
            else:
                is_name = isinstance(item, str) and name not in ("pool", "norm_region")
                text = str(item).lower() if isinstance(item, bool) else f'"{item}"' if is_name else str(item)
                lines.append(f"{indent}{name}: {text}\n")
    return "".join(lines)


def with_connections(net: dict[str, Any]) -> dict[str, Any]:
    """The spec with every bottom and top written out, as Caffe wants them."""
    last = ""
    for layer in net["layer"]:
        layer.setdefault("top", layer["name"])
        if layer["type"] != "Input":
            layer.setdefault("bottom", last)
        last = layer["top"]
    return net
