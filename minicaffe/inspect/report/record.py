"""Recording: everything that a net computes for a few pictures, forward and backward, layer by layer.

Each picture runs alone. After each layer its tops are copied, so that a stage that a later layer overwrites in
place is seen too; backward, the gradient of a stage is copied before the layer that made it runs. It knows nothing
of HTML.
"""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device.array import synchronize, to_host
from minicaffe.errors import DataError, MinicaffeError
from minicaffe.inspect.report.pictures import Picture, Pictures, has_data
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")
IN_MEMORY = 256 << 20  # bytes of recorded arrays; what is more lies in a temporary file
MOST = 3 << 29  # bytes of recorded arrays: more pictures are left out
SMALL = 4 << 20  # numbers: gradients of parameters are kept for each picture up to here, else for the first


@dataclass(eq=False)
class Stage:
    """What one layer wrote into one blob: ``values`` and ``diff``, float32 (n, …) in Caffe's shapes.

    There are n pictures. ``key`` is the blob's name, or "blob@layer" where several layers write into the blob;
    ``diff`` is None where no gradient arrives.
    """

    key: str
    blob: str
    layer: str
    values: np.ndarray
    diff: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape for one picture."""
        return self.values.shape[1:]


@dataclass(eq=False)
class RecordedLayer:
    """A layer: its name, type and number in the net, the keys of its bottoms and tops, and its parameters.

    ``param_diffs`` are (n, …) for all pictures or (1, …) for the first; none where no gradient arrives.
    """

    name: str
    type: str
    step: int
    layer: Layer
    bottoms: list[str]
    tops: list[str]
    params: list[np.ndarray]
    param_diffs: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Recording:
    """A net's stages and layers for n pictures.

    ``net`` is a copy in phase test, which views may run (``feed`` writes a picture into it). ``losses`` has one for
    each picture, ``loss_name`` says of what; "" if there is no gradient, and ``no_gradient`` why. ``answer`` is the
    key of the scores, with ``softmax`` if these are still to become probabilities; None for a net without classes.
    """

    net: Net
    input: str
    pictures: Pictures
    classes: tuple[str, ...]
    stages: dict[str, Stage]
    layers: list[RecordedLayer]
    losses: list[float]
    loss_name: str
    no_gradient: str
    answer: str | None
    softmax: bool

    @property
    def images(self) -> list[Picture]:
        """The pictures."""
        return self.pictures.items

    @property
    def input_stage(self) -> str:
        """The key of the pictures: the blob's name, unless a later layer overwrites them in place."""
        return next(stage.key for stage in self.stages.values() if stage.blob == self.input)

    @property
    def scores(self) -> np.ndarray | None:
        """The net's probabilities (or scores, if nothing makes probabilities of them), (n, classes)."""
        if self.answer is None:
            return None
        values = self.stages[self.answer].values
        scores = values.reshape(len(values), -1)
        return softmax(scores) if self.softmax else scores

    def first(self, count: int) -> Recording:
        """The same of the first ``count`` pictures alone."""
        stages = {
            key: replace(
                stage, values=stage.values[:count], diff=None if stage.diff is None else stage.diff[:count]
            )
            for key, stage in self.stages.items()
        }
        layers = [replace(x, param_diffs=[diff[:count] for diff in x.param_diffs]) for x in self.layers]
        pictures = replace(self.pictures, items=self.pictures.items[:count])
        return replace(self, pictures=pictures, stages=stages, layers=layers, losses=self.losses[:count])

    def layer(self, name: str) -> RecordedLayer:
        """The layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)

    def milliseconds(self, passes: int) -> list[float]:
        """The time of each layer's forward for one picture: the least of ``passes``, and of one to warm up.

        Not the median: what takes a layer's core away for a moment takes as long as the whole of a small net.
        """
        seconds: list[list[float]] = [[] for _ in self.layers]
        feed(self.net, self.images[0])
        for _ in range(passes + 1):
            for i in running(self.net):
                start = time.perf_counter()
                self.net.run_forward(i, i)
                synchronize()
                seconds[i].append(time.perf_counter() - start)
        return [1e3 * min(each, default=0.0) for each in seconds]

    def feed(self, index: int) -> None:
        """Write a picture into the net's input blobs, and run the net forward."""
        feed(self.net, self.images[index])
        for i in running(self.net):
            self.net.run_forward(i, i)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of scores."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def copy_of(net: Net) -> Net:
    """A net in phase test with the weights of ``net``, whose gradients reach its inputs; ``net`` stays as it is."""
    spec = copy.copy(net.spec)
    spec.force_backward = True
    twin = Net(
        spec,
        phase="test",
        level=net.state.level,
        stages=[name for name in net.state.stage if name not in spec.state.stage],
        dtype=net.setting.dtype,
        seed=0,
        class_names=net.class_names,
        trusted=net.trusted,
    )
    for layer in twin.layers:
        theirs = net.params.get(layer.name, [])
        if [blob.shape for blob in theirs] == [blob.shape for blob in layer.blobs]:
            for blob, its in zip(layer.blobs, theirs, strict=True):
                blob.data[...] = its.data
        layer.parameters_changed()
    if net.preparation is not None and twin.preparation is None:
        twin.preparation = net.preparation
    return twin


