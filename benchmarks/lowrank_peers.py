"""Low rank as others do it, in the same net: what they lose on the same images at the same FLOPs, nothing trained.

``svd``       truncated SVD of the weights, each layer at the same share of its FLOPs.
``greedy``    AIMET's spatial SVD with its greedy selection of compression ratios: each layer alone is scored at
              some ratios; then all take the lowest ratio that keeps one score, which is found by bisection.
``tucker``    Tucker-2 (Kim et al. 2016, arXiv 1511.06530), each layer at the same share, its ranks in proportion
              to its channels; ``vbmf``: with the ranks that VBMF finds, as in the paper.

All of them approximate the weights, and know no data. Measured is the dense net with such weights; the
multiply-adds are those of the thin convolutions that would take their place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from typing import Any

from tucker import tucker2, vbmf_ranks

from minicaffe.compress.batches import Batch
from minicaffe.compress.cost import FlopCost
from minicaffe.compress.journal import Journal
from minicaffe.compress.plan import LayerRank, Plan
from minicaffe.compress.workbench import Workbench
from minicaffe.core.table import format_table
from minicaffe.device.array import Array, to_host
from minicaffe.low_rank import factorization

logger = logging.getLogger("minicaffe")
RATIOS = tuple(tenths / 10 for tenths in range(1, 10))  # AIMET's default
BISECTIONS = 30
WAYS = ("ours", "AIMET", "SVD, spatial", "SVD, channel", "Tucker-2")
STEPS = 1000  # of Tucker ranks, from none of the channels to all


@dataclass
class Approximation:
    """Weights ŵ (M, C, kh, kw) by layer, and their share of the FLOPs. ``key`` says how they were made."""

    weights: dict[str, Array]
    share: float
    key: list[Any]


class Peers:
    """The ways of others for a net on the workbench.

    ``batches`` are by name: ``greedy`` scores layers on those "chosen on". What is measured is kept in a journal.
    """

    def __init__(self, bench: Workbench, batches: Mapping[str, Sequence[Batch]], journal: Journal) -> None:
        self.bench, self.batches, self.journal = bench, batches, journal
        self.weights = {name: to_host(bench.original.params[name][0].data) for name in bench.candidates}
        self._scores: dict[str, dict[float, float]] = {}

    def svd(self, scheme: str, share: float) -> Approximation:
        """Truncated SVD in one scheme."""
        return self._truncated({name: self._rank(name, scheme, share) for name in self.weights})

    def _rank(self, name: str, scheme: str, share: float) -> LayerRank:
        candidate = self.bench.candidates[name]
        way = scheme if scheme in candidate.schemes else "CHANNEL"  # a 1 × 1 window has no other
        return LayerRank(way, candidate.rank_for(way, share))

    def _truncated(self, plan: Plan) -> Approximation:
        weights = {}
        for name, choice in plan.items():
            scheme = self.bench.candidates[name].scheme(choice.scheme)
            left, right = factorization.svd(scheme.matrix(self.weights[name])).truncate(choice.rank).factors()
            weights[name] = scheme.weights(left @ right)
        key = [(name, choice.scheme, choice.rank) for name, choice in plan.items()]
        return Approximation(weights, FlopCost(self.bench).share(plan), ["SVD", *key])

    def greedy(self, share: float) -> Approximation:
        """Spatial SVD with AIMET's ratios: at most this share, if the lowest of them allow it."""
        scores = self._all_scores()
        found = [score for of_layer in scores.values() for score in of_layer.values()]
        low, high = min(found), max(found)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            too_dear = FlopCost(self.bench).share(self._keeping(middle)) > share
            low, high = (low, middle) if too_dear else (middle, high)
        return self._truncated(self._keeping(low))

    def _keeping(self, score: float) -> dict[str, LayerRank]:
        ratios = {name: lowest_ratio(of_layer, score) for name, of_layer in self._all_scores().items()}
        return {name: self._rank(name, "SPATIAL", ratio) for name, ratio in ratios.items() if ratio}

    def _all_scores(self) -> dict[str, dict[float, float]]:
        """The accuracy with one layer approximated, for each layer and ratio."""
        for name in self.weights:
            if name not in self._scores:
                plans = {ratio: {name: self._rank(name, "SPATIAL", ratio)} for ratio in RATIOS}
                self._scores[name] = {
                    ratio: self.accuracy(self._truncated(plan), "chosen on") for ratio, plan in plans.items()
                }
                told = " ".join(f"{score:.4f}" for score in self._scores[name].values())
                logger.info("AIMET's scores of %s: %s", name, told)
        return self._scores

    def tucker(self, share: float) -> Approximation:
        """Tucker-2, each layer at its largest ranks that cost at most this share of it."""
        ranks = {}
        for name in self.weights:
            limit = share * self.bench.candidates[name].cost
            tried = (self._in_proportion(name, step / STEPS) for step in range(STEPS, 0, -1))
            fitting = (pair for pair in tried if self._tucker_cost(name, *pair) <= limit)
            ranks[name] = next(fitting, self._in_proportion(name, 0))
        return self._tucker(ranks)

    def vbmf(self) -> Approximation:
        """Tucker-2 with the ranks of VBMF."""
        found = {name: vbmf_ranks(w) for name, w in self.weights.items()}
        return self._tucker({name: (self._kept(name) or r1, r2) for name, (r1, r2) in found.items()})

    def _in_proportion(self, name: str, part: float) -> tuple[int, int]:
        r2, r1 = (max(1, int(part * size)) for size in self.weights[name].shape[:2])
        return self._kept(name) or r1, r2

    def _kept(self, name: str) -> int:
        """C for the first layer: its few channels are all kept, as in the paper. 0 for others."""
        return self.weights[name].shape[1] if name == next(iter(self.weights)) else 0

    def _tucker(self, ranks: Mapping[str, tuple[int, int]]) -> Approximation:
        weights = {name: tucker2(self.weights[name], *pair) for name, pair in ranks.items()}
        cost = sum(self._tucker_cost(name, *pair) for name, pair in ranks.items())
        dense = sum(candidate.cost for candidate in self.bench.candidates.values())
        return Approximation(weights, cost / dense, ["Tucker", *ranks.items()])

    def _tucker_cost(self, name: str, r1: int, r2: int) -> int:
        """Multiply-adds of the three convolutions; a 1 × 1 one that drops nothing is part of its neighbour."""
        filters, channels, *kernel = self.weights[name].shape
        geometry = self.bench.candidates[name].product.geometry
        pixels, outputs = prod(geometry.shape[1:3]), prod(geometry.output)
        first = channels * r1 * pixels if r1 < channels else 0
        last = r2 * filters * outputs if r2 < filters else 0
        return first + r1 * r2 * prod(kernel) * outputs + last

    def accuracy(self, found: Approximation, on: str) -> float:
        """The accuracy of the net with these weights, on the batches of that name."""
        known = self.journal.get([on, *found.key])
        if known is None:
            self.bench.put_back()
            for name, w in found.weights.items():
                self.bench.put(name, w)
            known = {"accuracy": self.bench.measure(self.batches[on]).score}
            self.journal.note([on, *found.key], known)
        return float(known["accuracy"])


