"""The accuracy of a net on some test images when one of its layers is approximated: for some ranks, in three ways.

Ŷ of a rank follows from Y, or for the data from Qᵀ·X, by thin products; then the net runs from the next layer on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minicaffe.compress.batches import Batch, draw, run
from minicaffe.compress.moment_sums import dense_product
from minicaffe.compress.moments import Moments
from minicaffe.compress.survey import MatrixLayer
from minicaffe.compress.ways import Directions
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of
from minicaffe.inspect.confusion import Answers, said_classes
from minicaffe.inspect.report.even_data import even_data
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.products import TwoStage
from minicaffe.train.progress import Progress
from minicaffe.train.scoring import images_of

WORK = 1.2e10  # multiply-adds in all: a few seconds
RANKS = (12, 8, 5)  # that many are tried, or fewer where that is too much work
IMAGES = 200


@dataclass(frozen=True, eq=False)
class RankAccuracy:
    """Accuracies on ``count`` images: ``dense`` of the net as it is, ``points[layer][way]`` as (rank, accuracy)."""

    count: int
    dense: float
    points: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)


def rank_accuracy(
    net: Net,
    answers: Answers,
    layers: Mapping[str, MatrixLayer],
    moments: Mapping[str, Moments],
    directions: Mapping[str, Mapping[str, Directions]],
    most: int,
) -> RankAccuracy:
    """Measure on at most ``most`` test images of a net with data, for the layers for which that is little work.

    Layers of low rank are left out. The net keeps its place in the data.
    """
    trial = _Trial(net, answers, layers, moments, directions)
    batches = _test_batches(net, min(most, IMAGES))
    images = sum(size for _, size in batches)
    tried, progress = _choose(net, layers, images), Progress(images, "images scored at several ranks")
    for batch, size in batches:
        run(net, batch)
        trial.count_whole(size)
        for index in reversed(tried):  # so that what is before a layer is still that of the whole net
            trial.try_layer(index, tried[index], batch, size)
        progress.say_some(size)
    return trial.result()


def first_rank(layer: MatrixLayer) -> int:
    """The rank that a layer has when it is first shown."""
    return max(1, layer.full_rank // 4)


def _choose(net: Net, layers: Mapping[str, MatrixLayer], images: int) -> dict[int, list[int]]:
    """The ranks to try for layers, by their numbers in the net's order: the cheapest layers first."""
    work = [step.multiply_adds for step in net.steps]
    plain = [
        (sum(work[i + 1 :]), i)
        for i, step in enumerate(net.steps)
        if step.layer.name in layers and not isinstance(step.layer, LowRankLayer)
    ]
    left, chosen = WORK, {}
    for after, i in sorted(plain):
        layer = layers[net.layers[i].name]
        for count in RANKS:
            even = np.geomspace(1, max(2, layer.break_even), count).tolist()
            ranks = sorted({first_rank(layer), *map(round, even)})
            cost = images * (3 * len(ranks) * after + 3 * work[i])
            if cost <= left:
                left -= cost
                chosen[i] = ranks
                break
    return dict(sorted(chosen.items()))


def _test_batches(net: Net, most: int) -> list[tuple[Batch, int]]:
    """Batches with how many of their images count."""
    with even_data(net, most) as chosen:
        count = most if chosen is None else len(chosen)
        batches: list[tuple[Batch, int]] = []
        while count > 0:
            (batch,) = draw(net, 1)
            size = min(count, images_of(net))
            batches.append((batch, size))
            count -= size
    return batches


class _Trial:
    """Counts right answers."""

    def __init__(
        self,
        net: Net,
        answers: Answers,
        layers: Mapping[str, MatrixLayer],
        moments: Mapping[str, Moments],
        directions: Mapping[str, Mapping[str, Directions]],
    ) -> None:
        self.net, self.answers = net, answers
        self.layers, self.moments, self.directions = layers, moments, directions
        self.count = self.right_dense = 0
        self.right: dict[tuple[str, str, int], int] = {}
        self.left_out: set[str] = set()  # layers from which the net cannot be run again

    def count_whole(self, size: int) -> None:
        """Count the answers of the whole net, which has just run."""
        self.said, counted, right = self._read(size)
        self.count += counted
        self.right_dense += right

    def try_layer(self, index: int, ranks: list[int], batch: Batch, size: int) -> None:
        """All ranks of one layer, in all ways."""
        step = self.net.steps[index]
        layer, top = self.layers[step.layer.name], step.top[0].stored
        run(self.net, batch, index, index)
        exact = top.copy()
        run(self.net, batch, index + 1)
        if not np.array_equal(self._read(size)[0], self.said):  # something before it was changed in place
            self.left_out.add(layer.name)
            return
        bias = 0 if layer.bias is None else layer.bias.reshape(len(layer.weights), -1, 1)
        answers = exact.reshape(*layer.weights.shape[:2], -1) - bias
        for way, found in self.directions[layer.name].items():
            kept = found.vectors[..., : max(ranks)].astype(exact.dtype)
            left = layer.weights @ kept if way == "data" else kept
            thin = _first_stage(step, layer, kept) if way == "data" else kept.swapaxes(1, 2) @ answers
            for rank in ranks:
                shift = layer.bias_change(way, self.moments[layer.name], found, rank)
                shift = shift.reshape(*layer.weights.shape[:2], 1)
                top[...] = (left[..., :rank] @ thin[:, :rank] + bias + shift).reshape(top.shape)
                run(self.net, batch, index + 1)
                key = layer.name, way, rank
                self.right[key] = self.right.get(key, 0) + self._read(size)[2]

    def _read(self, size: int) -> tuple[np.ndarray, int, int]:
        """The scores; how many images count, and how many of them the net is right about."""
        scores, labels, counted = self.answers.read(size)
        right = (said_classes(scores, labels) == labels) & counted
        return scores, int(counted.sum()), int(right.sum())

    def result(self) -> RankAccuracy:
        """What was counted."""
        points: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for (name, way, rank), right in self.right.items():
            if name not in self.left_out:
                points.setdefault(name, {}).setdefault(way, []).append((rank, right / max(1, self.count)))
        return RankAccuracy(self.count, self.right_dense / max(1, self.count), points)


def _first_stage(step: Step, layer: MatrixLayer, q: Array) -> Array:
    """Qᵀ·X (g, r, P) of the present batch."""
    product, x, _ = dense_product(step.layer, step.bottom[0], step.top[0])
    stage = TwoStage(product, layer.scheme, q.shape[-1]).first
    filters, _ = layer.scheme.filters(layer.weights @ q, q.swapaxes(1, 2))
    hidden = module_of(q).empty(stage.geometry.output_shape, q.dtype)
    stage.forward(x, module_of(q).ascontiguousarray(filters), hidden)
    thin: Array = hidden.reshape(len(q), q.shape[-1], -1)
    return thin
