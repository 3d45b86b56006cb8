"""What plans will lose, before any of them is tried: from the layers' missed responses at all ranks.

A layer at rank r misses a share m(r) of the variance of its responses, known at every rank from one factorization.
How far the net's answers are off then, d, is measured at a few ranks of each layer, approximated alone, on a few
images; between these ranks log d is a straight line in log m. As long as they are small, the distances of all
layers of a plan add up (Kullback–Leibler divergences of the net's probabilities, or squared relative errors of its
outputs). What a distance costs in points of accuracy, the score tells by adding noise to answers that it has seen.

Where the sum is more than any one layer was seen to do, nothing shows that distances still add up: plans then lost
about as much as predicted, or up to 2.6 times more (``benchmarks/README.md``, what is predicted).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from minicaffe.compress.batches import Batch, run
from minicaffe.compress.cost import Cost
from minicaffe.compress.curves import Curve, Point, make_curve
from minicaffe.compress.plan import LayerRank, Plan
from minicaffe.compress.score import Answers, not_finite
from minicaffe.compress.workbench import Workbench
from minicaffe.core.net import Net
from minicaffe.errors import SpecError

PROBED = (0.003, 0.02, 0.1, 0.3)  # shares that a layer misses, about, where its effect is measured
STEEPEST = 2.0  # power of m that is believed beyond them, and the flattest
FLATTEST = 0.7
WAYS = ("CHANNEL", "SPATIAL")
LEAST = 1e-9
Loss = Callable[[str, LayerRank], float]


@dataclass
class Prediction:
    """What plans lose, for the layers of a workbench; ``batches`` are some that ``Workbench.draw`` made.

    ``ways``: the schemes to choose from. ``multiple``: ranks are multiples of it. ``probed``: the shares that a
    layer misses, about, where its effect is measured.
    """

    bench: Workbench
    batches: Sequence[Batch]
    ways: Sequence[str] = WAYS
    multiple: int = 1
    probed: Sequence[float] = PROBED

    def __post_init__(self) -> None:
        self._answers = self._answers_of(self.bench.original)
        self._missed = self.bench.missed(self.ways)
        if not any(self.choices(name) for name in self.bench.candidates):
            raise SpecError(
                f"{self.bench.spec.where.file}: no rank of these layers saves anything; "
                "name other layers, or another --multiple or --schemes"
            )
        self._effects = self._find_effects()
        self.bench.put_back()
        self._drops = self.bench.score.drops(self._answers)

    def missed(self, name: str, choice: LayerRank) -> float:
        """The share of the variance of a layer's responses that it misses at a rank."""
        return float(self._missed[name, choice.scheme][choice.rank])

    def rise(self, name: str, choice: LayerRank) -> float:
        """How far the answers are off when this layer alone is approximated."""
        m, d = self._effects[name]
        return math.exp(np.interp(math.log(max(self.missed(name, choice), LEAST)), m, d))

    def drop(self, plan: Plan) -> float:
        """What of its score the net is expected to lose."""
        return float(np.interp(self._distance(plan), *self._drops))

    def is_beyond(self, plan: Plan) -> bool:
        """Whether the answers are off by more than was measured of any layer alone: then more may be lost."""
        return self._distance(plan) > self._farthest

    def _distance(self, plan: Plan) -> float:
        return sum(self.rise(name, choice) for name, choice in plan.items())

    def choices(self, name: str) -> list[LayerRank]:
        """All ranks of a layer that save something, in all schemes."""
        candidate, found = self.bench.candidates[name], []
        for way in self.ways:
            if candidate.has(way):
                ranks = range(self.multiple, candidate.full_rank(way), self.multiple)
                found += [LayerRank(way, r) for r in ranks if candidate.share(LayerRank(way, r)) < 1]
        return found

    def curves(self, cost: Cost, loss: Loss | None = None) -> dict[str, Curve]:
        """What each layer loses at what cost: its ``rise``, or another measure of a layer and its rank."""
        return {name: self._curve(name, cost, loss or self.rise) for name in self.bench.candidates}

    def _curve(self, name: str, cost: Cost, loss: Loss) -> Curve:
        points = [Point(choice, cost.of(name, choice), loss(name, choice)) for choice in self.choices(name)]
        return make_curve(Point(None, cost.of(name, None), 0.0), points)

    def _find_effects(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each layer log m, rising, and log d, from no share to all of it.

        Blobs before an approximated layer are what they are in the dense net. So these are computed once for a
        batch, and then the layers are tried from the last to the first.
        """
        bench, probes = self.bench, {name: self._probes(name) for name in self.bench.candidates}
        first = {name: first_to_rerun(bench.trial, name) for name in probes}
        answers: dict[tuple[str, float], list[Answers]] = {}
        fits = {
            (name, x): bench.alone(name, choice.scheme).start(choice.rank)
            for name in reversed(bench.candidates)
            for x, choice in probes[name].items()
        }
        for batch in self.batches:
            bench.put_back()
            run(bench.trial, batch)
            for (name, x), fit in fits.items():
                bench.put_back()
                bench.put_fit(name, probes[name][x], fit)
                run(bench.trial, batch, first[name])
                answers.setdefault((name, x), []).append(self._finite(bench.trial))
        found = {key: bench.score.distance(its, self._answers) for key, its in answers.items()}
        self._farthest = max(found.values(), default=0.0)
        return {name: _effect({x: found[name, x] for x in choices}) for name, choices in probes.items()}

    def _probes(self, name: str) -> dict[float, LayerRank]:
        """Ranks of a layer at which it misses about the ``probed`` shares, by the log of what it misses."""
        found: dict[float, LayerRank] = {}
        for share in self.probed:
            choice = min(
                self.choices(name),
                key=lambda c: abs(math.log(max(self.missed(name, c), LEAST) / share)),
                default=None,
            )
            if choice is not None and (m := self.missed(name, choice)) > LEAST:
                found.setdefault(math.log(m), choice)
        return found

    def _answers_of(self, net: Net) -> list[Answers]:
        found = []
        for batch in self.batches:
            run(net, batch)
            found.append(self._finite(net))
        return found

    def _finite(self, net: Net) -> Answers:
        answers = self.bench.score.answers(net)
        if not all(np.isfinite(y).all() for y in answers):
            raise not_finite(self.bench.score, net)
        return answers


def _effect(distances: Mapping[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """log m and log d, from those that were measured: d by log m."""
    xs = sorted(distances) or [0.0]
    ys = list(accumulate((math.log(max(distances.get(x, 1.0), LEAST)) for x in xs), max))
    slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0]) if len(xs) > 1 else 1.0
    slope = min(max(slope, FLATTEST), STEEPEST)
    least, most = math.log(LEAST), math.log(2.0)  # beyond what is measured it goes on as it went
    low, high = ys[0] + slope * (least - xs[0]), ys[-1] + slope * (most - xs[-1])
    return np.array([least, *xs, most]), np.array([low, *ys, high])


def first_to_rerun(net: Net, name: str) -> int:
    """The index from which on to run a net again after the weights of layer ``name`` have changed.

    That is the layer itself, or one before it whose blob a later layer has changed in place.
    """
    steps = net.steps
    first = next(i for i, step in enumerate(steps) if step.layer.name == name)
    while True:
        changed = {id(blob) for step in steps[first:] for blob in step.top}
        makers = (i for i, step in enumerate(steps[:first]) if any(id(blob) in changed for blob in step.top))
        earliest = next(makers, first)
        if earliest == first:
            return first
        first = earliest
