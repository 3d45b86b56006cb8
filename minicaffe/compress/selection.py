"""Choosing ranks for all layers together: as cheap as a given loss of accuracy allows, or as good as a cost allows.

1. What each layer misses at every rank, and how much of that reaches the answers (``prediction.py``).
2. A path of plans that are the best at some price, provided that losses add up, from the dense net to the cheapest
   (``curves.path``).
3. For a given cost the first of them that fits, and then step by step what gains most of the cost that it leaves;
   or, if that is measured to lose less, the same with nothing but what each layer misses.
   For a given loss the cheapest that was seen to keep to it: a few are measured, with all their layers approximated
   together, against the dense net on the same images; the next one lies where the prediction, or a line between two
   that were measured, says that the loss is as wanted.

A plan keeps to ``max_drop`` if what it is expected to lose there does, with care, and what it has surely lost
(``Measured.drop_from``). That is an aim. Few plans are measured, but the images on which they are chosen may
flatter them: the one of cifar10_quick for 1 point lost 0.36 there and 1.28 on others, both ± 0.3
(``benchmarks/README.md``).
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from minicaffe.compress.batches import Batch, images_of
from minicaffe.compress.cost import Cost, FlopCost
from minicaffe.compress.curves import best_within, path
from minicaffe.compress.journal import Journal
from minicaffe.compress.plan import Plan
from minicaffe.compress.prediction import Prediction
from minicaffe.compress.score import Measured
from minicaffe.compress.workbench import Workbench
from minicaffe.core.table import format_table
from minicaffe.errors import MinicaffeError, counted
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")
MOST_PLANS = 8  # that are measured
LEAST_DROP = 1e-4  # a smaller one is none
NEAR_ENOUGH = 0.01  # of the dense net's cost, between a plan that holds and one that does not


@dataclass(frozen=True)
class Selection:
    """A plan, its cost as a share of the dense net's, and what it does."""

    plan: Plan
    cost: float
    measured: Measured


