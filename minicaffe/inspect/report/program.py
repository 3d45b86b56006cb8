"""A net as the list of simple steps that page/engine.js runs over one image.

A step is a dict for JSON: ``op``, the engine's function; ``layer``, its name; ``bottoms``, ``tops`` and ``params``,
keys of arrays; and the sizes and constants of the function. Shapes are those of one image, without the batch axis;
images of one axis get a height of 1. A layer of low rank becomes two convolutions with Z between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer, LayerTable
from minicaffe.core.net import Net
from minicaffe.device.array import Array, to_host
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.bias import Bias, BiasParam
from minicaffe.layers.concat import Concat
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.dropout import Dropout
from minicaffe.layers.eltwise import Eltwise
from minicaffe.layers.elu import ELU
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.lrn import LRN, LRNParam
from minicaffe.layers.matrix_product import MatrixProduct, Stage
from minicaffe.layers.pooling import Pooling
from minicaffe.layers.power import Power
from minicaffe.layers.relu import ReLU
from minicaffe.layers.scale import Scale, ScaleParam
from minicaffe.layers.softmax import SoftmaxParam

Shape = tuple[int, ...]
Keys = tuple[Sequence[str], Sequence[str]]  # of the bottoms and the tops of a step
BETWEEN = "Z of {}"  # the key of what lies between the two factors of a layer


class NotLive(MinicaffeError):
    """A net cannot run in the page; the message says which layer or number stands in the way."""


@dataclass
class Program:
    """``input``: the key of the image; ``params``: arrays by key, ``layer/index`` for the layers' own blobs."""

    input: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, np.ndarray] = field(default_factory=dict)


Writer = Callable[[Any, list[Shape], list[Shape]], dict[str, Any]]
ops: LayerTable[Writer] = LayerTable()  # what a layer's one step is, from the shapes of its bottoms and tops


def program_of(net: Net, image: str, answer: str, keys: Sequence[Keys]) -> Program:
    """The steps from the blob ``image`` to the blob ``answer``, both given by key; ``keys`` are those of each step.

    Raises NotLive.
    """
    program = Program(image)
    for step, (bottoms, tops) in _on_the_way(net, image, answer, keys):
        _add(program, step, bottoms, tops)
    return program


def _on_the_way(
    net: Net, image: str, answer: str, keys: Sequence[Keys]
) -> Iterator[tuple[Step, tuple[list[str], list[str]]]]:
    """The steps that the answer depends on, in order, with their keys. Raises NotLive."""
    needed, chosen = {answer}, []
    for step, (bottoms, tops) in reversed(list(zip(net.steps, keys, strict=True))):
        if image in tops or not needed & set(tops):
            continue
        if not bottoms:
            raise NotLive(f"layer '{step.layer.name}' ({step.layer.type}) is an input besides the image")
        needed |= set(bottoms)
        chosen.append((step, (list(bottoms), list(tops))))
    return reversed(chosen)


def _add(program: Program, step: Step, bottoms: list[str], tops: list[str]) -> None:
    layer = step.layer
    x, y = ([blob.shape[1:] for blob in blobs] for blobs in (step.bottom, step.top))
    if isinstance(layer, (Convolution, InnerProduct)) and layer.type in PRODUCTS:
        for i, (bottom, top) in enumerate(zip(bottoms, tops, strict=True)):
            _add_product(program, layer, x[i], bottom, top)
        return
    if layer.type not in ops:
        raise NotLive(f"the page cannot run layer '{layer.name}' of type {layer.type}")
    numbers = ops[layer.type](layer, x, y)
    params = [f"{layer.name}/{i}" for i in range(len(layer.blobs))]
    program.params.update(zip(params, map(_values, layer.blobs), strict=True))
    program.steps.append({"layer": layer.name, "bottoms": bottoms, "tops": tops, "params": params, **numbers})


def _values(blob: Any) -> np.ndarray:
    values: np.ndarray = to_host(blob.data)
    return values