def lowest_ratio(scores: Mapping[float, float], wanted: float) -> float | None:
    """The lowest ratio down to which a layer keeps the score; None: it has to stay dense."""
    if scores[min(scores)] >= wanted:
        return min(scores)
    kept = takewhile(lambda ratio: scores[ratio] >= wanted, sorted(scores, reverse=True))
    return min(kept, default=None)


def compare(
    peers: Peers,
    shares: Sequence[float],
    on: str,
    dense: float,
    ours: Callable[[float], tuple[float, float]],
) -> str:
    """A line for each share, and one for that of VBMF's ranks: points of accuracy lost, and the share reached.

    ``on``: the name of the batches; ``dense``: the dense net's accuracy on them; ``ours``: the share and the
    accuracy of our plan for a share.
    """

    def line(label: str, share: float, tucker: Approximation) -> list[str]:
        others = [peers.greedy(share), peers.svd("SPATIAL", share), peers.svd("CHANNEL", share), tucker]
        measured = [ours(share)]
        for name, found in zip(WAYS[1:], others, strict=True):
            logger.info("%s at %.3f: %s", name, found.share, found.key[1:])
            measured.append((found.share, peers.accuracy(found, on)))
        return [
            label,
            *(f"{100 * (accuracy - dense):+.2f} ({reached:.3f})" for reached, accuracy in measured),
        ]

    lines = [line(f"{share:g}", share, peers.tucker(share)) for share in shares]
    by_vbmf = peers.vbmf()
    lines.append(line(f"{by_vbmf.share:.3f}, VBMF's", by_vbmf.share, by_vbmf))
    return format_table(("share", *WAYS), lines, right=range(1, len(WAYS) + 1))