def running(net: Net) -> Iterator[int]:
    """The numbers of the layers that compute something: all but those that bring data."""
    return (i for i, layer in enumerate(net.layers) if not layer.spec.brings_data)


def feed(net: Net, picture: Picture) -> None:
    """Write a picture into the input blobs of a net."""
    for name, array in picture.arrays.items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = net.setting.device.put(array, net.setting.dtype)


def record(
    net: Net, pictures: Pictures, classes: Sequence[str] = (), classes_from: str = "class_names"
) -> Recording:
    """Run a net, which is ours to run (``copy_of``), on pictures. Raises what its layers raise.

    Raises DataError where ``classes`` are not as many names as the net has classes, which names ``classes_from``,
    or where a label is none of these.
    """
    return _Recorder(net, pictures, tuple(classes), classes_from).run()


class _Recorder:
    def __init__(self, net: Net, pictures: Pictures, given: tuple[str, ...], given_by: str) -> None:
        self.net, self.pictures = net, pictures
        self.given, self.given_by, self.classes = given, given_by, given or pictures.classes
        self.layers = _layers(net)
        self.stages: dict[str, Stage] = {}
        self.losses: list[float] = []
        self.loss_name = self.no_gradient = ""
        self.started: str | None = None  # where the gradient is written, if there is no loss

    def run(self) -> Recording:
        net, items = self.net, self.pictures.items
        feed(net, items[0])
        for i in running(net):  # for the shapes; the first pass is also what others are compared with
            net.run_forward(i, i)
        self._choose_answer()
        self._check_classes()
        self.count = self._affordable(len(items))
        self.losses = [math.nan] * self.count
        self.new_array = _store(self._bytes_of_one() * self.count)
        progress = Progress(self.count)
        for number in reversed(range(self.count)):  # the first one last: its gradients stay in the net
            picture = items[number]
            self._forward(number, picture)
            self._backward(number, picture)
            progress.say(f"{self.count - number} of {self.count} images: forward and backward")
        shown = replace(self.pictures, items=items[: self.count])
        return Recording(
            net, self.pictures.input, shown, self.classes, self.stages, self.layers, self.losses,
            self.loss_name, self.no_gradient, self.answer, self.softmax,
        )  # fmt: skip

    def _bytes_of_one(self) -> int:
        return 8 * sum(
            blob.count for step in self.net.steps if step.layer.type != "Split" for blob in step.top
        )

    def _affordable(self, count: int) -> int:
        """How many of ``count`` pictures are recorded, so that the arrays take no more than MOST bytes."""
        fitting = max(1, min(count, MOST // max(1, self._bytes_of_one())))
        if fitting < count:
            size = f"{self._bytes_of_one() / 1e6:,.0f} MB"
            logger.info(
                "One picture's blobs and gradients are %s: %d of %d are recorded", size, fitting, count
            )
        return fitting

    # -- forward -----------------------------------------------------------------------------------------

    def _forward(self, number: int, picture: Picture) -> None:
        feed(self.net, picture)
        for i, step in enumerate(self.net.steps):
            if not step.layer.spec.brings_data:
                self.net.run_forward(i, i)
            layer = self.layers[i]
            for key, name, blob in zip(layer.tops, step.layer.spec.top, step.top, strict=True):
                if layer.type != "Split":
                    self._keep(key, name, layer.name, number, to_host(blob.data))
                elif key not in self.stages:  # its tops are its bottom
                    self.stages[key] = Stage(key, name, layer.name, self.stages[layer.bottoms[0]].values)

    def _keep(self, key: str, name: str, layer: str, number: int, values: np.ndarray) -> None:
        shape = values.shape[1:] if values.ndim and len(values) == 1 else values.shape
        if key not in self.stages:
            self.stages[key] = Stage(key, name, layer, self.new_array((self.count, *shape)))
        stage = self.stages[key]
        if stage.shape != shape:  # as a detector's boxes
            stage.values[number] = np.nan
            if len(stage.shape) == len(shape):
                fitting = tuple(slice(min(a, b)) for a, b in zip(stage.shape, shape, strict=True))
                stage.values[number][fitting] = values.reshape(shape)[fitting]
        else:
            stage.values[number] = values.reshape(shape)

    # -- backward ----------------------------------------------------------------------------------------

    def _backward(self, number: int, picture: Picture) -> None:
        if self.no_gradient:
            return
        try:
            self._start(number, picture)
            if self.no_gradient:
                return
            self.net.clear_param_diffs()
            self.net.run_backward(len(self.layers))  # runs nothing, but finds out what will be reached
            for i in reversed(range(len(self.layers))):
                self._backward_layer(i, number)
        except MinicaffeError as error:  # a layer without a gradient, or one that others overwrite
            self.no_gradient, self.loss_name, self.losses = str(error), "", []
            for stage in self.stages.values():
                stage.diff = None
            for layer in self.layers:
                layer.param_diffs = []

    def _start(self, number: int, picture: Picture) -> None:
        """Note the loss of a picture, and write the gradient where backward starts."""
        net = self.net
        if any(any(layer.spec.loss_weight) for layer in net.layers):
            self.loss_name = "loss"
            self.losses[number] = float(to_host(net.loss()))
            return
        if self.answer is None:
            self.no_gradient = (
                "the net has neither a loss nor classes, so there is nothing to take the gradient of"
            )
            return
        self.started = self.answer
        name = self.stages[self.answer].blob
        if name not in net.gradient_starts:
            net.gradient_starts.append(name)
        scores = self.stages[self.answer].values[number].ravel()
        right = picture.label if picture.label is not None and picture.label < scores.size else None
        chosen = int(scores.argmax()) if right is None else right
        diff = np.zeros(scores.shape, np.float32)
        if self.probabilities:
            p = max(float(scores[chosen]), 1e-30)
            self.loss_name = f"−log p of '{name}'"
            self.losses[number] = -math.log(p)
            diff[chosen] = -1 / p
        else:
            self.loss_name = f"−score of '{name}'"
            self.losses[number] = -float(scores[chosen])
            diff[chosen] = -1
        blob = net.blobs[name]
        blob.diff[...] = net.setting.device.put(diff.reshape(blob.shape), net.setting.dtype)

    def _backward_layer(self, i: int, number: int) -> None:
        """Keep the gradients of a layer's tops, which are whole now, and run its backward."""
        step, layer = self.net.steps[i], self.layers[i]
        spec = step.layer.spec
        for key, name, weight, blob in zip(layer.tops, spec.top, spec.loss_weight, step.top, strict=True):
            if weight:
                self._keep_diff(key, number, np.full(self.stages[key].shape, weight, np.float32))
            elif name in self.net.reached or key == self.started:
                self._keep_diff(key, number, to_host(blob.diff))
        if step.is_active:
            self.net.run_backward(i, i)
            self._keep_param_diffs(layer, step, number)

    def _keep_diff(self, key: str, number: int, diff: np.ndarray) -> None:
        stage = self.stages[key]
        if diff.size != math.prod(stage.shape):  # a blob whose size changes from picture to picture
            return
        if stage.diff is None:
            stage.diff = self.new_array((self.count, *stage.shape))
        stage.diff[number] = diff.reshape(stage.shape)

    def _keep_param_diffs(self, layer: RecordedLayer, step: Step, number: int) -> None:
        """Copy a layer's gradients, if they are few; else those of the first picture are the net's own."""
        if not any(step.layer.param_propagate_down):
            return
        if sum(param.blob.count for param in self.net.learnable) * self.count > SMALL:
            if number == 0:
                layer.param_diffs = [to_host(blob.diff)[None] for blob in step.layer.blobs]
            return
        if not layer.param_diffs:
            layer.param_diffs = [np.zeros((self.count, *blob.shape), np.float32) for blob in step.layer.blobs]
        for kept, blob in zip(layer.param_diffs, step.layer.blobs, strict=True):
            kept[number] = to_host(blob.diff)

    # -- the answer --------------------------------------------------------------------------------------

    def _choose_answer(self) -> None:
        """Find the scores of classes: what a Softmax makes, what a softmax loss takes, or the one output."""
        self.answer, self.softmax, self.probabilities = None, False, False
        for i in reversed(range(len(self.layers))):
            step, layer = self.net.steps[i], self.layers[i]
            if step.layer.type == "Softmax" and _is_vector(step.top[0].shape):
                self.answer, self.probabilities = layer.tops[0], True
                return
        for i in reversed(range(len(self.layers))):
            step, layer = self.net.steps[i], self.layers[i]
            if step.layer.type == "SoftmaxWithLoss" and _is_vector(step.bottom[0].shape):
                self.answer, self.softmax = source(self.layers, layer.bottoms[0]), True
                return
        has_loss = any(step.layer.is_loss for step in self.net.steps)
        if len(self.net.outputs) == 1 and not has_loss:
            name = self.net.outputs[0]
            maker = max(i for i, step in enumerate(self.net.steps) if name in step.layer.spec.top)
            if _is_vector(self.net.blobs[name].shape) and self.net.steps[maker].layer.type in (
                "InnerProduct", "Convolution", "Pooling", "Sigmoid", "ReLU", "Dropout", "Flatten", "Reshape",
            ):  # fmt: skip
                self.answer = self.layers[maker].tops[self.net.steps[maker].layer.spec.top.index(name)]

    def _check_classes(self) -> None:
        """Raise DataError for labels that somebody gave, or names, that are not those of the net's classes."""
        if self.answer is None:
            return
        maker = next(layer for layer in self.layers if self.answer in layer.tops)
        count = self.net.steps[maker.step].top[maker.tops.index(self.answer)].count
        if self.given and len(self.given) != count:
            raise DataError(f"{self.given_by}: {len(self.given)} names, but the net has {count} classes")
        for picture in self.pictures.items:
            if picture.label is not None and picture.label >= count and not has_data(self.net):
                raise DataError(
                    f"label {picture.label} of {picture.name}: the net has {count} classes, from 0 to {count - 1}"
                )


def source(layers: list[RecordedLayer], key: str) -> str:
    """The stage that a Split copied, or the stage itself."""
    maker = next(layer for layer in layers if key in layer.tops)
    return source(layers, maker.bottoms[0]) if maker.type == "Split" else key


def _is_vector(shape: tuple[int, ...]) -> bool:
    """Whether a blob has a row of at least two numbers for its one picture, and nothing else."""
    return len(shape) >= 2 and shape[0] == 1 and shape[1] >= 2 and math.prod(shape) == shape[1]


def _layers(net: Net) -> list[RecordedLayer]:
    """The layers with the keys of their stages, and with the net's own parameters, which may be large."""
    writers: dict[str, int] = {}
    for layer in net.layers:
        for name in layer.spec.top:
            writers[name] = writers.get(name, 0) + 1
    latest: dict[str, str] = {}
    layers = []
    for number, layer in enumerate(net.layers):
        bottoms = [latest[name] for name in layer.spec.bottom]
        tops = [name if writers[name] == 1 else f"{name}@{layer.name}" for name in layer.spec.top]
        latest.update(zip(layer.spec.top, tops, strict=True))
        params = [np.asarray(to_host(blob.data), np.float32) for blob in layer.blobs]
        layers.append(RecordedLayer(layer.name, layer.type, number, layer, bottoms, tops, params))
    return layers


def _store(size: int) -> Callable[[tuple[int, ...]], np.ndarray]:
    """A function that makes arrays of zeros: in memory, or on disk, if they are ``size`` bytes and that is much."""
    if size <= IN_MEMORY:
        return lambda shape: np.zeros(shape, np.float32)
    file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the last array that lies in it)

    def new(shape: tuple[int, ...]) -> np.ndarray:
        count = math.prod(shape)
        if not count:
            return np.zeros(shape, np.float32)
        start = file.seek(0, 2)
        file.truncate(start + 4 * count + -4 * count % 4096)
        return np.memmap(file, np.float32, "r+", start, shape)

    return new