# -- convolutions and inner products -------------------------------------------------------------------------------

PRODUCTS = ("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise", "InnerProduct")


def _add_product(program: Program, layer: MatrixProduct, x: Shape, bottom: str, top: str) -> None:
    """The one or two plain layers that a convolution or inner product is."""
    if layer.axis != 1:
        raise NotLive(f"layer '{layer.name}' has axis {layer.axis}; the page runs those of axis 1")
    try:
        stages = layer.stages()
    except SpecError as error:
        raise NotLive(str(error)) from None
    for i, stage in enumerate(stages):
        last = i == len(stages) - 1
        step = {
            "layer": layer.name,
            "bottoms": [bottom],
            "tops": [top if last else BETWEEN.format(layer.name)],
            "params": _stage_params(program, layer, i, stage),
        }
        if stage.weights.ndim == 2:
            program.steps.append({"op": "inner_product", **step, "matrix": list(stage.weights.shape)})
            x = (len(stage.weights),)
        else:
            numbers = _convolution(layer, stage, x)
            program.steps.append({**numbers, **step})
            x = tuple(numbers["output"])
        bottom = step["tops"][0]


def _convolution(layer: Layer, stage: Stage, x: Shape) -> dict[str, Any]:
    if len(x) not in (2, 3):
        raise NotLive(f"layer '{layer.name}' has images of {len(x) - 1} axes; the page runs those of 1 or 2")
    c, h, w = x if len(x) == 3 else (x[0], 1, x[1])
    window = stage.window
    return {
        "op": "convolution",
        "input": [c, h, w],
        "output": [len(stage.weights), *window.output_size((h, w))],
        "kernel": list(window.kernel),
        "stride": list(window.stride),
        "pad": list(window.pad),
        "dilation": list(window.dilation),
        "group": stage.group,
    }


def _stage_params(program: Program, layer: Layer, number: int, stage: Stage) -> list[str]:
    """Keys of a stage's weights and bias: the layer's own blobs where they hold the same numbers."""
    keys = []
    for what, array in (("w", stage.weights), ("b", stage.bias)):
        if array is None:
            continue
        key = next(
            (f"{layer.name}/{i}" for i, blob in enumerate(layer.blobs) if _is_same(_values(blob), array)),
            f"{layer.name}/{what}{number}",
        )
        program.params[key] = to_host(array)
        keys.append(key)
    return keys


def _is_same(blob: np.ndarray, array: Array) -> bool:
    """Whether a blob has an array's numbers in its order; axes of size 1 do not matter."""
    squeezed = [[n for n in a.shape if n > 1] for a in (blob, array)]
    return squeezed[0] == squeezed[1] and np.array_equal(blob.ravel(), array.ravel())


# -- the other layers, each one step -------------------------------------------------------------------------------


