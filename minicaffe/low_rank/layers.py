"""A layer's matrix product with a low-rank factor pair: which factors, in which order, and what they cost.

Shapes as in ``ops/convolution/geometry.py``: x (C, H, W, N), w (M, C/g, kh, kw), y (M, OH, OW, N); rank r for each
of g groups.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_variant
from minicaffe.device.array import Array
from minicaffe.errors import TrainingError
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.factors import DataBasis, FactoredWeights, Factors, TruncatedWeights, WeightBasis
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Merged, TwoStage, cost_of_rank, product_of_rank
from minicaffe.low_rank.schemes import ChannelScheme, Scheme, schemes
from minicaffe.ops.convolution.dense import DenseConvolution

logger = logging.getLogger("minicaffe")


class LowRank:
    """The factors of a layer and the products with them, one for each bottom.

    ``layer`` has made its dense parameters, blob 0 being w; ``dense`` are the dense products of its bottoms. Raises
    SpecError where the rank does not fit.
    """

    def __init__(
        self, layer: Layer, param: LowRankParam, scheme: Scheme, dense: Sequence[DenseConvolution]
    ) -> None:
        self.layer, self.param, self.scheme = layer, param, scheme
        full = scheme.matrix_shape[1] if param.target == "DATA" else min(scheme.matrix_shape)
        rank = param.most(full, cost_of_rank(dense[0], scheme))
        self.full_rank = full
        self.factors = self._make_factors(rank)
        self._has_warned = False
        self.fit(dense)

    def _make_factors(self, rank: int) -> Factors:
        layer, param, scheme = self.layer, self.param, self.scheme
        if param.factored:
            return FactoredWeights(layer, scheme, rank)
        if param.target == "DATA":
            return DataBasis(layer, scheme, param, rank)
        if param.used_refresh > 1:
            return WeightBasis(layer, scheme, param, rank)
        return TruncatedWeights(layer, scheme, param, rank)

    def fit(self, dense: Sequence[DenseConvolution]) -> None:
        """Follow a change of the bottoms' shapes."""
        self.dense = dense
        self._made: dict[int, tuple[int, TwoStage | Merged]] = {}
        self.factors.fit(dense[0])
        self._warn_if_costly()

    @property
    def rank(self) -> int:
        """r; with ``energy`` that of the latest factorization, and before it the most that r may be."""
        return self.factors.rank

    def product(self, index: int) -> TwoStage | Merged:
        """The product for a bottom at the present rank."""
        if index not in self._made or self._made[index][0] != self.rank:
            self._made[index] = self.rank, product_of_rank(self.dense[index], self.scheme, self.rank)
        return self._made[index][1]

    def factorize(self, x: Array) -> None:
        """Make the factors that all bottoms of this pass share; x is the first. Raises TrainingError."""
        try:
            self.filters = self.factors.filters(x.reshape(self.dense[0].geometry.shape))
        except np.linalg.LinAlgError as error:
            raise TrainingError(
                f"{self.layer.spec.where}: no factorization ({error}); are its weights and inputs finite numbers?"
            ) from None

    def forward(self, index: int, x: Array, out: Array, bias: Array | None) -> None:
        """Write y into ``out``."""
        x, product = x.reshape(self.dense[index].geometry.shape), self.product(index)
        product.forward(x, self.filters, out, bias)
        self.factors.after_forward(product, x)

    def backward(self, index: int, dy: Array, bias_out: Array | None, dx: Array | None) -> None:
        """Add the parameters' gradients; write db and dx, where they are given."""
        wanted = self.factors.wanted
        grads = self.product(index).backward(dy, wanted, bias_out, dx)
        if any(wanted):
            self.factors.add_grads(grads)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        return sum(self.product(i).multiply_adds for i in range(len(self.dense)))

    @property
    def cost(self) -> float:
        """The multiply-adds as a share of the dense layer's, were they made in two stages."""
        return self.rank * cost_of_rank(self.dense[0], self.scheme)

    def _warn_if_costly(self) -> None:
        if self.param.has("energy") or self._has_warned or not isinstance(self.product(0), Merged):
            return
        self._has_warned = True
        logger.warning(
            "Layer '%s': rank %d costs %.2f of the dense layer; the factors are multiplied first, which costs 1.00",
            self.layer.name, self.rank, self.cost,
        )  # fmt: skip

    @property
    def note(self) -> str:
        """What a summary says of the layer."""
        what = "data" if self.param.target == "DATA" else self.param.scheme.lower()
        share = f"{self.cost:.2f} of dense"
        if isinstance(self.product(0), Merged):
            share += ", so computed as dense"
        return f"rank {self.rank} of {self.full_rank}, {what}, {share}"


