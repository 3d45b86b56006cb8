"""Accuracy, energy, multiply-adds and time against rank: each layer alone, and all of them at once.

The experiment of Osawa et al. 2017, for data matrices (``DATA``) and for weights (``CHANNEL``, ``SPATIAL``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from minicaffe.compress.batches import Batch
from minicaffe.compress.cost import FlopCost, TimeCost
from minicaffe.compress.journal import Journal
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.workbench import Workbench
from minicaffe.core.table import format_table
from minicaffe.errors import DataError
from minicaffe.train.progress import Progress

FRACTIONS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
ALL = "all layers"
HEAD = ("layer", "rank kept", "rank", "accuracy", "loss", "energy", "FLOPs", "time ms")


@dataclass(frozen=True)
class Row:
    """One layer, or all, at a fraction of the full rank.

    ``energy``: the share of the data's energy (DATA) or of the responses' variance that is kept, in the layer that
    keeps least; ``flops``: the candidates' multiply-adds as a share of the dense ones; ``milliseconds``: a
    forward of the whole net, added up from timed layers (``TimeCost``).
    """

    layer: str
    fraction: float
    ranks: list[int]
    accuracy: float
    loss: float
    energy: float
    flops: float
    milliseconds: float


def sweep(
    bench: Workbench,
    batches: Sequence[Batch],
    scheme: str,
    journal: Journal,
    fractions: Sequence[float] = FRACTIONS,
) -> list[Row]:
    """The rows of all layers, then those of all at once; the dense net is the row of fraction 1."""
    scheme_of = {name: candidate.possible(scheme) for name, candidate in bench.candidates.items()}
    groups = {**{name: [name] for name in bench.candidates}, ALL: list(bench.candidates)}
    below = [fraction for fraction in fractions if fraction < 1]
    steps = [(group, fraction) for group in groups for fraction in (*below, 1.0)]
    time, progress, rows = TimeCost(bench, batches[0]), Progress(len(steps)), []
    for group, fraction in steps:
        known = journal.get([scheme, group, fraction])
        is_new = known is None
        if is_new:
            plan = {
                name: LayerRank(
                    scheme_of[name], bench.candidates[name].part_of_rank(scheme_of[name], fraction)
                )
                for name in groups[group]
                if fraction < 1
            }
            known = asdict(_measure(bench, batches, plan, time, group, fraction))
            journal.note([scheme, group, fraction], known)
        rows.append(Row(**known))
        progress.say(" ".join(_cells(rows[-1])), is_new)
    return rows


def read_rows(path: Path) -> dict[str, list[Row]]:
    """The rows of each scheme in a sweep's journal; of several runs the latest row for a layer and fraction counts.

    Raises DataError for a file that is none.
    """
    found: dict[str, dict[tuple[str, float], Row]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise DataError(f"{path}: cannot be read as a journal of 'lowrank sweep' ({reason})") from None
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):  # an incomplete line, or one of lowrank select
            entry = json.loads(line)
            scheme, group, fraction = json.loads(entry["key"])
            found.setdefault(scheme, {})[group, fraction] = Row(**entry["value"])
    if not any(found.values()):
        raise DataError(
            f"{path}: has no rows of 'lowrank sweep'; give the .journal.jsonl that it writes beside its plot"
        )
    return {scheme: list(rows.values()) for scheme, rows in found.items()}


def _measure(
    bench: Workbench,
    batches: Sequence[Batch],
    plan: dict[str, LayerRank],
    time: TimeCost,
    group: str,
    fraction: float,
) -> Row:
    fits = bench.approximate(plan)
    measured = bench.measure(batches)
    energy = min((found.energy for found in fits.values()), default=1.0)
    ranks = [choice.rank for choice in plan.values()]
    return Row(
        group,
        fraction,
        ranks,
        measured.score,
        measured.loss,
        energy,
        FlopCost(bench).share(plan),
        time.total(plan),
    )


def table(rows: Sequence[Row], score: str = "accuracy") -> str:
    """The rows as a text table; ``score`` is what was measured."""
    head = tuple(score if name == "accuracy" else name for name in HEAD)
    return format_table(head, [_cells(row) for row in rows], right=range(1, len(HEAD)))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.layer, f"{row.fraction:.2f}", "-".join(map(str, row.ranks)) or "full", f"{row.accuracy:.4f}",
        f"{row.loss:.4f}", f"{row.energy:.4f}", f"{row.flops:.3f}", f"{row.milliseconds:.1f}",
    )  # fmt: skip
