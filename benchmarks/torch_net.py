"""A net of ours in PyTorch, as a user of PyTorch would write it; needs PyTorch and NumPy, nothing of ours.

``described`` of ``peer_specs.py`` says what the layers are. A BatchNorm and its Scale are one ``BatchNorm2d``; a
ReLU is in place where ours is, and so is the sum at the end of a residual unit, as in torchvision; a blob is let go
after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Fields = dict[str, Any]


class TorchNet(nn.Module):
    """``layers``: dicts with type, name, bottom, top, and what ``MODULES`` wants of that type."""

    def __init__(self, layers: list[Fields]) -> None:
        super().__init__()
        self.steps = [layer for layer in layers if layer["type"] not in ("Input", "Scale")]
        self.modules_of = nn.ModuleList([MODULES[step["type"]](step) for step in self.steps])
        last_use = {name: i for i, step in enumerate(self.steps) for name in step["bottom"]}
        self.over = [[name for name, i in last_use.items() if i == n] for n in range(len(self.steps))]
        self.input_names = [name for layer in layers if layer["type"] == "Input" for name in layer["top"]]

    def forward(self, *inputs: Tensor, look: Callable[[str, Tensor], None] = lambda *_: None) -> Tensor:
        """The top of the last layer; ``look`` is shown the name and value of every top when it is made."""
        blobs = dict(zip(self.input_names, inputs, strict=True))
        for step, module, over in zip(self.steps, self.modules_of, self.over, strict=True):
            y = module(*(blobs[name] for name in step["bottom"]))
            for name in over:
                del blobs[name]
            blobs[step["top"][0]] = y
            look(step["top"][0], y)
        return y

    def load(self, path: Path) -> None:
        """Read the weights that ours saved."""
        with np.load(path) as file, torch.no_grad():
            for name, place in self.places():
                place.copy_(torch.from_numpy(file[name]).reshape(place.shape))

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and statistics, with the names that our weight files have for them."""
        for step, module in zip(self.steps, self.modules_of, strict=True):
            yield from _places_of(step, module)


def _places_of(step: Fields, module: nn.Module) -> list[tuple[str, Tensor]]:
    if isinstance(module, nn.BatchNorm2d):
        found = [(f"{step['name']}/0", module.running_mean), (f"{step['name']}/1", module.running_var)]
        scale = [module.weight, module.bias] if step["scale"] else []
        return found + [(f"{step['scale']}/{i}", target) for i, target in enumerate(scale)]
    return [(f"{step['name']}/{i}", target) for i, target in enumerate(module.parameters())]


class Sum(nn.Module):
    """The sum of a residual unit, in place in the term that a BatchNorm has made."""

    def __init__(self, in_place_in: int | None) -> None:
        super().__init__()
        self.in_place_in = in_place_in

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.in_place_in is None:
            return a + b
        y, other = (a, b) if self.in_place_in == 0 else (b, a)
        y += other
        return y


class WithinChannelNorm(nn.Module):
    """LRN within a channel."""

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.size, self.alpha, self.beta = size, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        mean = F.avg_pool2d(x * x, self.size, 1, self.size // 2)
        return x / (1 + self.alpha * mean) ** self.beta


class Concat(nn.Module):
    """Blobs side by side."""

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)


class ClassLoss(nn.Module):
    """Cross entropy of class scores, which may be images of one pixel."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(x.flatten(1), label)


def _convolution(step: Fields) -> nn.Module:
    return nn.Conv2d(
        step["channels"], step["filters"], step["kernel"], step["stride"], step["pad"], step["dilation"],
        step["group"], bias=step["bias"],
    )  # fmt: skip


def _pooling(step: Fields) -> nn.Module:
    is_max, window = step["pool"] == "MAX", (step["kernel"], step["stride"], step["pad"])
    if step["global"]:
        return nn.AdaptiveMaxPool2d(1) if is_max else nn.AdaptiveAvgPool2d(1)
    return (nn.MaxPool2d if is_max else nn.AvgPool2d)(*window, ceil_mode=step["ceil"])


def _linear(step: Fields) -> nn.Module:
    linear = nn.Linear(step["inputs"], step["filters"], bias=step["bias"])
    return linear if step["is_flat"] else nn.Sequential(nn.Flatten(), linear)


def _lrn(step: Fields) -> nn.Module:
    if step["within"]:
        return WithinChannelNorm(step["size"], step["alpha"], step["beta"])
    return nn.LocalResponseNorm(step["size"], step["alpha"], step["beta"], step["k"])


MODULES: dict[str, Callable[[Fields], nn.Module]] = {
    "Convolution": _convolution,
    "InnerProduct": _linear,
    "Pooling": _pooling,
    "LRN": _lrn,
    "BatchNorm": lambda step: nn.BatchNorm2d(step["channels"], step["eps"], affine=bool(step["scale"])),
    "ReLU": lambda step: nn.ReLU(inplace=step["bottom"] == step["top"]),
    "PReLU": lambda step: nn.PReLU(step["channels"]),
    "Dropout": lambda step: nn.Dropout(step["ratio"]),
    "Eltwise": lambda step: Sum(step["in_place_in"]),
    "Concat": lambda step: Concat(),
    "Softmax": lambda step: nn.Softmax(1),
    "SoftmaxWithLoss": lambda step: ClassLoss(),
}