@ops.of("Pooling")
def _pooling(layer: Pooling, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    if len(y) > 1:
        raise NotLive(f"layer '{layer.name}' has a second top, with the places of the maxima")
    window = layer.window
    sizes = {"kernel": list(window.kernel), "stride": list(window.stride), "pad": list(window.pad)}
    return {"op": "pooling", "pool": layer.param.pool, "input": list(x[0]), "output": list(y[0]), **sizes}


@ops.of("LRN")
def _lrn(layer: LRN, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    response = layer.response
    across = layer.spec.message(LRNParam).norm_region == "ACROSS_CHANNELS"
    constants = {"alpha": response.alpha, "beta": response.beta, "k": response.k}
    return {"op": "lrn", "input": list(x[0]), "half": response.half, "across": across, **constants}


@ops.of("BatchNorm")
def _batch_norm(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    if not isinstance(layer, BatchNorm):
        raise NotLive(f"the page cannot run layer '{layer.name}', a BatchNorm with scale_bias")
    if not layer.uses_global_stats:
        raise NotLive(f"layer '{layer.name}' (BatchNorm) depends on the other images of the batch")
    return {"op": "batch_norm", "inner": math.prod(x[0][1:]), "eps": layer.param.eps}


def _inner(layer: Layer, x: list[Shape], axis: int, num_axes: int) -> int:
    """How many elements in a row share a coefficient, of a parameter or of a second bottom."""
    if len(x) > 1:
        if axis % (len(x[0]) + 1):
            raise NotLive(f"the second bottom of layer '{layer.name}' has a batch axis, but not in its place")
        return math.prod(x[0][len(x[1]) :])
    if num_axes == 0:
        return math.prod(x[0])
    axis %= len(x[0]) + 1
    if axis == 0:
        raise NotLive(f"layer '{layer.name}' has coefficients for each image of the batch")
    return 1 if num_axes == -1 else math.prod(x[0][axis - 1 + num_axes :])


@ops.of("Scale")
def _scale(layer: Scale, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    param = layer.spec.message(ScaleParam)
    return {"op": "scale", "inner": _inner(layer, x, param.axis, param.num_axes), "bias": layer.has_bias}


@ops.of("Bias")
def _bias(layer: Bias, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    param = layer.spec.message(BiasParam)
    return {"op": "bias", "inner": _inner(layer, x, param.axis, param.num_axes)}


@ops.of("PReLU")
def _prelu(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "prelu", "inner": math.prod(x[0][1:] if layer.blobs[0].shape else x[0])}


@ops.of("ReLU")
def _relu(layer: ReLU, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "relu", "slope": layer.slope}


@ops.of("ELU")
def _elu(layer: ELU, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "elu", "alpha": layer.alpha}


@ops.of("Sigmoid", "TanH")
def _named(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": layer.type.lower()}


@ops.of("Power")
def _power(layer: Power, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "power", "power": layer.power, "scale": layer.scale, "shift": layer.shift}


@ops.of("Dropout")
def _dropout(layer: Dropout, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    if layer.drops:
        raise NotLive(f"layer '{layer.name}' drops at random (sample_weights_test)")
    return {"op": "copy"} if layer.test_scale == 1 else {"op": "multiply", "by": layer.test_scale}


@ops.of("Split", "Flatten", "Reshape")
def _copy(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    if any(math.prod(x[0]) != math.prod(shape) for shape in y):
        raise NotLive(f"layer '{layer.name}' ({layer.type}) changes the batch axis")
    return {"op": "copy"}


@ops.of("Eltwise")
def _eltwise(layer: Eltwise, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "eltwise", "operation": layer.param.operation, "coeff": list(layer.coeff)}


def _lengths(layer: Layer, parts: list[Shape], whole: Shape) -> list[int]:
    """How many numbers of each part lie in a row. Raises NotLive if the parts are images of the batch."""
    if not whole:
        raise NotLive(f"layer '{layer.name}' ({layer.type}) works along the batch axis")
    axis = next((i for i, n in enumerate(whole) if any(part[i] != n for part in parts)), 0)
    if sum(part[axis] for part in parts) != whole[axis]:
        raise NotLive(f"layer '{layer.name}' ({layer.type}) works along the batch axis")
    return [math.prod(part[axis:]) for part in parts]


@ops.of("Concat")
def _concat(layer: Concat, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "concat", "lengths": _lengths(layer, x, y[0])}


@ops.of("Slice")
def _slice(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    return {"op": "slice", "lengths": _lengths(layer, y, x[0])}


@ops.of("Softmax")
def _softmax(layer: Layer, x: list[Shape], y: list[Shape]) -> dict[str, Any]:
    axis = layer.spec.message(SoftmaxParam).axis % (len(x[0]) + 1)
    if axis == 0:
        raise NotLive(f"layer '{layer.name}' (Softmax) works along the batch axis")
    return {"op": "softmax", "classes": x[0][axis - 1], "inner": math.prod(x[0][axis:])}