class LowRankLayer(Layer):
    """What Convolution and InnerProduct of low rank have in common; ``low_rank`` is made in their ``setup``."""

    low_rank: LowRank

    def canonical_weights(self, w: Array) -> Array:
        """w as (M, C/g, kh, kw)."""
        raise NotImplementedError

    def add_weight_grad(self, dw: Array) -> None:
        """Add dw (M, C/g, kh, kw) to the gradient of blob 0."""
        self.blobs[0].accumulate(lambda out: self.xp.copyto(self.canonical_weights(out), dw))

    def products_backward(self, index: int, dy: Array, dx: Array | None) -> None:
        """The gradients of the parameters and of one bottom."""
        bias = self.bias_blob
        wants_bias = bias is not None and self.param_propagate_down[self.blobs.index(bias)]
        db = self.new_array(bias.shape) if wants_bias else None
        self.low_rank.backward(index, dy, db, dx)
        if wants_bias:
            bias.accumulate(lambda out: self.xp.copyto(out, db))

    def multiply_adds(self, bottom: Any, top: Any) -> int:
        return self.low_rank.multiply_adds

    @property
    def note(self) -> str:
        return self.low_rank.note

    def state(self) -> dict[str, Any]:
        return {"iteration": self.low_rank.factors.iteration}

    def restore(self, state: dict[str, Any]) -> None:
        self.low_rank.factors.iteration = self.count_in(state, "iteration")

    def parameters_changed(self) -> None:
        self.low_rank.factors.parameters_changed()

    def converter(
        self, shapes: list[tuple[int, ...]]
    ) -> Callable[[list[np.ndarray]], list[np.ndarray]] | None:
        factors = self.low_rank.factors
        return factors.from_dense if shapes == factors.dense_shapes else None


@register_variant("Convolution", "low_rank_param", LowRankParam)
class LowRankConvolution(LowRankLayer, Convolution):
    """A Convolution with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.low_rank_param
        if self.spatial_axes == 3:
            raise param.error("", "is for one or two spatial axes, not 3; leave it out")
        if param.target == "DATA" and len(bottom) > 1:
            raise param.error(
                "target", f"'data' is for one bottom, not {len(bottom)}; give each a layer of its own"
            )
        super().reshape(bottom, top)
        self.bias_blob = self.blobs[1] if len(self.blobs) > 1 else None
        shape = (self.num_output, self.channels // self.group, *self.window.kernel)
        self.low_rank = LowRank(self, param, schemes[param.scheme](shape, self.group), self.products)

    def canonical_weights(self, w: Array) -> Array:
        return w.reshape(self.num_output, -1, *self.window.kernel)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.fit(self.products)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        b = None if self.bias_blob is None else self.bias_blob.data
        self.low_rank.factorize(self.images(bottom[0], bottom[0].stored))
        for i, (x, y) in enumerate(zip(bottom, top, strict=True)):
            out = self.images(y, y.stored)
            self.low_rank.forward(i, self.images(x, x.stored), out, b)
            self.put_back(out, y, y.stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (y, x) in enumerate(zip(top, bottom, strict=True)):
            dx = self.images(x, x.stored_diff) if propagate_down[i] else None
            self.products_backward(i, self.images(y, y.stored_diff), dx)
            if dx is not None:
                self.put_back(dx, x, x.stored_diff)


@register_variant("InnerProduct", "low_rank_param", LowRankParam)
class LowRankInnerProduct(LowRankLayer, InnerProduct):
    """An InnerProduct with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.low_rank_param
        self.transposed = self.spec.inner_product_param.transpose
        if param.scheme == "SPATIAL":
            raise param.error("scheme", "'spatial' splits a convolution's window; use 'channel'")
        if param.factored and self.transposed:
            raise param.error("factored", "factors have one order; leave out inner_product_param.transpose")
        self.bias_blob = self.blobs[1] if len(self.blobs) > 1 else None
        scheme = ChannelScheme((self.num_output, self.depth, 1, 1), 1)
        super().reshape(bottom, top)
        self.low_rank = LowRank(self, param, scheme, [self.as_product(bottom[0], top[0])[0]])

    def canonical_weights(self, w: Array) -> Array:
        return (w.T if self.transposed else w)[:, :, None, None]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.fit([self.as_product(bottom[0], top[0])[0]])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        b = None if self.bias_blob is None else self.bias_blob.data
        x, y = self.as_pixels(bottom[0], top[0])
        self.low_rank.factorize(x)
        self.low_rank.forward(0, x, y, b)
        self._put_back(y[:, 0, 0], top[0], top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, y = bottom[0], top[0]
        dx = self._columns(x, x.stored_diff, self.depth) if propagate_down[0] else None
        dy = self._columns(y, y.stored_diff, self.num_output)
        self.products_backward(0, dy[:, None, None], None if dx is None else dx[:, None, None])
        if dx is not None:
            self._put_back(dx, x, x.stored_diff)
