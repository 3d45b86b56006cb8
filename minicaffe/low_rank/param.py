"""``low_rank_param``: what a spec says of a layer's low rank."""

from __future__ import annotations

import yaml

from minicaffe.errors import SpecError
from minicaffe.low_rank.factorization import OVERSAMPLING, POWER_ITERATIONS
from minicaffe.low_rank.products import rank_within
from minicaffe.spec.fields import Bool, Enum, Field, Float, Int, Message
from minicaffe.spec.reader import Where

DATA_REFRESH = 100  # iterations: to make a basis of the data costs several dense steps


class Rank(Field[int | float | None]):
    """A whole number, or a fraction of the full rank in (0, 1)."""

    expects = "a whole number of at least 1, or a fraction of the full rank between 0 and 1"

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> int | float:
        try:
            value = int(text) if text.isdecimal() else float(text)
        except ValueError:
            value = 0
        if (isinstance(value, int) and value >= 1) or 0 < value < 1:
            return value
        raise SpecError(f"{where}: expected {self.expects}, got '{text}'")


def to_rank(given: int | float, full_rank: int) -> int:
    """A rank that is given as a whole number, or as a fraction of the full one: then it is 1 at least."""
    return given if isinstance(given, int) else max(1, round(given * full_rank))


class LowRankParam(Message):
    """The rank, by one of three fields, and what has that rank.

    ``rank``: a number, or a fraction of the full rank. ``energy``: the smallest rank that keeps this share of the
    squared singular values. ``flops``: the largest rank whose multiply-adds are at most this fraction of the dense
    layer's.

    ``target`` WEIGHTS: w ≈ left · right. DATA: X ≈ Q·(Qᵀ·X), so y = (w·Q)·(Qᵀ·X).
    ``scheme``, for weights: CHANNEL (w as M × C·kh·kw) or SPATIAL (w as C·kh × M·kw: kh × 1 windows, then 1 × kw).
    ``method``: SVD, GRAM or RANDOMIZED; the default is SVD for weights, GRAM for data.
    ``refresh``: in training, iterations between two factorizations; the default is 1 for weights, 100 for data.
    ``factored``: the factors are the layer's parameters.
    ``power_iterations``, ``oversampling``: of the range finder of RANDOMIZED.
    """

    may_be_absent = True

    rank = Rank()
    energy = Float(above=0, max=1)
    flops = Float(above=0)
    target = Enum("WEIGHTS", "DATA", default="WEIGHTS")
    scheme = Enum("CHANNEL", "SPATIAL", default="CHANNEL")
    method = Enum("SVD", "GRAM", "RANDOMIZED")
    refresh = Int(min=1)
    factored = Bool(False)
    power_iterations = Int(POWER_ITERATIONS, min=0)
    oversampling = Int(OVERSAMPLING, min=0)

    def check(self) -> None:
        given = [name for name in ("rank", "energy", "flops") if self.has(name)]
        if len(given) != 1:
            what = " and ".join(given) or "none"
            raise self.error("rank", f"give one of rank, energy and flops, not {what}")
        if self.target == "DATA" and self.scheme == "SPATIAL":
            raise self.error("scheme", "'spatial' factorizes weights; for target 'data' leave it out")
        if self.has("energy") and self.method_or_default == "RANDOMIZED":
            raise self.error("energy", "needs all singular values; use method svd or gram, or give rank")
        if self.target == "DATA" and self.factored:
            raise self.error(
                "factored", "only weights can be factored; use target 'weights', or leave it out"
            )
        if self.factored:
            self._check_factored()
        self._check_range_finder()

    def _check_factored(self) -> None:
        if self.has("energy"):
            raise self.error(
                "energy", "a factored layer needs its rank before it has weights; give rank or flops"
            )
        if self.has("refresh"):
            raise self.error(
                "refresh", "factors that are parameters are trained, not recomputed; leave it out"
            )
        if self.has("method"):
            raise self.error("method", "factors that are parameters start from an SVD; leave it out")

    def _check_range_finder(self) -> None:
        for name in ("power_iterations", "oversampling"):
            if self.has(name) and (self.factored or self.method_or_default != "RANDOMIZED"):
                raise self.error(name, "is for method 'randomized'; leave it out, or give that method")

    @property
    def method_or_default(self) -> str:
        """``method``, or the default for the target."""
        return self.method or ("GRAM" if self.target == "DATA" else "SVD")

    @property
    def refresh_or_default(self) -> int:
        """``refresh``, or the default for the target."""
        return self.refresh or (DATA_REFRESH if self.target == "DATA" else 1)

    def max_rank(self, full_rank: int, cost_of_rank: float) -> int:
        """The rank; for ``energy``, which finds it later, the largest possible.

        ``cost_of_rank`` is the cost of one more rank as a share of the dense layer's cost. Raises SpecError.
        """
        if self.rank is not None:
            if self.rank > full_rank:
                raise self.error("rank", f"{self.rank} is more than the full rank, {full_rank}; lower it")
            return to_rank(self.rank, full_rank)
        if self.flops is not None:
            fitting = rank_within(self.flops, cost_of_rank)
            if fitting < 1:
                raise self.error("flops", f"rank 1 costs {cost_of_rank:.4f} of dense already; give more")
            return min(full_rank, fitting)
        return full_rank
