"""What a plan costs: multiply-adds, weights, or measured milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import numpy as np

from minicaffe.compress.batches import Batch, run
from minicaffe.compress.plan import DATA_BASES, Candidate, LayerRank, Plan, candidate
from minicaffe.compress.stopwatch import seconds, warn_of_noise
from minicaffe.compress.workbench import Workbench
from minicaffe.device.array import Array
from minicaffe.device.workers import one_blas_thread
from minicaffe.low_rank.products import product_of_rank
from minicaffe.low_rank.schemes import factor_count
from minicaffe.ops.remember import constant

REPEATS = 7  # times of a call, or fewer where they take long
LEAST_REPEATS, ENOUGH = 3, 0.05  # seconds, all together


class Cost:
    """What a bench's candidates cost, and ``rest``, what all else does where that counts too.

    ``name`` is what is counted; ``of_what`` it is shares.
    """

    name: str
    of_what: str
    rest = 0.0

    def __init__(self, bench: Workbench) -> None:
        self.candidates = bench.candidates

    def of(self, name: str, choice: LayerRank | None) -> float:
        """The cost of one layer at a rank; None: dense."""
        raise NotImplementedError

    def total(self, plan: Plan) -> float:
        """The cost of all under a plan."""
        return self.rest + sum(self.of(name, plan.get(name)) for name in self.candidates)

    def share(self, plan: Plan) -> float:
        """The cost under a plan, as a share of what it is when all layers are dense."""
        return self.total(plan) / self.total({})


class FlopCost(Cost):
    """Multiply-adds of the candidates, for one image."""

    name = "FLOPs"
    of_what = "these layers when dense"

    def of(self, name: str, choice: LayerRank | None) -> float:
        candidate = self.candidates[name]
        return candidate.cost * (candidate.share(choice) if choice else 1.0)


class ParamCost(Cost):
    """Weights of the candidates."""

    name = "parameters"
    of_what = "these layers' weights when dense"

    def of(self, name: str, choice: LayerRank | None) -> float:
        candidate = self.candidates[name]
        dense = math.prod(candidate.product.geometry.weight_shape)
        if choice is None:
            return dense
        scheme = candidate.scheme(choice.scheme)
        if choice.scheme in DATA_BASES:  # the weights stay, and the basis is added
            return dense + scheme.group * scheme.matrix_shape[1] * choice.rank
        return min(dense, factor_count(scheme, choice.rank))


class TimeCost(Cost):
    """Milliseconds of a forward pass of the whole net, for a batch like ``batch``.

    Layers are timed at some ranks, and in between by a straight line. Time them on an idle machine: a
    warning says so where the times of the dense net scatter too much.
    """

    name = "time"
    of_what = "the dense net"

    def __init__(self, bench: Workbench, batch: Batch) -> None:
        run(bench.original, batch)  # so that layers have seen the shapes of this batch
        steps = {step.layer.name: step for step in bench.original.steps}
        self.candidates = {name: candidate(steps[name]) for name in bench.candidates}
        self._rng = bench.original.setting.device.rng(0)
        self._known: dict[tuple[str, str, int], float] = {}
        self._room: dict[str, Array] = {}
        times: list[float] = []  # of the whole net, before and after its layers are timed

        def whole() -> float:
            return _milliseconds(lambda: run(bench.original, batch), times)

        early = whole()
        self._dense = {name: self._measure_dense(c) for name, c in self.candidates.items()}
        self.rest = max(0.0, (early + whole()) / 2 - sum(self._dense.values()))
        warn_of_noise(times, "the dense net")

    def of(self, name: str, choice: LayerRank | None) -> float:
        if choice is None:
            return self._dense[name]
        full = self.candidates[name].full_rank(choice.scheme)
        below = _grid_below(choice.rank)
        above = min(full, _grid_above(choice.rank))
        low, high = (self._at(name, choice.scheme, rank) for rank in (below, above))
        part = (choice.rank - below) / (above - below) if above > below else 0.0
        return low + part * (high - low)

    def _at(self, name: str, scheme: str, rank: int) -> float:
        key = (name, scheme, rank)
        if key not in self._known:
            self._known[key] = self._measure(self.candidates[name], scheme, rank)
        return self._known[key]

    def _measure_dense(self, candidate: Candidate) -> float:
        x, out = self._arrays(candidate)
        w = constant(self._noise(next(iter(candidate.schemes.values())).shape))  # as a net's are
        return _milliseconds(lambda: candidate.product.forward(x, w, out))

    def _measure(self, candidate: Candidate, scheme: str, rank: int) -> float:
        product = product_of_rank(candidate.product, candidate.scheme(scheme), rank)
        x, out = self._arrays(candidate)
        (hidden, *window), (filters, _, *other) = candidate.scheme(scheme).filter_shapes
        first, second = self._noise((hidden * rank, *window)), self._noise((filters, rank, *other))
        pair = constant(first), constant(second)
        return _milliseconds(lambda: product.forward(x, pair, out))

    def _arrays(self, candidate: Candidate) -> tuple[Array, Array]:
        """An input and room for an output."""
        geometry = candidate.product.geometry
        return self._numbers("input", geometry.shape), self._numbers("output", geometry.output_shape)

    def _numbers(self, of: str, shape: tuple[int, ...]) -> Array:
        """An array that later calls reuse: making noise for one takes longer than a layer."""
        size = math.prod(shape)
        if of not in self._room or self._room[of].size < size:
            self._room[of] = self._noise((size,))
        return self._room[of][:size].reshape(shape)

    def _noise(self, shape: tuple[int, ...]) -> Array:
        noise: Array = self._rng.standard_normal(shape, dtype=np.float32)
        return noise


def _grid_below(rank: int) -> int:
    return rank - rank % _spacing(rank)


def _grid_above(rank: int) -> int:
    return -(-rank // _spacing(rank)) * _spacing(rank)


def _spacing(rank: int) -> int:
    """A power of two, an eighth to a quarter of the rank; 1 for ranks below 8."""
    return 1 << max(0, rank.bit_length() - 3)


def _milliseconds(call: Callable[[], object], times: list[float] | None = None) -> float:
    """The median time of a call; the times themselves are added to ``times``."""
    with one_blas_thread():
        seconds(call)  # the first finds new memory
        found: list[float] = []
        while len(found) < LEAST_REPEATS or (len(found) < REPEATS and sum(found) < ENOUGH):
            found.append(seconds(call))
    if times is not None:
        times += found
    return median(found) * 1e3
