"""What low rank would lose and save, for a table: a good plan at each of some shares of the multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from minicaffe.compress.cost import FlopCost, ParamCost, TimeCost
from minicaffe.compress.curves import best_within
from minicaffe.compress.plan import Plan
from minicaffe.compress.prediction import Prediction
from minicaffe.compress.workbench import Workbench
from minicaffe.core.table import format_table

SHARES = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
HEAD = ("asked", "multiply-adds", "weights", "time ms", "ratio", "expected loss of {}", "most of it from")
NAMED = 3  # layers that carry most of a loss


@dataclass(frozen=True)
class Row:
    """A plan at ``share`` of the layers' multiply-adds.

    ``flops`` and ``params`` are shares of what these layers have dense, ``milliseconds`` those of a forward of the
    whole net, ``time`` as a share of the dense net's. ``drop``: what of its score it is expected to lose, or with
    ``is_beyond`` at least (``Prediction.is_beyond``). ``carried``: the share of that which each layer brings, the
    largest first.
    """

    share: float
    plan: Plan
    flops: float
    params: float
    milliseconds: float
    time: float
    drop: float
    is_beyond: bool
    carried: dict[str, float]


def rows(bench: Workbench, prediction: Prediction, shares: Sequence[float], time: TimeCost) -> list[Row]:
    """A row for each share that the layers' ranks can keep to."""
    flops, params, found = FlopCost(bench), ParamCost(bench), []
    curves = prediction.curves(flops)
    for share in shares:
        plan = best_within(curves, partial(_keeps_to, flops, share * flops.total({})))
        if plan is None:
            continue
        rises = {name: prediction.rise(name, choice) for name, choice in plan.items()}
        whole = sum(rises.values()) or 1.0
        carried = {name: rise / whole for name, rise in sorted(rises.items(), key=lambda x: -x[1])}
        found.append(
            Row(share, plan, flops.share(plan), params.share(plan),
                time.total(plan), time.share(plan), prediction.drop(plan),
                prediction.is_beyond(plan), carried)
        )  # fmt: skip
    return found


def _keeps_to(cost: FlopCost, limit: float, plan: Plan) -> bool:
    return cost.total(plan) <= limit


def table(bench: Workbench, found: Sequence[Row]) -> str:
    """The rows as a text table."""
    cells = [
        (f"{row.share:g}", f"{row.flops:.3f}", f"{row.params:.3f}", f"{row.milliseconds:.1f}", f"{row.time:.2f}",
         f"{'at least ' if row.is_beyond else ''}{100 * row.drop:.2f} points",
         ", ".join(f"{name} {100 * part:.0f} %" for name, part in list(row.carried.items())[:NAMED]))
        for row in found
    ]  # fmt: skip
    head = [title.format(bench.score.name) for title in HEAD]
    return format_table(head, cells, right=range(6))
