"""The nets of ``peers.py``: for inference and for training, with random weights; described for other frameworks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import minicaffe as mc
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.shrunk import shrunk_text
from minicaffe.core.layer import Layer
from minicaffe.layers.dropout import DropoutParam
from minicaffe.layers.eltwise import EltwiseParam
from minicaffe.layers.lrn import LRNParam
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.spec.net import parse_net

PROTOTXT = Path(__file__).parent.parent / "prototxt"
PLANS = Path(__file__).parent / "plans"
SHAPES = {"lenet": (64, 1, 28, 28)} | {f"cifar10_{x}": (100, 3, 32, 32) for x in ("quick", "full", "vgg")}
RULE = "base_lr: 0.001\nmomentum: 0.9\nweight_decay: 0.0005\n"
SOLVER = f"net: given\nlr_policy: fixed\nrandom_seed: 1\n{RULE}"
CAFFE_SOLVER = f'net: "NET"\nlr_policy: "fixed"\n{RULE}'
Spec = dict[str, Any]


def image_shape(name: str) -> tuple[int, ...]:
    """Channels, height and width of a net's images."""
    first = yaml.safe_load((PROTOTXT / name / "deploy.yaml").read_text())["layer"][0]
    shape = first["input_param"]["shape"]
    return tuple((shape[0] if isinstance(shape, list) else shape)["dim"][1:])


def inference_spec(name: str, batch: int) -> Spec:
    """The deploy spec, for this batch."""
    spec = yaml.safe_load((PROTOTXT / name / "deploy.yaml").read_text())
    spec["layer"][0]["input_param"] = {"shape": [{"dim": [batch, *image_shape(name)]}]}
    return connected(spec)


def training_spec(name: str, batch: int) -> Spec:
    """The train spec with inputs in place of its data; without a train spec, the deploy spec with a loss."""
    path = PROTOTXT / name / "train.yaml"
    if path.exists():
        spec = yaml.safe_load(path.read_text())
        phases = [layer.get("include", {}).get("phase", "TRAIN") for layer in spec["layer"]]
        layers = [x for x, phase in zip(spec["layer"], phases, strict=True) if phase == "TRAIN"][1:]
    else:
        layers = inference_spec(name, batch)["layer"][1:-1]
        layers.append({"name": "loss", "type": "SoftmaxWithLoss", "bottom": [*layers[-1]["top"], "label"]})
    for layer in layers:  # a trained net has its batch's statistics
        layer.get("batch_norm_param", {}).pop("use_global_stats", None)
    shapes = [{"dim": [batch, *image_shape(name)]}, {"dim": [batch]}]
    inputs = {"name": "data", "type": "Input", "top": ["data", "label"], "input_param": {"shape": shapes}}
    return connected({"name": name, "layer": [inputs, *layers]})


def training_text(name: str) -> str:
    """The training spec of a net in ``SHAPES`` as text."""
    return yaml.safe_dump(training_spec(name, SHAPES[name][0]), sort_keys=False)


def connected(spec: Spec) -> Spec:
    """The spec with every bottom and top written out, as lists."""
    last: list[str] = []
    for layer in spec["layer"]:
        for end, default in (("bottom", last if layer["type"] != "Input" else []), ("top", [layer["name"]])):
            value = layer.get(end, default)
            layer[end] = [value] if isinstance(value, str) else value
        last = layer["top"][:1]
    return spec


def net_of(spec: Spec, phase: str = "test") -> mc.Net:
    """A net of the spec."""
    return mc.Net.from_text(json.dumps(spec), phase=phase, seed=1)


def plan_spec(name: str, batch: int, plan: dict[str, list[Any]]) -> Spec:
    """The deploy spec with a plan of ranks in it."""
    return yaml.safe_load(plan_text(yaml.safe_dump(inference_spec(name, batch), sort_keys=False), plan))


def plan_text(text: str, plan: dict[str, list[Any]]) -> str:
    """A spec with a plan in it."""
    ranks = {name: LayerRank(scheme, rank) for name, (scheme, rank) in plan.items()}
    return shrunk_text(text, parse_net(text), ranks)


def plan_of(name: str, drop: float) -> dict[str, list[Any]]:
    """The plan of ``benchmarks/plans`` that may lose this much accuracy."""
    plans = json.loads((PLANS / f"{name}.json").read_text())["plans"]
    return next(entry["plan"] for entry in plans if entry["drop"] == drop)


def fill(net: mc.Net) -> None:
    """Random weights that neither die away nor grow; statistics near those of their blobs."""
    rng = np.random.default_rng(0)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            blob.data[...] = _values(layer, i, blob.shape, rng)


