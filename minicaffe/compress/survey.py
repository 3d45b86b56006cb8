"""What each layer of a net would lose at low rank: its weights, and the moments of its inputs over some batches.

The net may have layers of low rank already: their weights are those that they approximate, or, if the factors are
the parameters (``factored: true``), the product of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.batches import Batch
from minicaffe.compress.moment_sums import MomentSums, dense_product, summed
from minicaffe.compress.moments import Moments
from minicaffe.compress.suitable import why_no_matrix
from minicaffe.compress.ways import WAYS, Directions
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.factors import FactoredWeights
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.products import TwoStage
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.convolution.dense import DenseConvolution


@dataclass(frozen=True)
class MatrixLayer:
    """A layer as one matrix product: the dense product, its weights W (g, m, k) and bias (M,).

    ``rank`` is the one that the layer has already, in the way ``way`` (one of ``WAYS``, or "spatial"); None if it
    is dense. With ``factored`` parameters W has no higher rank.
    """

    name: str
    product: DenseConvolution
    weights: Array
    bias: Array | None
    rank: int | None = None
    way: str | None = None
    factored: bool = False

    @property
    def scheme(self) -> ChannelScheme:
        """How the weights are a matrix."""
        return _scheme(self.product)

    @property
    def full_rank(self) -> int:
        """The rank that loses nothing."""
        return min(self.scheme.matrix_shape)

    @property
    def cost_of_rank(self) -> int:
        """Multiply-adds of one image for each rank, while the two factors are applied one after the other."""
        return TwoStage(self.product, self.scheme, 1).multiply_adds

    @property
    def break_even(self) -> int:
        """The largest rank that costs no more than the dense layer: ⌊m·k / (m + k)⌋."""
        return min(self.full_rank, self.product.geometry.multiply_adds // self.cost_of_rank)

    def directions(self, way: str, moments: Moments) -> Directions:
        """What is kept at every rank in one of ``WAYS``. Without a bias, nothing makes up for means."""
        return WAYS[way](self.weights, self._seen(moments))

    def bias_change(self, way: str, moments: Moments, found: Directions, rank: int) -> Array:
        """b̂ − b (M,) of a rank: what makes up for means in the way "fitted", and 0 in the others."""
        means = self.means(moments)
        if way != "fitted":
            return 0 * means.reshape(-1)
        v = found.vectors[..., :rank]
        change: Array = means - v @ (v.swapaxes(1, 2) @ means)
        return change.reshape(-1)

    def error(self, way: str, found: Directions, rank: int, fitted: Moments, seen: Moments) -> float:
        """√(E‖y − ŷ‖² / E‖W·x‖²) for the inputs ``seen``, of directions that were ``found`` for those ``fitted``.

        Where these are the same inputs, it is what ``found.response_errors`` has for the rank.
        """
        xp, kept, w = module_of(self.weights), found.vectors[..., :rank], self.weights.astype(np.float64)
        turned = kept.swapaxes(1, 2)
        missed = w - ((w @ kept) @ turned if way == "data" else kept @ (turned @ w))
        shift = self.bias_change(way, fitted, found, rank).reshape(*w.shape[:2], 1)
        seen = self._seen(seen)
        means = missed @ seen.x_mean[:, :, None] - shift
        lost = xp.einsum("gmk,gmk->", seen.times(missed), missed) + (means * means).sum()
        answers = xp.einsum("gmk,gmk->", seen.times_second(w), w)
        return float(xp.sqrt(lost / (answers + (answers == 0))))

    def means(self, moments: Moments) -> Array:
        """W·x̄ (g, m, 1); zeros for a layer without a bias."""
        means: Array = self.weights @ self._seen(moments).x_mean[:, :, None]
        return means

    def _seen(self, moments: Moments) -> Moments:
        return moments if self.bias is not None else moments.uncentred()


def matrix_layer(step: Step) -> MatrixLayer | str:
    """The layer as one matrix product, or in a few words why it is none that could be of low rank."""
    problem = why_no_matrix(step)
    if problem is not None:
        return problem
    layer = step.layer
    assert isinstance(layer, Convolution | InnerProduct)
    product, _, _ = dense_product(layer, step.bottom[0], step.top[0])
    bias = layer.blobs[1].data if len(layer.blobs) > 1 else None
    if isinstance(layer, LowRankLayer):
        return _low_rank_layer(layer, product)
    w = layer.stages()[0].weights
    return MatrixLayer(layer.name, product, _matrix(product, layer.setting.device.put(w)), bias)


def _low_rank_layer(layer: LowRankLayer, product: DenseConvolution) -> MatrixLayer:
    low_rank, factors = layer.low_rank, layer.low_rank.factors
    factored = isinstance(factors, FactoredWeights)
    if isinstance(factors, FactoredWeights):
        left, right = factors.scheme.factors(*factors.fixed_filters())
        w = factors.scheme.weights(left @ right)
    else:
        w = factors.scheme.weights(factors.weights.value())
    way = "data" if low_rank.param.target == "DATA" else "weights"
    if low_rank.param.scheme == "SPATIAL":
        way = "spatial"
    bias = None if layer.bias_blob is None else layer.bias_blob.data
    return MatrixLayer(layer.name, product, _matrix(product, w), bias, low_rank.rank, way, factored)


def _scheme(product: DenseConvolution) -> ChannelScheme:
    return ChannelScheme(product.geometry.weight_shape, product.geometry.group)


def _matrix(product: DenseConvolution, w: Array) -> Array:
    return _scheme(product).matrix(w.reshape(product.geometry.weight_shape))


def input_moments(net: Net, layers: Sequence[MatrixLayer], batches: Sequence[Batch]) -> dict[str, Moments]:
    """The moments of what some layers of a net see, of all columns, and of W times that."""
    return summed(net, {layer.name: MomentSums(layer.weights) for layer in layers}, batches)
