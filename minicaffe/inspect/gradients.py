"""What ``minicaffe check-gradients`` checks: a net, a layer type, or the text of a layer, with numbers that suit.

A net is made in float64. Each data layer becomes an Input of a few images: pictures are replaced by random
numbers, since those have no equal neighbours; labels are those of the data. Inputs get random numbers too, or
whole ones where a layer reads them as classes. Parameters are moved off what their fillers made.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.layer import Layer, layer_classes
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.files.spec_formats import open_net
from minicaffe.inspect.confusion import COMPARING, made_by
from minicaffe.inspect.layer_examples import EXAMPLES, IMAGE
from minicaffe.inspect.summary import phase_for
from minicaffe.inspect.truths import make_truths, reads_truths, truths_of
from minicaffe.layers.embed import EmbedParam
from minicaffe.spec.fields import BlobShape
from minicaffe.spec.net import InputParam, LayerSpec, NetSpec, make_layer_spec, parse_net
from minicaffe.spec.reader import nearest, parse_yaml
from minicaffe.testing import MOST_ON_GPU, Input, Shape, layer_net
from minicaffe.train.preview import count_multiply_adds

SEED = 5
FEW = 4  # images of a batch: with fewer, BatchNorm has hardly a gradient
LAYER_MOST, NET_MOST, LEAST = 1000, 50, 2  # numbers of a blob that are tried
MADE_UP = re.compile(
    r"check-gradients(:\d+)?: (layer 'L': )?|layer 'L': "
)  # places in the net around a layer
WORK = 100e9  # multiply-adds that a check of a net may take, about


@dataclass(frozen=True, eq=False)
class Subject:
    """``net`` (float64) is checked with ``inputs``, by those of ``by`` (None: all); ``most`` numbers of a blob.

    ``is_layer``: the net was made around a single layer.
    """

    title: str
    net: Net
    inputs: Mapping[str, Input]
    by: Sequence[str] | None
    most: int
    is_layer: bool = False

    def named_in_errors(self) -> AbstractContextManager[None]:
        """A context in which errors name what is checked, and not the net that was made around a layer."""
        return _named_in_errors(self.title) if self.is_layer else nullcontext()


@contextmanager
def _named_in_errors(title: str) -> Iterator[None]:
    try:
        yield
    except MinicaffeError as error:
        raise type(error)(f"check-gradients {title}: {MADE_UP.sub('', str(error))}") from error


def subject_of(
    text: str,
    shapes: Sequence[Shape] = (),
    phase: str | None = None,
    level: int = 0,
    stages: Iterable[str] = (),
) -> Subject:
    """What ``text`` is: the name of a layer type, the text of a layer ("type: ReLU, …"), or the file of a net.

    ``shapes`` are those of a layer's bottoms, in place of an example's. Raises SpecError for what has no gradient,
    and for what is none of the three.
    """
    if text in layer_classes:
        return _type(text, shapes)
    is_there = bool(text) and Path(text).exists()
    if not is_there and ":" in text:
        return _layer(text, shapes)
    if not is_there and not any(mark in text for mark in "./\\"):
        raise SpecError(
            f"check-gradients '{text}': neither a file nor a layer type{nearest(text, layer_classes)}; "
            "'minicaffe summary --types' lists the types, and --import FILE.py registers one of yours"
        )
    if shapes:
        raise SpecError(f"check-gradients {text}: --shape is for layers; the spec of a net has its shapes")
    return _net(text, phase, level, list(stages))


# -- layers --------------------------------------------------------------------------------------------------


def _type(name: str, shapes: Sequence[Shape]) -> Subject:
    cls = layer_classes[name]
    if name == "Python":
        raise SpecError(
            "check-gradients Python: the class is yours; give the layer as text, 'type: Python, …'"
        )
    if name not in EXAMPLES and (not cls.bottoms[0] and cls.bottoms[1] == 0):
        raise SpecError(f"check-gradients {name}: a layer without bottoms has no gradient")
    if cls.backward is Layer.backward:
        raise SpecError(f"check-gradients {name}: this layer type has no gradient")
    text = EXAMPLES[name].text if name in EXAMPLES else f"type: {name}"
    return _made(name, text, name, shapes)


def _layer(text: str, shapes: Sequence[Shape]) -> Subject:
    node = parse_yaml(text if "\n" in text.strip() else f"{{{text}}}", "check-gradients")
    fields = {key.value: value.value for key, value in node.value}
    if not isinstance(fields.get("type"), str):
        raise SpecError(
            f"check-gradients '{text}': no file of this name, and as the text of a layer it has no type"
        )
    return _made(fields["type"], text, fields["type"], shapes)


def _made(title: str, text: str, type_name: str, shapes: Sequence[Shape]) -> Subject:
    """The net of one layer, with the bottoms of an example of its type unless ``shapes`` say otherwise."""
    inputs, by = _bottoms(type_name, shapes)
    shapes = [np.shape(x) if not isinstance(x, tuple) else x for x in inputs]
    with _named_in_errors(title):
        spec = parse_net(layer_net(text, shapes), "check-gradients")
        net = Net(spec, phase="train", dtype=np.float64, seed=SEED)
    _move_params(net)
    arrays = dict(zip(net.inputs, inputs, strict=True))
    return Subject(title, net, arrays, by, _bounded(LAYER_MOST, net), is_layer=True)


def _bottoms(type_name: str, shapes: Sequence[Shape]) -> tuple[Sequence[Input], Sequence[str] | None]:
    """Bottoms for a layer of a type, and which of them are checked."""
    example = EXAMPLES.get(type_name)
    if example is not None and not shapes:
        return example.inputs, example.by
    cls = layer_classes.get(type_name)
    if cls is not None and 0 < len(shapes) < cls.bottoms[0]:
        raise SpecError(
            f"check-gradients {type_name}: takes {cls.bottoms[0]} bottoms, and --shape is there for {len(shapes)}; "
            "give it once for each"
        )
    if example is not None and shapes and type_name not in COMPARING:
        pairs = zip_longest(example.inputs[: len(shapes)], shapes)
        names = [f"x{i}" for i in range(len(shapes))]
        by = None if example.by is None else [name for name in example.by if name in names]
        return [_repeated(given, shape) for given, shape in pairs], by
    rng = np.random.default_rng(SEED)
    if cls is not None and cls.is_loss:
        scores, *others = shapes or [(4, 3), (4,)]
        is_of_classes = type_name in COMPARING or type_name not in EXAMPLES
        labels = [
            rng.integers(0, scores[1], shape) if is_of_classes and len(scores) > 1 else shape
            for shape in others[:1]
        ]
        return [scores, *labels, *others[1:]], None
    count = max(1, cls.bottoms[0]) if cls is not None else 1
    return list(shapes) or [IMAGE] * count, None


def _repeated(example: Input | None, shape: Shape) -> Input:
    """The numbers of an example along each axis as often as they fit ``shape``; ``shape`` where it has none such.

    So labels stay labels, and the rows of boxes rows.
    """
    if (
        example is None
        or isinstance(example, tuple)
        or np.ndim(example) != len(shape)
        or not np.size(example)
    ):
        return shape
    array = np.asarray(example)
    places = [np.arange(size) % old for size, old in zip(shape, array.shape, strict=True)]
    repeated: NDArray[np.float64] = array[np.ix_(*places)]
    return repeated


# -- nets ----------------------------------------------------------------------------------------------------


def _net(path: str, phase: str | None, level: int, stages: list[str]) -> Subject:
    spec = open_net(path)
    phase = phase or phase_for(spec, level, stages)[0]
    with Net(spec, phase=phase, level=level, stages=stages, seed=SEED) as given:
        drawn = _drawn(given)
        shapes = {name: given.blobs[name].shape for name in given.inputs} | {
            name: array.shape for name, array in drawn.items()
        }
        lean = _without_data(given)
    batch = max((shape[0] for shape in shapes.values() if len(shape) > 1), default=1)
    for images in dict.fromkeys((min(FEW, batch), batch)):
        sizes = {n: (images, *s[1:]) if s and s[0] == batch else s for n, s in shapes.items()}
        try:
            net = _with_shapes(lean, sizes, phase, level, stages)
            break
        except MinicaffeError:  # a layer that counts on the whole batch
            if images == batch:
                raise
    _move_params(net)
    work = max(1, count_multiply_adds(net) * images)
    blobs = max(1, len(net.learnable) + len(net.inputs))
    most = int(max(LEAST, min(NET_MOST, WORK / (2 * work * blobs))))
    title = f"{net.name or path} ({phase})"
    return Subject(title, net, _numbers(net, drawn, sizes), None, _bounded(most, net))


def _bounded(most: int, net: Net) -> int:
    return most if net.setting.device.kind == "cpu" else min(most, MOST_ON_GPU)


def _drawn(net: Net) -> dict[str, NDArray[np.float64]]:
    """The first batch of the data layers, by the name of the blob."""
    arrays: dict[str, NDArray[np.float64]] = {}
    for i, layer in enumerate(net.layers):
        if layer.spec.brings_data and layer.type != "Input":
            net.run_forward(i, i)
            arrays.update((top, np.array(to_host(net.blobs[top].data), np.float64)) for top in layer.spec.top)
    return arrays


def _without_data(net: Net) -> NetSpec:
    """The spec with an Input in place of each data layer, and with gradients for all inputs."""
    spec = copy.copy(net.spec)
    tops = {layer.name: layer.spec.top for layer in net.layers}
    chosen = [
        _input(layer.name, tops[layer.name], net) if layer.brings_data and layer.type != "Input" else layer
        for layer in net.spec.layers_for(net.state)
    ]
    spec.layer, spec.layers, spec.force_backward = chosen, [], True
    return spec


def _input(name: str, tops: Sequence[str], net: Net) -> LayerSpec:
    made = make_layer_spec("Input", name=name, top=list(tops))
    made.message(InputParam).shape = [BlobShape(dim=list(net.blobs[top].shape)) for top in tops]
    return made


def _with_shapes(
    spec: NetSpec, shapes: Mapping[str, Shape], phase: str, level: int, stages: list[str]
) -> Net:
    """The net in float64, its inputs reshaped. Raises MinicaffeError where they do not fit its layers."""
    net = Net(spec, phase=phase, level=level, stages=stages, dtype=np.float64, seed=SEED)
    for name in net.inputs:
        net.blobs[name].reshape(*shapes[name])
    net.reshape()
    return net


def _move_params(net: Net) -> None:
    """Add random numbers to parameters that learn.

    Many fillers are constants, which hide faults, or make numbers as small as the step of the differences.
    """
    rng = np.random.default_rng(SEED)
    for param in net.learnable:
        if param.lr_mult:
            data = np.array(to_host(param.blob.data))
            fan_in = max(1, data.size // len(data)) if data.ndim > 1 else 100
            usual, own = fan_in**-0.5, float(data.std())
            size = 0.1 * own if own > 0.3 * usual else usual
            param.blob.data[...] = net.setting.device.put(data + size * rng.standard_normal(data.shape))


def _numbers(
    net: Net, drawn: Mapping[str, NDArray[np.float64]], shapes: Mapping[str, Shape]
) -> dict[str, NDArray[np.float64]]:
    """What the inputs get: random numbers for pictures; labels of the data, or else whole numbers that fit."""
    rng = np.random.default_rng(SEED)
    numbers: dict[str, NDArray[np.float64]] = {}
    own = {name: array[: shapes[name][0]] if array.ndim else array for name, array in drawn.items()}
    for name in net.inputs:
        is_picture = name not in own or len(shapes[name]) > 1
        numbers[name] = rng.standard_normal(shapes[name]) if is_picture else own[name]
    for step in net.steps:
        for i, below in enumerate(step.layer.spec.bottom):
            name, _ = made_by(net, below)
            if name in numbers:
                if reads_truths(step.layer, i):
                    numbers[name] = _truths(step.layer, step.bottom[0].num, shapes[name], own.get(name), rng)
                    continue
                suited = _suited(step.layer, i, step.bottom[0].shape, numbers[name], rng)
                numbers[name] = own.get(name, suited) if suited is not numbers[name] else suited
    return numbers


def _truths(
    layer: Layer, images: int, shape: Shape, own: NDArray[np.float64] | None, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Boxes for the loss of a detector: of the data those of the images that are left."""
    if own is None:
        return make_truths(layer, images, shape, rng)
    return truths_of(images, own) if layer.type == "MultiBoxLoss" else own


def _suited(
    layer: Layer, bottom: int, first: Shape, numbers: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Numbers for a bottom of a layer: as they are, unless the layer reads them as labels or the like."""
    if layer.type in COMPARING and bottom == 1:
        classes = first[getattr(layer, "axis", 1)] if len(first) > 1 else 1
        return rng.integers(0, classes, numbers.shape).astype(np.float64)
    if layer.type == "Embed":
        return rng.integers(0, layer.spec.message(EmbedParam).input_dim, numbers.shape).astype(np.float64)
    if (layer.type in ("RNN", "LSTM") and bottom == 1) or (
        layer.type in ("LSTMUnit", "ContrastiveLoss") and bottom == 2
    ):
        return rng.integers(0, 2, numbers.shape).astype(np.float64)
    if layer.type == "SigmoidCrossEntropyLoss" and bottom == 1:
        return rng.random(numbers.shape)
    return numbers
