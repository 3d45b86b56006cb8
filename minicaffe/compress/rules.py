"""Ranks without data: ``conv2=12``, ``fc*=0.25``, a share of the multiply-adds, or of the weights' energy.

    rank        a number, or a fraction of the full rank
    flops       the largest rank that costs at most this share of the dense layer's multiply-adds
    energy      the smallest rank whose truncated SVD keeps this share of Σσ² of the weights

Of several rules for a layer the last one holds. Ranks may be rounded down to a multiple, as processors like it. A
layer stays dense where its rank would be the full one, or would save nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.plan import Candidate, LayerRank, candidate
from minicaffe.compress.suitable import PARAM_OF_TYPE, chosen_steps, why_dense
from minicaffe.compress.truncated import TrainedLayer
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.products import cost_of_rank
from minicaffe.low_rank.schemes import factor_count


@dataclass(frozen=True)
class Rule:
    """What ranks some layers get: ``kind`` says what ``value`` is, "rank", "flops" or "energy".

    ``patterns`` name the layers, as in ``chosen_steps``.
    """

    patterns: Sequence[str] | None
    kind: str
    value: float


def to_multiple(rank: int, multiple: int, full_rank: int) -> int | None:
    """A rank rounded down to a multiple, at least to one; None where that is the full rank or more: stay dense."""
    rounded = max(multiple, rank - rank % multiple)
    return rounded if rounded < full_rank else None


@dataclass(frozen=True)
class Ruled:
    """What a rule makes of a layer: a rank (``choice``), or dense, for the reason ``why``.

    Where its weights are known, ``arrays`` are its parameters then, and ``energy`` the share of Σσ² that is kept.
    """

    step: Step
    candidate: Candidate
    choice: LayerRank | None
    why: str
    arrays: list[np.ndarray] | None = None
    energy: float | None = None

    @property
    def added(self) -> tuple[int, int]:
        """How many parameters and multiply-adds (of one image) the layer has more than before."""
        layer, found, choice = self.step.layer, self.candidate, self.choice
        before = (
            layer.computed_counts() if isinstance(layer, LowRankLayer) else [b.count for b in layer.blobs]
        )
        scheme = found.scheme(choice.scheme if choice else "CHANNEL")
        after = factor_count(scheme, choice.rank) if choice else math.prod(scheme.shape)
        has_bias = getattr(layer.spec, PARAM_OF_TYPE[layer.type]).bias_term
        cost = round(found.cost * found.share(choice)) if choice else found.cost
        return after + has_bias * scheme.shape[0] - sum(before), cost - self.step.multiply_adds


def resolve(
    net: Net,
    rules: Iterable[Rule],
    without: Sequence[str] = (),
    scheme: str = "CHANNEL",
    multiple: int = 1,
    has_weights: bool = False,
) -> dict[str, Ruled]:
    """What the rules make of a net's layers, by name: of those that a rule is for. Raises SpecError, WeightError.

    ``without`` are patterns of layers that no rule is for. ``has_weights``: the net's are trained ones; else there
    can be no rule for their energy.
    """
    last: dict[str, Rule] = {}
    for rule in rules:
        last |= {step.layer.name: rule for step in chosen_steps(net, rule.patterns, without)}
    steps = [step for step in net.steps if step.layer.name in last]
    return {s.layer.name: _ruled(s, last[s.layer.name], scheme, multiple, has_weights) for s in steps}


def _ruled(step: Step, rule: Rule, scheme: str, multiple: int, has_weights: bool) -> Ruled:
    found = candidate(step)
    way = found.possible(scheme)
    trained = TrainedLayer(step, found.scheme(way)) if has_weights else None
    full = found.full_rank(way)
    rank, why = _wanted(step, rule, found, way, trained)
    if not why:
        rounded = to_multiple(rank, multiple, full)
        choice = LayerRank(way, rounded or full)
        if rounded is None:
            why = f"rank {max(rank, multiple)} is not below the full rank, {full}"
        elif found.share(choice) >= 1:
            why = f"rank {rounded} of {full} saves nothing"
    if why:
        return Ruled(step, found, None, why, trained.dense() if trained else None)
    if trained is None:
        return Ruled(step, found, choice, "")
    return Ruled(step, found, choice, "", trained.factored(choice.rank), trained.energy(choice.rank))


def _wanted(
    step: Step, rule: Rule, found: Candidate, way: str, trained: TrainedLayer | None
) -> tuple[int, str]:
    """The rank that a rule asks for, or why there is none. Raises SpecError for more than the full one."""
    full, layer = found.full_rank(way), step.layer
    if rule.kind == "flops":
        least = cost_of_rank(found.product, found.scheme(way))
        too_much = f"rank 1 costs {least:.2f} of dense already" if least > rule.value else ""
        return found.rank_for(way, rule.value), too_much
    if rule.kind == "energy":
        assert trained is not None
        return trained.svd.rank_for(rule.value), ""
    if rule.value < 1:
        return found.part_of_rank(way, rule.value), ""
    if rule.value > full and layer.name in (rule.patterns or ()):
        raise layer.spec.error("", f"rank {rule.value} is more than the full rank, {full}; lower it")
    return int(rule.value), ""


def table(net: Net, ruled: dict[str, Ruled]) -> str:
    """A line for each Convolution and InnerProduct: its rank and what that costs, or why it is dense."""
    knows_weights = any(found.arrays for found in ruled.values())
    rows = []
    for step in net.steps:
        if isinstance(step.layer, Convolution | InnerProduct):
            rows.append((step.layer.name, *_cells(step, ruled.get(step.layer.name))))
    head = ["layer", "scheme", "rank", "multiply-adds", "energy kept", ""]
    shown = [i for i in range(len(head)) if i != 4 or knows_weights]
    picked = [[row[i] for i in shown] for row in rows]
    return format_table([head[i] for i in shown], picked, right=(2, 3, *shown[4:-1]))


def _cells(step: Step, found: Ruled | None) -> tuple[str, str, str, str, str]:
    """Scheme, rank, share of the multiply-adds, energy kept, and what else there is to say."""
    layer = step.layer
    if found is None and isinstance(layer, LowRankLayer):
        return "as before", "", "", "", layer.note
    if found is None or found.choice is None:
        why = found.why if found else why_dense(step) or "no rule is for it"
        return "dense", "", "", "", why
    choice, full = found.choice, found.candidate.full_rank(found.choice.scheme)
    share = found.candidate.share(choice)
    energy = "" if found.energy is None else f"{found.energy:.3f}"
    return choice.scheme.lower(), f"{choice.rank} of {full}", f"{share:.3f}", energy, ""
