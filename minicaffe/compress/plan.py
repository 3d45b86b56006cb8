"""What a plan is: a rank for some layers of a net, each in one of the schemes that its weights have.

A ``Candidate`` is a layer that may get a rank, and knows what a rank costs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicaffe.compress import moment_sums
from minicaffe.core.graph import Step
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.param import to_rank
from minicaffe.low_rank.products import cost_of_rank, rank_within
from minicaffe.low_rank.schemes import Scheme, schemes
from minicaffe.ops.convolution.dense import DenseConvolution

DATA_BASES = ("DATA", "BASIS")  # of target data: its principal components; chosen for the responses


@dataclass(frozen=True, order=True)
class LayerRank:
    """How one layer is approximated: ``scheme`` is CHANNEL, SPATIAL, or a basis of the data, DATA or BASIS."""

    scheme: str
    rank: int


Plan = Mapping[str, LayerRank]  # layer names to ranks; a layer that is not in it stays dense


@dataclass
class Candidate:
    """A layer that may be approximated: its dense product, its weights' schemes, its multiply-adds per image."""

    name: str
    product: DenseConvolution
    schemes: dict[str, Scheme]
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        self.cost = self.product.geometry.multiply_adds
        self._costs_of_rank = {way: cost_of_rank(self.product, its) for way, its in self.schemes.items()}

    def scheme(self, name: str) -> Scheme:
        """The scheme of that name; a basis of the data has the two stages of CHANNEL."""
        return self.schemes["CHANNEL" if name in DATA_BASES else name]

    def has(self, scheme: str) -> bool:
        """Whether the layer has a scheme: a window of one pixel has no spatial one."""
        return scheme in self.schemes or scheme in DATA_BASES

    def possible(self, scheme: str) -> str:
        """The scheme, or CHANNEL where the layer does not have it."""
        return scheme if self.has(scheme) else "CHANNEL"

    def full_rank(self, scheme: str) -> int:
        """The rank that loses nothing."""
        shape = self.scheme(scheme).matrix_shape
        return shape[1] if scheme in DATA_BASES else min(shape)

    def part_of_rank(self, scheme: str, fraction: float) -> int:
        """A fraction of the full rank, at least 1."""
        return to_rank(float(fraction), self.full_rank(scheme))

    def share(self, choice: LayerRank) -> float:
        """The multiply-adds at a rank as a share of the dense layer's."""
        return min(1.0, choice.rank * self.cost_of_rank(choice.scheme))

    def cost_of_rank(self, scheme: str) -> float:
        """The multiply-adds of one more rank as a share of the dense layer's."""
        return self._costs_of_rank["CHANNEL" if scheme in DATA_BASES else scheme]

    def rank_for(self, scheme: str, share: float) -> int:
        """The largest rank that costs at most this share, at least 1."""
        fitting = rank_within(share, self.cost_of_rank(scheme))
        return max(1, min(fitting, self.full_rank(scheme)))


def candidate(step: Step) -> Candidate:
    """The layer of a step, which can be of low rank."""
    product, _, _ = moment_sums.dense_product(step.layer, step.bottom[0], step.top[0])
    geometry = product.geometry
    ways = ["CHANNEL"] if {*geometry.window.kernel} == {1} else list(schemes)
    made = {way: schemes[way](geometry.weight_shape, geometry.group) for way in ways}
    return Candidate(step.layer.name, product, made)


def rank_of(layer: LowRankLayer) -> LayerRank:
    """How a net's spec says that a layer is approximated. Raises SpecError where its rank is not fixed."""
    param = layer.low_rank.param
    if param.has("energy"):
        raise param.error(
            "energy", "is found in every factorization anew; to apply ranks, give rank or flops"
        )
    return LayerRank("BASIS" if param.target == "DATA" else param.scheme, layer.low_rank.rank)