def _values(layer: Layer, index: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if layer.type == "BatchNorm":
        if index == 2:  # what the statistics were multiplied with
            return np.ones(shape)
        return rng.uniform(0.5, 1.5, shape) if index else rng.normal(0, 0.1, shape)
    if layer.type == "Scale" and not index:
        return rng.uniform(0.5, 1.0, shape)
    if index or len(shape) < 2:
        return rng.normal(0, 0.1, shape)
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)


def make_batch(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, 10, shape[0])


def batch_for(net: mc.Net) -> dict[str, np.ndarray]:
    """Random images, and labels where the net has a loss."""
    rng, shapes = np.random.default_rng(0), {name: net.blobs[name].shape for name in net.inputs}
    classes = net.steps[-1].bottom[0].shape[1]
    return {
        name: rng.integers(0, classes, shape) if name == "label" else rng.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def described(net: mc.Net) -> list[dict[str, Any]]:
    """A dict for each layer, with all that another framework wants to know of it. A Split is no layer there."""
    layers: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    writer: dict[str, dict[str, Any]] = {}
    for step in net.steps:
        layer = step.layer
        bottom = [names.get(name, name) for name in layer.spec.bottom]
        if layer.type == "Split":
            names.update(dict.fromkeys(layer.spec.top, bottom[0]))
            continue
        made = {"type": layer.type, "name": layer.name, "bottom": bottom, "top": list(layer.spec.top)}
        made |= FIELDS.get(layer.type, lambda layer: {})(layer)
        if layer.type == "Scale":
            before = writer[bottom[0]]
            assert before["type"] == "BatchNorm" and bottom == made["top"], (
                "a Scale that follows no BatchNorm"
            )
            before["scale"] = layer.name
        if layer.type == "Eltwise":
            by_norm = [i for i, name in enumerate(bottom) if writer[name]["type"] == "BatchNorm"]
            made["in_place_in"] = by_norm[-1] if by_norm else None
        layers.append(made)
        if layer.type != "Scale":
            writer |= dict.fromkeys(made["top"], made)
    return layers


def _product(layer: MatrixProduct) -> dict[str, Any]:
    (stage,) = layer.stages()
    fields = {
        "filters": stage.weights.shape[0],
        "bias": stage.bias is not None,
        "inputs": stage.weights.shape[1],
        "is_flat": len(layer.bottom_blobs[0].shape) == 2,
    }
    window = {name: list(getattr(stage.window, name)) for name in ("kernel", "stride", "pad", "dilation")}
    return fields | window | {"group": stage.group, "channels": fields["inputs"] * stage.group}


def _pooling(layer: Layer) -> dict[str, Any]:
    param = layer.param
    window = param.window(layer.bottom_blobs[0].shape[2:])
    sizes = {name: list(getattr(window, name)) for name in ("kernel", "stride", "pad")}
    return {"pool": param.pool, "ceil": param.rounds_up, "global": param.global_pooling, **sizes}


def _lrn(layer: Layer) -> dict[str, Any]:
    param = layer.spec.message(LRNParam)
    within = param.norm_region == "WITHIN_CHANNEL"
    return {
        "size": param.local_size,
        "alpha": param.alpha,
        "beta": param.beta,
        "k": param.k,
        "within": within,
    }


def _eltwise(layer: Layer) -> dict[str, Any]:
    param = layer.spec.message(EltwiseParam)
    assert param.operation == "SUM" and set(layer.coeff) == {1.0}, "an Eltwise that is no plain sum"
    return {}


FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Convolution": _product,
    "InnerProduct": _product,
    "Pooling": _pooling,
    "LRN": _lrn,
    "Eltwise": _eltwise,
    "BatchNorm": lambda layer: {
        "channels": layer.blobs[0].shape[0], "eps": layer.param.eps, "scale": "",
    },
    "PReLU": lambda layer: {"channels": layer.blobs[0].count},
    "Dropout": lambda layer: {"ratio": layer.spec.message(DropoutParam).dropout_ratio},
}  # fmt: skip


def multiply_adds(net: mc.Net, is_training: bool) -> float:
    """Those of a pass of the whole batch; of a training step also the gradients of weights and of inputs."""
    batch = net.blobs[net.inputs[0]].shape[0]
    total, is_first = 0, True
    for step in net.steps:
        if step.multiply_adds:
            total += step.multiply_adds * ((2 if is_first else 3) if is_training else 1)
            is_first = False
    return total * batch
