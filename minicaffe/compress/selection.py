"""Choosing ranks for all layers together: as cheap as a given loss of accuracy allows, or as good as a cost allows.

1. Each layer alone, at several costs, in its better scheme: how much the net's loss rises.
2. The cheapest plan on the hull of those curves that keeps the accuracy, or the cost, by bisection; the accuracy is
   measured with all layers of the plan approximated together.
3. The plan is verified on other batches; if it loses more there than it may, step 2 is repeated with less allowed,
   and so on by bisection. (So these batches influence the choice a little: figures to publish need yet others.)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from minicaffe.compress.batches import Batch
from minicaffe.compress.cost import FlopCost, TimeCost
from minicaffe.compress.curves import Curve, Point, best_within, cheapest, make_curve
from minicaffe.compress.journal import Journal
from minicaffe.compress.workbench import LayerRank, Measured, Plan, Workbench
from minicaffe.core.table import format_table
from minicaffe.errors import MinicaffeError
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")
SHARES = (0.05, 0.08, 0.12, 0.17, 0.24, 0.34, 0.48, 0.7)  # of a layer's dense multiply-adds
CURVE_BATCHES = 10  # for the curves; plans are measured on all
ROUNDS = 5  # of choosing and verifying
ON = {"chosen on": "the batches that plans are chosen on", "held out": "batches held out, to verify"}


@dataclass(frozen=True)
class Selection:
    """A plan, with its accuracy and loss on the batches that it was chosen on, and on held-out ones."""

    plan: Plan
    cost: float
    chosen_on: Measured
    held_out: Measured


class Selector:
    """``chosen_on`` and ``held_out`` are batches; ``cost`` a ``FlopCost`` or ``TimeCost``."""

    def __init__(
        self,
        bench: Workbench,
        chosen_on: Sequence[Batch],
        held_out: Sequence[Batch],
        cost: FlopCost | TimeCost,
        journal: Journal,
    ) -> None:
        self.bench, self.cost, self.journal = bench, cost, journal
        self.batches = {"curve": chosen_on[:CURVE_BATCHES], "chosen on": chosen_on, "held out": held_out}
        self._told: set[str] = set()
        self.dense = {name: self.measure({}, name) for name in self.batches}
        dense = self.dense["chosen on"]
        logger.info("Dense: %s, on %s", _words(dense, dense), ON["chosen on"])

    def measure(self, plan: Plan, on: str) -> Measured:
        """Accuracy and loss of a plan on the batches of that name; from the journal if it has them."""
        key = [on, sorted((name, choice.scheme, choice.rank) for name, choice in plan.items())]
        known = self.journal.get(key)
        if known is None:
            self.bench.approximate(plan)
            known = asdict(self.bench.measure(self.batches[on]))
            self.journal.note(key, known)
        return Measured(**known)

    def curves(self) -> dict[str, Curve]:
        """The curve of each layer."""
        steps = [(name, choice) for name in self.bench.candidates for choice in self.choices(name)]
        progress = Progress(len(steps))
        points: dict[str, list[Point]] = {name: [] for name in self.bench.candidates}
        for name, choice in steps:
            known = len(self.journal.known)
            rise = self.measure({name: choice}, "curve").loss - self.dense["curve"].loss
            points[name].append(Point(choice, self.cost.of(name, choice), rise))
            progress.say(
                f"{name}, {choice.scheme.lower()}, rank {choice.rank}: loss {rise:+.4f}",
                is_new=len(self.journal.known) > known,
            )
        return {name: self._curve(name, measured) for name, measured in points.items()}

    def _curve(self, name: str, measured: Sequence[Point]) -> Curve:
        dense = Point(None, self.cost.of(name, None), 0.0)
        return make_curve(dense, measured, lambda choice: self.cost.of(name, choice))

    def choices(self, name: str) -> list[LayerRank]:
        """The ranks to try for a layer: at each share of its cost, in the scheme that misses less."""
        candidate = self.bench.candidates[name]
        found: dict[LayerRank, None] = {}
        for share in SHARES:
            tried = [LayerRank(way, candidate.rank_for(way, share)) for way in candidate.schemes]
            affordable = [choice for choice in tried if candidate.share(choice) <= share]
            if affordable:
                found[max(affordable, key=lambda choice: self.bench.fit_alone(name, choice).energy)] = None
        return list(found)

    def within_drop(self, max_drop: float) -> Selection:
        """The cheapest plan that loses at most ``max_drop`` (0.02: two points) on the held-out batches."""
        curves = self.curves()
        best: Plan = {}
        safe, allowed, risky = 0.0, max_drop, max_drop  # losses to allow where plans are chosen
        for _ in range(ROUNDS):
            plan = self._cheapest(curves, allowed)
            if self._drop(plan, "held out") <= max_drop:
                best, safe = plan, allowed
            else:
                risky = allowed
            if safe == max_drop:
                break
            allowed = (safe + risky) / 2
        return self._selection(best)

    def _cheapest(self, curves: dict[str, Curve], allowed: float) -> Plan:
        """The cheapest plan that loses at most ``allowed`` on the batches that plans are chosen on."""
        return cheapest(curves, lambda plan: self._drop(plan, "chosen on") <= allowed)

    def within_cost(self, share: float) -> Selection:
        """The best plan whose cost is at most this share of the dense net's."""
        limit = share * self.cost.total({})
        plan = best_within(self.curves(), lambda plan: self.cost.total(plan) <= limit)
        if plan is None:
            raise MinicaffeError(
                f"no ranks bring {self.cost.name} down to {share:g} of {self.cost.of_what}; allow more"
            )
        return self._selection(plan)

    def _drop(self, plan: Plan, on: str) -> float:
        measured = self.measure(plan, on)
        drop = self.dense[on].accuracy - measured.accuracy
        share = self.cost.total(plan) / self.cost.total({})
        words = _words(measured, self.dense[on])
        line = f"{self.cost.name} {share:.3f} of {self.cost.of_what}: {words}, on {ON[on]}"
        if line not in self._told:  # a later round comes by the same plans
            logger.info("%s", line)
        self._told.add(line)
        return drop

    def _selection(self, plan: Plan) -> Selection:
        cost = self.cost.total(plan) / self.cost.total({})
        return Selection(plan, cost, self.measure(plan, "chosen on"), self.measure(plan, "held out"))


