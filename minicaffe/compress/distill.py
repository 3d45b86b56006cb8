"""Distillation: a net that was made cheaper learns to answer as the net that it was made of. No labels are read.

Both see the same pictures, shifted and mirrored in the same way (Beyer et al. 2021, arXiv 2106.05237). With the
student's answers s and the teacher's t,

    scores of classes, at N places    loss = T² · KL(p(t) ‖ p(s)) / N    ds = T · (p(s) − p(t)) / N
    n other numbers, of variance v    loss = Σ (s − t)² / 2vn            ds = (s − t) / vn

with p(x) = softmax(x / T); places are images, or the pixels of a net that answers for each. v is that of the
teacher's numbers over the first few batches together: within one batch, which may be of one number, there may be
none. Hinton, Vinyals and Dean 2015 (arXiv 1503.02531); for numbers Ba and Caruana 2014 (arXiv 1312.6184).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from minicaffe.compress.batches import Batch, draw, feed
from minicaffe.compress.workbench import shuffled
from minicaffe.core.blob import Blob
from minicaffe.core.graph import with_defaults
from minicaffe.core.layer import layer_classes
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of
from minicaffe.errors import DataError, SpecError, TrainingError
from minicaffe.layers.infogain_loss import InfogainLossParam
from minicaffe.layers.softmax import SoftmaxParam
from minicaffe.ops.softmax import divergence, softmax
from minicaffe.spec.fields import BlobShape
from minicaffe.spec.net import InputParam, LayerSpec, NetSpec, make_layer_spec, make_state
from minicaffe.spec.solver import parse_solver
from minicaffe.train.console import Shown, own_lines
from minicaffe.train.lr_policy import learning_rate
from minicaffe.train.progress import Progress
from minicaffe.train.solver import Solver

logger = logging.getLogger("minicaffe")
TEMPERATURE = 2.0  # T: of 1, 2 and 4 none is the best for all nets
CHECKED = 5  # batches that tell whether the student has become better
TIMED = 3  # steps that are timed, after as many that are not: those find new memory
AS_AT_TEST = ("BatchNorm", "Dropout")  # with the teacher's statistics, and without noise
WARM_UP = 0.1  # the share of the iterations in which the rate rises: Adam's first steps go anywhere
SMALLEST_SIZE = 1e-3  # of a parameter: one that is zero is to learn too
SCHEDULE = """
net: the student
type: Adam
base_lr: 0.01  # the share of a parameter's size that a step changes
momentum: 0.9
lr_policy: poly
power: 1
max_iter: 1
"""
ROUNDING = 1e-6  # of a mean: numbers that vary by less are the same
Shapes = Mapping[str, Sequence[int]]
Part = tuple[int, float, float]  # of some numbers: how many they are, their mean and their variance


@dataclass(frozen=True)
class Answer:
    """A blob in which the student is to have what the teacher has.

    ``axis`` is that of the classes, if the numbers are scores of classes, and ``made_into`` the layer that makes a
    loss or probabilities of these; of other numbers ``variance`` is the teacher's.
    """

    blob: str
    axis: int | None = None
    weight: float = 1.0
    made_into: str | None = None
    variance: float = 1.0

    def compare(self, student: Blob, teacher: Blob) -> Array:
        """Write the gradient of the loss into the student's diff, and return the loss."""
        s, t, ds = student.stored, teacher.stored, student.stored_diff
        if self.axis is None:
            return self._compare_numbers(s, t, ds)
        axis = student.stored_axis(self.axis % len(student.shape))
        return self._compare_scores(*(module_of(s).moveaxis(x, axis, 0) for x in (s, t, ds)))

    def _compare_scores(self, s: Array, t: Array, ds: Array) -> Array:
        xp, scale = module_of(s), self.weight * TEMPERATURE / math.prod(s.shape[1:])
        found, wanted = xp.empty(s.shape, s.dtype), xp.empty(s.shape, s.dtype)
        softmax(s / TEMPERATURE, out=found)
        softmax(t / TEMPERATURE, out=wanted)
        xp.multiply(found - wanted, scale, out=ds)
        loss: Array = divergence(wanted, found).sum() * (scale * TEMPERATURE)
        return loss

    def _compare_numbers(self, s: Array, t: Array, ds: Array) -> Array:
        missed, scale = s - t, self.weight / (self.variance * t.size)
        module_of(s).multiply(missed, scale, out=ds)
        loss: Array = (missed * missed).sum() * (scale / 2)
        return loss


def distill(student: Net, teacher: Net, batches: Iterable[Batch], minutes: float) -> float:
    """Train a student for some minutes, and return its loss afterwards. See ``Lesson``, whose errors it raises."""
    with closing(Lesson(student, teacher, batches)) as lesson:
        return lesson.learn(lesson.iterations_in(60 * minutes))


