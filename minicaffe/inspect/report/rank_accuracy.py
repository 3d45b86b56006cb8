"""The accuracy of a net on some test images when one of its layers is approximated: for some ranks, in three ways.

A layer's weights are replaced by Ŵ, and the net runs from that layer on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from minicaffe.compress.batches import Batch, draw, run
from minicaffe.compress.moments import Moments
from minicaffe.compress.survey import MatrixLayer
from minicaffe.compress.ways import Directions
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.inspect.confusion import Answers, said_classes
from minicaffe.inspect.report.even_data import even_data
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.train.progress import Progress
from minicaffe.train.scoring import images_of

WORK = 3.2e10  # multiply-adds in all: some seconds
MOST_RANKS, FEWEST_RANKS = 12, 4
FEWEST_IMAGES = 100  # with fewer an accuracy says little


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
) -> RankAccuracy | None:
    """Measure on at most ``most`` test images of a net with data; None if that is too much work.

    The net keeps its weights and its place in the data.
    """
    steps = {step.layer.name: i for i, step in enumerate(net.steps)}
    plain = [name for name in layers if _is_plain(net.layers[steps[name]])]
    work = [step.multiply_adds for step in net.steps]
    one = 3 * sum(sum(work[steps[name] :]) for name in plain)  # of all ways, at one rank, for one image
    ranks = next(
        (n for n in (MOST_RANKS, 8, 6, FEWEST_RANKS) if n * one * FEWEST_IMAGES * 2 <= WORK), FEWEST_RANKS
    )
    count = min(most, int(WORK / max(1, ranks * one)))
    if count < min(most, FEWEST_IMAGES):
        return None
    batches = _test_batches(net, count)
    trial = _Trial(net, answers, moments)
    tried = {name: _ranks(layers[name], ranks) for name in plain}
    progress = Progress(len(batches))
    for batch, size in batches:
        trial.run_whole(batch, size)
        for name in reversed(plain):  # so that what is before a layer is still that of the whole net
            trial.run_layer(steps[name], layers[name], directions[name], tried[name], batch, size)
        progress.say_some(size)
    return trial.result()


def _is_plain(layer: Layer) -> bool:
    """Whether the layer's first blob is W, row by row."""
    return not isinstance(layer, LowRankLayer) and not getattr(layer, "transpose", False)


def _ranks(layer: MatrixLayer, count: int) -> list[int]:
    """Ranks up to the break-even point, dense where they are small."""
    return sorted({round(r) for r in np.geomspace(1, max(2, layer.break_even), count).tolist()})


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

    def __init__(self, net: Net, answers: Answers, moments: Mapping[str, Moments]) -> None:
        self.net, self.answers, self.moments = net, answers, moments
        self.count = self.right_dense = 0
        self.right: dict[tuple[str, str, int], int] = {}
        self.left_out: set[str] = set()  # layers from which the net cannot be run again

    def run_whole(self, batch: Batch, size: int) -> None:
        run(self.net, batch)
        self.said, counted, right = self._read(size)
        self.count += counted
        self.right_dense += right

    def run_layer(
        self,
        index: int,
        layer: MatrixLayer,
        ways: Mapping[str, Directions],
        ranks: list[int],
        batch: Batch,
        size: int,
    ) -> None:
        """All ranks of one layer, in all ways; its weights are put back."""
        blobs = self.net.layers[index].blobs
        exact = [blob.data.copy() for blob in blobs]
        run(self.net, batch, index)
        if not np.array_equal(self._read(size)[0], self.said):  # something before it was changed in place
            self.left_out.add(layer.name)
        try:
            for way, found in ways.items():
                for rank in ranks:
                    weights, shift = layer.approximation(way, self.moments[layer.name], found, rank)
                    blobs[0].data[...] = weights.reshape(exact[0].shape)
                    if len(blobs) > 1:
                        blobs[1].data[...] = exact[1] + shift
                    run(self.net, batch, index)
                    key = layer.name, way, rank
                    self.right[key] = self.right.get(key, 0) + self._read(size)[2]
        finally:
            for blob, array in zip(blobs, exact, strict=True):
                blob.data[...] = array

    def _read(self, size: int) -> tuple[np.ndarray, int, int]:
        """The scores; how many images count, and how many of them the net is right about."""
        scores, labels, counted = self.answers.read(size)
        right = (said_classes(scores, labels) == labels) & counted
        return scores, int(counted.sum()), int(right.sum())

    def result(self) -> RankAccuracy:
        points: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for (name, way, rank), right in self.right.items():
            if name not in self.left_out:
                points.setdefault(name, {}).setdefault(way, []).append((rank, right / max(1, self.count)))
        return RankAccuracy(self.count, self.right_dense / max(1, self.count), points)