def table(selector: Selector, found: Selection) -> str:
    """What was chosen, one line for each layer, with its cost and its accuracy."""
    rows = []
    for name, candidate in selector.bench.candidates.items():
        choice = found.plan.get(name)
        way = ("dense", "")
        if choice:
            way = (choice.scheme.lower(), f"{choice.rank} of {candidate.full_rank(choice.scheme)}")
        share = candidate.share(choice) if choice else 1.0
        rows.append((name, *way, f"{share:.3f}"))
    rows.append(("all of them", "", "", f"{selector.bench.share(found.plan):.3f}"))
    lines = [format_table(("layer", "scheme", "rank", "multiply-adds"), rows, right=(2, 3))]
    if selector.cost.name != "FLOPs":
        lines.append(f"{selector.cost.name}: {found.cost:.3f} of {selector.cost.of_what}")
    for on, measured in (("chosen on", found.chosen_on), ("held out", found.held_out)):
        dense = selector.dense[on].accuracy
        drop = f"{100 * (measured.accuracy - dense):+.2f} points"
        lines.append(f"accuracy on {ON[on]}: {measured.accuracy:.4f} (dense {dense:.4f}, {drop})")
    return "\n".join(lines)


def _words(measured: Measured, dense: Measured) -> str:
    drop = 100 * (measured.accuracy - dense.accuracy)
    return f"accuracy {measured.accuracy:.4f} ({drop:+.2f} points), loss {measured.loss:.4f}"