class Lesson:
    """A student, whose parameters are trained, and its teacher, on the same batches.

    Both are nets with weights, whose answers have the same names: what their losses are of, or else their outputs.
    ``batches`` have the inputs of both, by name, in Caffe's shapes: a list, or an iterator without end
    (``own_batches``). The rates of ``SCHEDULE`` are shares of the size that a parameter has at the start, its root
    mean square (Shazeer and Stern 2018, arXiv 1804.04235): one rate fits weights of any scale, and factors however
    their scale is divided between the two.

    BatchNorm and Dropout work as at TEST: few batches, or small ones, do not spoil the statistics. Raises SpecError
    where answers cannot be compared or learned, and DataError where there are no batches.
    """

    def __init__(self, student: Net, teacher: Net, batches: Iterable[Batch]) -> None:
        self.batches = _endless(batches)
        self.checked = list(islice(self.batches, CHECKED))
        inputs = {name: array.shape for name, array in self.checked[0].items()}
        self.answers = answers_of(student)
        self.teacher, self.tested = (
            Net(answering(net, "test", self.answers, inputs), phase="test", share_memory=True)
            for net in (teacher, student)
        )
        self.teacher.share_with(teacher)
        self.tested.share_with(student)
        self.answers = self._with_variances(self.answers)
        spec = answering(student, "train", self.answers, inputs)
        self.solver = Solver(parse_solver(SCHEDULE), net=spec)
        self.student = self.solver.net
        self.student.share_with(student)
        for param in self.student.learnable:
            param.lr_mult *= max(SMALLEST_SIZE, float((param.blob.values**2).mean()) ** 0.5)
        for answer in self.answers:
            if answer.blob not in self.student.gradient_starts:
                raise SpecError(
                    f"{student.spec.where.file}: '{answer.blob}' is no output that has a gradient; "
                    "leave out the layers after the scores"
                )

    def iterations_in(self, seconds: float) -> int:
        """How many iterations take that long, at least 1: found by a few that change no parameter."""
        start = time.perf_counter()
        for batch in islice(self.batches, TIMED):
            self._find_gradients(batch)
        middle = time.perf_counter()
        for batch in islice(self.batches, TIMED):
            float(self._find_gradients(batch))  # waits for a GPU
        end = time.perf_counter()
        return max(1, int((seconds - (end - start)) * TIMED / (end - middle)))

    def learn(self, iterations: int) -> float:
        """Train the student; return its loss afterwards, over some of the batches.

        If the loss was lower before, the student stays what it was. Control-C ends the training, and keeps what was
        learned. Raises TrainingError if the loss becomes nan or infinite.
        """
        before, kept = self.loss(), [blob.data.copy() for blob in self._parameters()]
        try:
            self._train(iterations)
        except KeyboardInterrupt:
            logger.warning("Interrupted at iteration %d: what was learned is kept", self.solver.iter)
        after = self.loss()
        logger.info("Loss against the teacher, of training images: %.4g; it was %.4g", after, before)
        if after <= before:
            return after
        for blob, array in zip(self._parameters(), kept, strict=True):
            blob.data[...] = array
        if not math.isfinite(after):
            raise TrainingError(
                f"iteration {self.solver.iter}: the loss is {after}; lower base_lr ({self.solver.spec.base_lr:g})"
            )
        logger.warning("Nothing was learned, so the weights stay as they were; take more iterations")
        return before

    def loss(self) -> float:
        """The mean loss in phase TEST over the batches that the lesson began with."""
        return sum(float(self._compare(self.tested, batch)) for batch in self.checked) / len(self.checked)

    def close(self) -> None:
        """Close the solver."""
        self.solver.close()

    def _with_variances(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers with the variances of the teacher's numbers, over the batches that the lesson began with."""
        parts: dict[str, list[Part]] = {answer.blob: [] for answer in answers if answer.axis is None}
        for batch in self.checked if parts else ():
            with self.teacher.setting.device.entered():
                feed(self.teacher, batch)
                self.teacher.run_forward()
                for name, found in parts.items():
                    t = self.teacher.blobs[name].stored.astype(np.float64)
                    found.append((t.size, float(t.mean()), float(t.var())))
        return [replace(x, variance=_variance(parts[x.blob])) if x.blob in parts else x for x in answers]

    def _parameters(self) -> list[Blob]:
        return [blob for blobs in self.student.params.values() for blob in blobs]

    def _train(self, iterations: int) -> None:
        solver, warm = self.solver, max(1, int(WARM_UP * iterations))
        solver.iter, solver.spec.max_iter = 0, iterations
        losses, start = list[Array](), time.perf_counter()
        while solver.iter < iterations:
            losses.append(self._find_gradients(next(self.batches)))
            rate = learning_rate(solver.spec, solver.iter) * min(1, (solver.iter + 1) / warm)
            solver.apply_update(rate)
            seconds = time.perf_counter() - start
            if seconds >= Progress.EVERY or solver.iter == iterations:
                loss, speed = float(sum(losses[1:], losses[0])) / len(losses), len(losses) / seconds
                for line in own_lines(Shown(solver.iter, loss, rate, speed, iterations - solver.iter, 0, [])):
                    logger.info(line)
                losses, start = [], time.perf_counter()

    def _find_gradients(self, batch: Batch) -> Array:
        """Leave a batch's gradients in the student's parameters, and return the loss."""
        self.student.clear_param_diffs()
        loss = self._compare(self.student, batch)
        self.student.run_backward()
        return loss

    def _compare(self, net: Net, batch: Batch) -> Array:
        """Run a net and the teacher on a batch; write the gradients of its answers, and return the loss."""
        with net.setting.device.entered():
            for one in (self.teacher, net):
                feed(one, batch)
                one.run_forward()
            losses = [x.compare(net.blobs[x.blob], self.teacher.blobs[x.blob]) for x in self.answers]
            total: Array = sum(losses[1:], losses[0])
            return total


def _variance(parts: Sequence[Part]) -> float:
    """The variance of all numbers; where they are all the same, their square, or 1."""
    sizes, means, variances = np.array(parts).T
    mean = np.average(means, weights=sizes)
    variance = float(np.average(variances + (means - mean) ** 2, weights=sizes))
    return variance if variance > ROUNDING**2 * mean**2 else float(mean**2) or 1.0


def own_batches(spec: NetSpec) -> Generator[Batch, None, None]:
    """What a net's own data layers give in phase TRAIN, shuffled, without end. Raises DataError if it has none."""
    spec = shuffled(spec)
    source = NetSpec(name=spec.name, layer=[x for x in spec.layer or spec.layers if x.brings_data])
    source.where = spec.where
    with closing(Net(source, phase="train", seed=0)) as net:
        while True:
            yield from draw(net, 1)


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    """A list again and again; an iterator as long as it lasts."""
    while True:
        count = 0
        for batch in batches:
            count += 1
            yield batch
        if not count:
            raise DataError("no batch is left to learn from; give a list, or an iterator without end")


def answers_of(net: Net) -> list[Answer]:
    """What a net answers in phase TEST: what its losses are of, or without losses its outputs.

    Where these are made by a Softmax, it is the scores before it.
    """
    layers = _layers(net, "test")
    makers = {name: layer for layer in layers for name in layer.top}
    losses = [layer for layer in layers if any(layer.loss_weight)]
    if losses:
        return [_answer(x, makers[x.bottom[0]], x.bottom[0]) for x in losses]
    read = {name for layer in layers for name in layer.bottom if name not in layer.top}
    return [_answer(x, x, name) for name, x in makers.items() if name not in read and not _is_input(x)]


def _answer(end: LayerSpec, maker: LayerSpec, blob: str) -> Answer:
    """What is learned of a blob that ``maker`` made; ``end`` is the loss that reads it, or ``maker`` again."""
    weight = end.loss_weight[0] or 1.0
    for layer in (end, maker):
        axis = _class_axis(layer)
        if axis is not None:
            return Answer(layer.bottom[0], axis, weight, layer.name)
    return Answer(blob, weight=weight)


def _class_axis(layer: LayerSpec) -> int | None:
    """The axis of the classes, if the layer takes the softmax of their scores."""
    param = layer.find_message(SoftmaxParam) or layer.find_message(InfogainLossParam)
    return None if param is None else param.axis


def answering(net: Net, phase: str, answers: Sequence[Answer], inputs: Shapes) -> NetSpec:
    """The part of a net that its answers need, with inputs of these shapes in place of its data layers.

    In phase TRAIN, layers ``AS_AT_TEST`` do what they do at TEST. Raises SpecError for a blob that is not there.
    """
    needed, kept = {answer.blob for answer in answers}, list[LayerSpec]()
    after = [answer.made_into for answer in answers_of(net)]
    for layer in reversed(_layers(net, phase)):
        if needed & set(layer.top) and layer.name not in after and not _is_input(layer):
            needed |= set(layer.bottom)
            kept.insert(0, layer)
    made, read = set[str](), dict[str, None]()
    for layer in kept:
        read |= dict.fromkeys(name for name in layer.bottom if name not in made)
        made |= set(layer.top)
        layer.loss_weight, layer.include, layer.exclude = [0.0] * len(layer.top), [], []
        if layer.type in AS_AT_TEST:
            layer.phase = "TEST"
    missing = [x.blob for x in answers if x.blob not in made] + [name for name in read if name not in inputs]
    if missing:
        raise SpecError(
            f"{net.spec.where.file}: no '{missing[0]}' in the net or the batches; "
            "give student and teacher the same names, and batches all their inputs"
        )
    spec = NetSpec(name=net.name, layer=[*(_input(name, inputs[name]) for name in read), *kept])
    spec.where = net.spec.where
    return spec


def _is_input(layer: LayerSpec) -> bool:
    return layer.brings_data or layer.type == "Input"


def _input(name: str, shape: Sequence[int]) -> LayerSpec:
    layer = make_layer_spec("Input", name=name, top=[name])
    layer.message(InputParam).shape = [BlobShape(dim=list(shape))]
    return layer


def _layers(net: Net, phase: str) -> list[LayerSpec]:
    """Copies of a net's layers in a phase, with all their bottoms and tops."""
    state = make_state(phase, net.state.level, net.state.stage)
    return with_defaults(net.spec.layers_in(state), layer_classes)