class Selector:
    """Searches plans on ``batches`` that ``Workbench.draw`` made; ``cost`` is what is made small."""

    def __init__(
        self, bench: Workbench, batches: Sequence[Batch], prediction: Prediction, cost: Cost, journal: Journal
    ) -> None:
        self.bench, self.batches, self.prediction = bench, batches, prediction
        self.cost, self.journal = cost, journal
        self.images = sum(images_of(batch) for batch in batches)
        self.curves = prediction.curves(cost)
        self.tried: list[Selection] = []
        self.dense = self.measure({})
        score, loss = self.dense.score, self.dense.loss
        logger.info(
            "Dense: %s %.4f, loss %.4f, on %s", bench.score.name, score, loss, counted(self.images, "image")
        )

    def measure(self, plan: Plan) -> Measured:
        """What a plan does on the batches; from the journal if that knows."""
        key = sorted((name, choice.scheme, choice.rank) for name, choice in plan.items())
        known = self.journal.get(key)
        if known is None:
            self.bench.approximate(plan)
            known = asdict(self.bench.measure(self.batches))
            self.journal.note(key, known)
        return Measured(**{name: tuple(values) for name, values in known.items()})

    def within_drop(self, max_drop: float) -> Selection:
        """The cheapest plan seen to lose at most ``max_drop`` (0.02: two points); the dense one if none was.

        Plans between the last that holds and the first that does not are measured, the first where the prediction
        says, the next where it says when it is corrected by what was measured.
        """
        plans = path(self.curves)
        costs = [self.cost.share(plan) for plan in plans]
        predicted = [self.prediction.drop(plan) for plan in plans]
        best, holds, fails, aim = self._try({}), 0, len(plans), max_drop
        drops: dict[int, float] = {}  # what was measured, by the place on the path
        progress = Progress(MOST_PLANS)
        for _ in range(MOST_PLANS):
            if fails - holds < 2 or (fails < len(plans) and costs[holds] - costs[fails] < NEAR_ENOUGH):
                break
            at = bisect_right(predicted, aim) - 1
            if holds in drops and fails in drops:
                at = _between(costs, drops, holds, fails, max_drop)
            if not holds < at < fails:
                at = (holds + fails) // 2
            found = self._try(plans[at])
            drop = drops[at] = self.drop(found.measured)
            progress.say(self.line(found))
            if drop <= max_drop:
                best, holds = found, at
            else:
                fails = at
            aim = predicted[at] * max_drop / drop if drop > 0 else 2 * aim
        return best

    def within_cost(self, share: float) -> Selection:
        """A plan whose cost is at most this share of the dense net's, about the best (``best_within``).

        Where much is lost, losses no longer add up, and the shares that layers miss may divide the cost better. So
        two plans are measured, unless they are the same.
        """
        limit = share * self.cost.total({})
        plans: list[Plan] = []
        for curves in (self.curves, self.prediction.curves(self.cost, self.prediction.missed)):
            plan = best_within(curves, lambda plan: self.cost.total(plan) <= limit)
            if plan is None:
                least = min(map(self.cost.share, path(curves)))
                raise MinicaffeError(
                    f"no ranks bring {self.cost.name} down to {share:g} of {self.cost.of_what}; "
                    f"the least that they reach is {math.ceil(1e4 * least) / 1e4:g}; allow more"
                )
            if plan not in plans:
                plans.append(plan)
        return min(map(self._try, plans), key=lambda found: self.drop(found.measured))

    def least_bad(self) -> Selection | None:
        """Of the plans that were measured, but for the dense one, the one that loses least."""
        tried = [found for found in self.tried if found.plan]
        return min(
            tried,
            key=lambda found: self.drop(found.measured),
            default=None,
        )

    def drop(self, measured: Measured) -> float:
        """What of the score to reckon as lost."""
        return measured.drop_from(self.dense, self.bench.score.is_agreement)

    def _try(self, plan: Plan) -> Selection:
        cost = self.cost.share(plan)
        found = Selection(plan, cost, self.measure(plan))
        self.tried.append(found)
        return found

    def line(self, found: Selection) -> str:
        """What a plan costs, and loses."""
        return f"{self.cost.name} {found.cost:.3f} of {self.cost.of_what}: {self.words(found.measured)}"

    def words(self, measured: Measured) -> str:
        """What a net was measured to lose, and what is expected of it."""
        change, score = measured.change_from(self.dense), self.bench.score
        expected = f"{measured.expected}{score.of_what}"
        return f"{score.name} {measured.score:.4f} ({change}; expected {expected})"


def _between(
    costs: Sequence[float], drops: Mapping[int, float], holds: int, fails: int, wanted: float
) -> int:
    """The place on a path, between two that were measured, where the logarithm of the drop is about as wanted."""
    low, high, aim = (math.log(max(x, LEAST_DROP)) for x in (drops[holds], drops[fails], wanted))
    part = min(max((aim - low) / (high - low), 0.1), 0.9) if high > low else 0.5  # never next to one of them
    cost = costs[holds] + part * (costs[fails] - costs[holds])
    return next(i for i in range(holds, len(costs)) if costs[i] <= cost)


def table(selector: Selector, found: Selection) -> str:
    """What was chosen, one line for each layer, with its cost and what it loses."""
    rows = []
    for name, candidate in selector.bench.candidates.items():
        choice = found.plan.get(name)
        way = ("dense", "")
        if choice:
            way = (choice.scheme.lower(), f"{choice.rank} of {candidate.full_rank(choice.scheme)}")
        share = candidate.share(choice) if choice else 1.0
        rows.append((name, *way, f"{share:.3f}"))
    rows.append(("all of them", "", "", f"{FlopCost(selector.bench).share(found.plan):.3f}"))
    lines = [format_table(("layer", "scheme", "rank", "multiply-adds"), rows, right=(2, 3))]
    if not isinstance(selector.cost, FlopCost):  # which the table has
        lines.append(f"{selector.cost.name}: {found.cost:.3f} of {selector.cost.of_what}")
    dense = f"dense {selector.dense.score:.4f}"
    lines.append(f"{selector.words(found.measured)}, {dense}, on {counted(selector.images, 'image')}")
    return "\n".join(lines)
