"""Ways to score a net's answers: classes, other outputs, or both.

The dense net is the reference, so no labels are needed. If its probabilities p are right, then a net that says
class ĉ where the dense net says c is expected to lose

    mean of p(c) − p(ĉ)

of its accuracy. That is far less noisy than counting right answers: where the dense net was in doubt itself,
another answer costs little. For a net that does not classify it is the error of its worst output, ‖y − ŷ‖ / ‖y‖.

Nets are surer than they should be, and lose more than that: on images that had no part in choosing them, six plans
of two nets lost 1.31 to 1.94 times what was expected (``benchmarks/README.md``, without fine-tuning). ``CAUTION``
is between the least and the mean of these, as a drop that is asked for is an aim and no bound.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from minicaffe.compress.batches import LABELS, Batch
from minicaffe.compress.score import Answers, Figures, Score
from minicaffe.core.layer import Layer, canonical_axis
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of, to_host
from minicaffe.errors import DataError, SpecError, listing
from minicaffe.layers.accuracy import Accuracy, AccuracyParam
from minicaffe.layers.loss import LossParam
from minicaffe.layers.softmax import SoftmaxParam
from minicaffe.ops.softmax import SMALLEST, divergence, softmax
from minicaffe.spec.reader import nearest

logger = logging.getLogger("minicaffe")
DENSE = "\0of the dense net: "  # keys of a batch, as no blob can be called: what the dense net says of it
NOISE = np.geomspace(1e-3, 4, 50)  # sizes of it, beside the scores' own variation
NOISY, NOISY_NUMBERS = 5000, 2_000_000  # predictions that noise is added to, and numbers of these, at most
ROUNDING = 1e-12  # of a mean square
FEW_PREDICTIONS = 30  # do not show how scores vary
CAUTION = 4 / 3  # times what is expected to be lost of the accuracy is reckoned with


class ClassScore:
    """Of a net that classifies: right answers where there are labels, else answers that agree with the dense net's.

    ``blob`` has scores, or probabilities if ``normalized``, with classes along ``axis``. ``labels``: the blob of
    labels, or ``LABELS``; ``accuracy``: the blob of an Accuracy layer, which then counts as it does, ``top_k`` too.
    Predictions whose label is ``ignored`` do not count.
    """

    def __init__(
        self,
        blob: str,
        axis: int,
        normalized: bool,
        labels: str | None = None,
        accuracy: str | None = None,
        top_k: int = 1,
        ignored: int | None = None,
    ) -> None:
        self.blob, self.axis, self.normalized = blob, axis, normalized
        self.top_k, self.ignored = top_k, ignored
        self.labels, self.accuracy = labels, accuracy
        self.is_agreement = labels is None
        self.of_what = " of accuracy" if self.is_agreement else ""
        self.name = "accuracy" if labels else "agreement"
        if accuracy not in (None, "accuracy"):
            self.name = f"accuracy '{accuracy}'"

    @property
    def reads(self) -> list[str]:
        """The scores."""
        return [self.blob]

    def probabilities(self, net: Net) -> Array:
        """Probabilities (C, predictions) of a net that has just run: of the predictions that count."""
        blob = net.blobs[self.blob].data
        xp = module_of(blob)
        scores: Array = xp.moveaxis(blob, self.axis, 0).reshape(blob.shape[self.axis], -1)
        if self.labels and self.ignored is not None:
            scores = scores[:, net.blobs[self.labels].data.ravel() != self.ignored]
        if self.normalized:
            return scores
        probabilities: Array = xp.empty_like(scores)
        softmax(scores, probabilities)
        return probabilities

    def remember(self, net: Net, batch: Batch) -> None:
        """Note the probabilities."""
        batch[DENSE + self.blob] = self.probabilities(net).copy()

    def of(self, net: Net, batch: Batch) -> Figures:
        """The share of right answers; the loss, or the divergence; the mean of p(c) − p(ĉ), and with care."""
        p, p_hat = batch[DENSE + self.blob], self.probabilities(net)
        _check_comparable(net, self.blob, p_hat, p)
        lost = _mean(self._lost(p, p_hat))
        has_loss = any(any(layer.spec.loss_weight) for layer in net.layers)
        loss = float(to_host(net.loss())) if has_loss else _mean(divergence(p, p_hat))
        return Figures(self._right(net, batch, p, p_hat), loss, lost, CAUTION * lost, p.shape[1])

    def _right(self, net: Net, batch: Batch, p: Array, p_hat: Array) -> float:
        """The share of right answers, or of those that are the dense net's."""
        if self.accuracy:
            return float(to_host(net.blobs[self.accuracy].data))
        wanted = p.argmax(axis=0)
        if self.labels:
            wanted = net.blobs[self.labels].data if self.labels in net.blobs else batch[self.labels]
            wanted = net.setting.device.put(wanted).ravel()
        if self.labels and self.ignored is not None:
            wanted = wanted[wanted != self.ignored]
        return _mean(p_hat.argmax(axis=0) == wanted)

    def answers(self, net: Net) -> Answers:
        """Probabilities (C, predictions)."""
        return [np.asarray(to_host(self.probabilities(net)), np.float64)]

    def distance(self, answers: Sequence[Answers], exact: Sequence[Answers]) -> float:
        """The divergence of Kullback and Leibler, Σ p·log(p / p̂), mean over predictions."""
        pairs = zip(exact, answers, strict=True)
        return _mean(np.concatenate([divergence(p[0], p_hat[0]) for p, p_hat in pairs]))

    def drops(self, exact: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
        """What noise in the scores, of some sizes, does to both."""
        p = np.concatenate([batch[0] for batch in exact], axis=1)
        if not p.size:
            raise DataError(f"no prediction counts: all labels are {self.ignored}; take other test images")
        z = np.log(np.maximum(p, SMALLEST))
        varies = z.var(axis=1).mean() if p.shape[1] >= FEW_PREDICTIONS else (z - z.mean(axis=0)).var()
        count = min(NOISY, max(1, NOISY_NUMBERS // len(p)))
        p = np.tile(p[:, :count], max(1, count // p.shape[1]))  # of a few, each with noise of several kinds
        z = np.log(np.maximum(p, SMALLEST))
        size, noise = np.sqrt(varies), np.random.default_rng(0).standard_normal(z.shape)
        found = []
        q = np.empty_like(z)
        for scale in NOISE:
            softmax(z + size * scale * noise, out=q)
            found.append((_mean(divergence(p, q)), _mean(self._lost(p, q))))
        distances, drops = np.maximum.accumulate([(0.0, 0.0), *found]).T
        return distances, drops

    def _lost(self, p: Array, p_hat: Array) -> Array:
        """p(c) − p(ĉ) of each prediction, or that of the sums over the ``top_k`` classes of both."""
        best, found = (_highest(x, self.top_k) for x in (p, p_hat))
        chosen = module_of(p).take_along_axis
        lost: Array = (chosen(p, best, 0) - chosen(p, found, 0)).sum(axis=0)
        return lost


class NearnessScore:
    """Of a net that does not classify: 1 − ‖y − ŷ‖ / ‖y‖ of the output that is worst."""

    is_agreement = False
    of_what = ""

    def __init__(self, blobs: Sequence[str]) -> None:
        self.blobs, self.name = list(blobs), f"nearness of {', '.join(blobs)}"

    @property
    def reads(self) -> list[str]:
        """The outputs."""
        return self.blobs

    def remember(self, net: Net, batch: Batch) -> None:
        """Note the outputs."""
        for name in self.blobs:
            batch[DENSE + name] = net.blobs[name].data.copy()

    def of(self, net: Net, batch: Batch) -> Figures:
        """Nearness, the square of what is lost, and what is lost: as that is measured, it needs no care.

        Raises DataError for an output whose shape depends on its numbers.
        """
        errors = []
        for name in self.blobs:
            y, exact = net.blobs[name].data, batch[DENSE + name]
            _check_comparable(net, name, y, exact)
            errors.append(self._error(y, exact))
        error = float(np.max(errors))  # not ``max``, which passes over nan
        return Figures(1 - error, error * error, error, error, 0)

    def answers(self, net: Net) -> Answers:
        """The outputs."""
        return [np.asarray(to_host(net.blobs[name].data), np.float64) for name in self.blobs]

    def distance(self, answers: Sequence[Answers], exact: Sequence[Answers]) -> float:
        """‖y − ŷ‖² / ‖y‖² of the output that is worst."""
        errors = []
        for i in range(len(self.blobs)):
            wrong = sum(float(((y[i] - z[i]) ** 2).sum()) for y, z in zip(exact, answers, strict=True))
            errors.append(wrong / (sum(float((y[i] ** 2).sum()) for y in exact) or 1.0))
        return max(errors)

    def drops(self, exact: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
        """The root of the distance."""
        roots: np.ndarray = np.concatenate([[0.0], NOISE])
        return roots**2, roots

    def _error(self, y: Array, exact: Array) -> float:
        wide = exact.astype(np.float64)
        wrong, norm = float(((y - wide) ** 2).sum()), float((wide * wide).sum())
        return math.sqrt(wrong / (norm or wrong or 1.0))  # 1 where it should be zeros and is not


class MixedScore:
    """Of a net that classifies and has other outputs too: classes, and that no other output gets lost meanwhile.

    What is lost is that of the classes, or the share of the variance of another output that is wrong, if that is
    more: w = Σ (y − ŷ)² / Σ (y − ȳ)², with the variance of all images that the dense net was asked about: of one
    image there is none.

    How far answers are off is in nats: that of the classes, and w / 2 of the output that is worst, which is the
    divergence (y − ŷ)² / 2v of two normal distributions of variance v, as distillation has it.
    """

    def __init__(self, classes: ClassScore, blobs: Sequence[str]) -> None:
        self.classes, self.others = classes, NearnessScore(blobs)
        self.name, self.is_agreement = f"{classes.name} ({', '.join(blobs)} kept too)", classes.is_agreement
        self.of_what = f" of accuracy, or of what varies in {' or '.join(blobs)}"
        self._seen = [
            (0, np.zeros(()), 0.0) for _ in blobs
        ]  # of each: images, Σ y over them, Σ y² over all numbers

    @property
    def reads(self) -> list[str]:
        """The scores of classes, and the other outputs."""
        return [*self.classes.reads, *self.others.reads]

    def remember(self, net: Net, batch: Batch) -> None:
        """Note the probabilities, and the other outputs."""
        self.classes.remember(net, batch)
        self.others.remember(net, batch)
        self._seen = [
            (images + len(y), total + y.sum(axis=0), squares + float((y * y).sum()))
            for (images, total, squares), y in zip(self._seen, self.others.answers(net), strict=True)
        ]

    def of(self, net: Net, batch: Batch) -> Figures:
        """The share of right answers; loss or divergence of all outputs; what is lost, of which w needs no care."""
        right, loss, lost, reckoned, counted = self.classes.of(net, batch)
        for name in self.others.blobs:
            _check_comparable(net, name, net.blobs[name].data, batch[DENSE + name])
        exact = (np.asarray(to_host(batch[DENSE + name]), np.float64) for name in self.others.blobs)
        errors = (((y - z) ** 2).sum() / len(y) for y, z in zip(exact, self.others.answers(net), strict=True))
        wrong = float(np.max([error / of for error, of in zip(errors, self._varies(), strict=True)]))
        return Figures(right, loss + wrong / 2, max(lost, wrong), max(reckoned, wrong), counted)

    def answers(self, net: Net) -> Answers:
        """Probabilities (C, predictions), and the other outputs."""
        return [*self.classes.answers(net), *self.others.answers(net)]

    def distance(self, answers: Sequence[Answers], exact: Sequence[Answers]) -> float:
        """The divergence of the classes and of the other output that is worst."""
        others = ([batch[1:] for batch in x] for x in (answers, exact))
        return self.classes.distance(answers, exact) + self._wrong(*others) / 2

    def drops(self, exact: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
        """As if all of a distance were that of the classes, or all of the others: what costs more."""
        distances, drops = self.classes.drops(exact)
        return distances, np.minimum(np.maximum(drops, 2 * distances), 1)  # more than all cannot get lost

    def _varies(self) -> list[float]:
        """The variance of each other output, its numbers together; where they are constants, their square, or 1."""
        found = []
        for images, total, squares in self._seen:
            square = squares / images
            variance = square - float(((total / images) ** 2).sum())
            found.append(variance if variance > ROUNDING * square else square or 1.0)
        return found

    @staticmethod
    def _wrong(answers: Sequence[Answers], exact: Sequence[Answers]) -> float:
        shares = []
        for i in range(len(exact[0])):
            y, z = (np.concatenate([batch[i] for batch in x]) for x in (exact, answers))
            varies = ((y - y.mean(axis=0)) ** 2).sum() or (y * y).sum() or 1.0
            shares.append(float(((y - z) ** 2).sum() / varies))
        return float(np.max(shares))


def _check_comparable(net: Net, name: str, y: Array, exact: Array) -> None:
    """Raise DataError if there are more or fewer answers than the dense net's, as of proposed boxes."""
    if y.shape != exact.shape:
        raise DataError(
            f"{net.spec.where.file}: '{name}' has shape {y.shape}, and {exact.shape} in the dense net, so they "
            "cannot be compared; with --accuracy name an output whose shape never changes, or end the net before it"
        )


def _mean(x: Array) -> float:
    """The mean of an array (n,); 0 where there is nothing, as of an Accuracy layer."""
    return float(x.sum(dtype=np.float64)) / max(1, x.size)


def _highest(p: Array, count: int) -> Array:
    """The classes (count, predictions) of the highest probabilities."""
    if count == 1:
        first: Array = p.argmax(axis=0)[None]
        return first
    classes: Array = module_of(p).argsort(-p, axis=0)[:count]
    return classes


def score_of(net: Net, accuracy: str | None = None, has_labels: bool = False) -> Score:
    """How a net is scored: by its Accuracy layer, by labels of its images, or by what its dense self says.

    ``accuracy`` names the Accuracy layer (default: the last one; earlier ones are auxiliary in Inception nets), or
    the one output to look at. Raises SpecError if there is no such layer or output.
    """
    layers = list(net.layers)
    if accuracy in net.outputs and not isinstance(_maker(layers, accuracy), Accuracy):
        others = [name for name in net.outputs if name != accuracy]
        if others:
            logger.warning("Nothing is asked of %s: what layers lose of that is not seen", ", ".join(others))
        return _score_of_outputs(net, [accuracy], has_labels)
    counting = [layer for layer in layers if isinstance(layer, Accuracy)]
    if accuracy is not None:
        named = [x for x in counting if accuracy in (x.name, x.spec.top[0])]
        if not named:
            outputs = [name for name in net.outputs if not _is_input(_maker(layers, name))]
            known = list(dict.fromkeys([*(x.name for x in counting), *outputs]))
            choice = f"; there {'is' if len(known) == 1 else 'are'} {listing(known)}"
            problem, hint = (
                f"has no Accuracy layer and no output '{accuracy}'",
                nearest(accuracy, known) or choice,
            )
            if accuracy in net.blobs or any(accuracy == layer.name for layer in layers):
                problem, hint = f"'{accuracy}' is neither an Accuracy layer nor an output", choice
            raise SpecError(f"{net.spec.where.file}: {problem} in phase TEST{hint}")
        counting = named
    if counting:
        spec = counting[-1].spec
        param = spec.message(AccuracyParam)
        return _classes(
            net, spec.bottom[0], param.axis, spec.bottom[1], spec.top[0], param.top_k, param.ignore_label
        )
    for layer in reversed(layers):
        if layer.type == "SoftmaxWithLoss":
            axis = layer.spec.message(SoftmaxParam).axis
            ignored = layer.spec.message(LossParam).ignore_label
            return _classes(net, layer.spec.bottom[0], axis, layer.spec.bottom[1], ignored=ignored)
    return _score_of_outputs(net, net.outputs, has_labels)


def _score_of_outputs(net: Net, outputs: Sequence[str], has_labels: bool) -> Score:
    """By the classes of the last Softmax among some outputs, and by the others."""
    layers = list(net.layers)
    for layer in reversed(layers):
        if layer.type == "Softmax" and layer.spec.top[0] in outputs:
            axis = layer.spec.message(SoftmaxParam).axis
            classes = _classes(net, layer.spec.top[0], axis, LABELS if has_labels else None)
            others = _numbers(layers, [name for name in outputs if name != layer.spec.top[0]])
            return MixedScore(classes, others) if others else classes
    return NearnessScore(_numbers(layers, outputs))


def _classes(
    net: Net,
    blob: str,
    axis: int,
    labels: str | None,
    accuracy: str | None = None,
    top_k: int = 1,
    ignored: int | None = None,
) -> ClassScore:
    maker = _maker(net.layers, blob)
    axis = canonical_axis(maker, axis, len(net.blobs[blob].shape))
    return ClassScore(blob, axis, maker.type == "Softmax", labels, accuracy, top_k, ignored)


def _numbers(layers: Sequence[Layer], outputs: Sequence[str]) -> list[str]:
    """The outputs, but of losses, of the numbers of classes, and of boxes, of which there may be more or fewer each
    time, what they are made of."""
    found: list[str] = []
    for name in outputs:
        maker = _maker(layers, name)
        if maker.type == "DetectionEvaluate":  # which judges boxes
            maker = _maker(layers, maker.spec.bottom[0])
            name = maker.spec.top[0]
        if _is_input(maker):
            continue  # which nobody reads
        if maker.type == "DetectionOutput":
            found += maker.spec.bottom[:2]
        elif maker.type in ("YoloDetectionOutput", "Yolov3DetectionOutput"):
            found += maker.spec.bottom
        elif maker.type == "ArgMax" or any(maker.spec.loss_weight):
            found.append(maker.spec.bottom[0])
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def _is_input(layer: Layer) -> bool:
    return layer.type == "Input" or layer.spec.brings_data


def _maker(layers: Sequence[Layer], blob: str) -> Layer:
    """The layer that computes a blob: of a copy for several readers the one that made what is copied."""
    for layer in reversed(layers):
        if blob in layer.spec.top:
            if layer.type != "Split":
                return layer
            blob = layer.spec.bottom[0]
    raise AssertionError(f"no layer makes blob '{blob}'")
