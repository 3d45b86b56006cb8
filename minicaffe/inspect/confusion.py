"""Confusion: how often a net says one class of images of another, and where its scores and labels are found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.blob import Blob
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError, listing
from minicaffe.layers.accuracy import AccuracyParam
from minicaffe.layers.loss import LossParam
from minicaffe.spec.reader import nearest

# What compares a score for each class, bottom 0, with a label, bottom 1.
COMPARING = ("Accuracy", "SoftmaxWithLoss", "MultinomialLogisticLoss", "InfogainLoss", "HingeLoss")


@dataclass(frozen=True, eq=False)
class Confusion:
    """``counts[t, s]`` images of class t of which the net said s, (C, C); ``names`` of the classes, or []."""

    counts: NDArray[np.int64]
    names: Sequence[str] = ()

    @property
    def count(self) -> int:
        """n, the number of images."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """The share of images whose class the net said; 0 of no images."""
        return float(np.trace(self.counts)) / max(1, self.count)

    @property
    def interval(self) -> tuple[float, float]:
        """Between what the net's accuracy on all such images lies: ``wilson_interval`` of these."""
        return wilson_interval(self.accuracy, self.count)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The accuracy within each class, (C,); nan for a class that has no images."""
        in_class = self.counts.sum(axis=1)
        share: NDArray[np.float64] = np.diagonal(self.counts) / np.maximum(in_class, 1)
        share[in_class == 0] = np.nan
        return share

    def pairs(self, most: int) -> list[tuple[int, int, int]]:
        """The ``most`` frequent mistakes: (true class, class said, images), the most frequent first.

        Those that are as frequent as the last of them follow, until there are twice as many.
        """
        wrong = self.counts - np.diag(np.diagonal(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[: 2 * most]
        places = [divmod(int(place), len(wrong)) for place in order]
        least = max(1, wrong[places[:most][-1]])
        return [(true, said, int(wrong[true, said])) for true, said in places if wrong[true, said] >= least]

    def as_frequent(self, pairs: Sequence[tuple[int, int, int]]) -> int:
        """How many mistakes that ``pairs`` lacks are as frequent as the last of these."""
        if not pairs:
            return 0
        wrong = self.counts - np.diag(np.diagonal(self.counts))
        return int((wrong >= pairs[-1][2]).sum()) - len(pairs)

    def name(self, label: int) -> str:
        """The name of a class, or else its number."""
        return self.names[label] if label < len(self.names) else str(label)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Between what the share of all images lies when it is ``share`` among ``count`` of them; in 95 of 100 cases.

    Wilson's interval (1927), which, unlike p ± 1.96·√(p(1 − p)/n), is of use near 0 and 1. (0, 1) of no images.
    """
    if not count:
        return 0.0, 1.0
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def confusion_counts(labels: NDArray[np.int64], said: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many images of class t the net called s, (C, C), from both for each image, (n,)."""
    return np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)


def said_classes(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the net says: the class of the highest score of each row of (n, C).

    As for Accuracy, a tie counts against the label, and so does nan.
    """
    rows = np.arange(len(scores))
    others = np.array(scores, np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    best = others.argmax(axis=1)  # the first nan, if there is one
    return np.where(own > others[rows, best], labels, best) if scores.shape[1] > 1 else labels


@dataclass(frozen=True)
class Answers:
    """Where a net has its scores (N, C), and the labels (N,) that they are compared with.

    ``layer`` compares them; ``name`` is the blob of the scores. ``are_shares``: they add up to 1 already.
    """

    layer: str
    name: str
    scores: Blob
    labels: Blob
    are_shares: bool
    ignore_label: int | None

    @property
    def classes(self) -> int:
        """C."""
        return self.scores.shape[1]

    def read(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """Probabilities (n, C), labels (n,) and which of them count, of the first ``count`` images of a batch."""
        scores = np.array(to_host(self.scores.data)[:count], np.float64).reshape(-1, self.classes)
        labels = np.array(to_host(self.labels.data)).reshape(-1)[:count].astype(np.int64)
        counted = np.ones(len(labels), bool) if self.ignore_label is None else labels != self.ignore_label
        return scores if self.are_shares else _softmax(scores), labels * counted, counted


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def find_answers(net: Net, layer: str | None = None) -> Answers:
    """The scores and labels that ``layer`` compares; by default the last Accuracy, or else the last loss.

    Raises SpecError for a net that has none, or that has a label for each pixel; it names the layers to choose
    from.
    """
    comparing = {step.layer.name: step for step in net.steps if step.layer.type in COMPARING}
    if layer is not None and layer not in comparing:
        raise SpecError(
            f"{net.spec.where.file}: no layer '{layer}' compares scores with labels{nearest(layer, comparing)}; "
            f"those that do: {listing(list(comparing)) or 'none'}"
        )
    if not comparing:
        raise SpecError(
            f"{net.spec.where.file}: no layer in phase {net.state.phase} compares scores with labels, as "
            "Accuracy and SoftmaxWithLoss do, so there is no confusion matrix; give the net that is trained"
        )
    last = [name for name, step in comparing.items() if step.layer.type == "Accuracy"] or list(comparing)
    return _answers(net, comparing[layer or last[-1]])


def _answers(net: Net, step: Step) -> Answers:
    layer, (scores, labels) = step.layer, step.bottom[:2]
    spatial = math.prod(scores.shape[2:])
    if len(scores.shape) < 2 or spatial != 1 or labels.count != scores.num:
        raise layer.spec.error(
            "type",
            f"scores {scores.shape} and labels {labels.shape}: a confusion matrix needs one label for each image, "
            "not one for each pixel",
        )
    param = layer.spec.find_message(AccuracyParam) or layer.spec.find_message(LossParam)
    name, maker = made_by(net, layer.spec.bottom[0])
    ignored = param.ignore_label if param is not None else None
    return Answers(layer.name, name, scores, labels, maker == "Softmax", ignored)


def made_by(net: Net, name: str) -> tuple[str, str]:
    """The blob that a blob is a copy of, which Split layers make, and the type of the layer that wrote it last."""
    for step in reversed(net.steps):
        if name in step.layer.spec.top:
            if step.layer.type != "Split":
                return name, step.layer.type
            name = step.layer.spec.bottom[0]
    return name, ""


def names_of(net: Net) -> Sequence[str]:
    """The names of a net's classes, as its images have them or as they came with its weights; or []."""
    return net.class_names or (net.preparation.class_names if net.preparation is not None else [])


class ConfusionCounter:
    """Counts what a net says of each class: ``look`` after each batch. Raises what ``find_answers`` raises."""

    def __init__(self, net: Net, layer: str | None = None) -> None:
        self.answers = find_answers(net, layer)
        self._names = names_of(net)
        self._counts = np.zeros((self.answers.classes,) * 2, np.int64)

    def look(self) -> None:
        """Count the batch that the net is at."""
        scores, labels, counted = self.answers.read(self.answers.scores.num)
        said = said_classes(scores, labels)
        self._counts += confusion_counts(labels[counted], said[counted], self.answers.classes)

    def result(self) -> Confusion:
        """All that was counted."""
        return Confusion(self._counts, self._names)
