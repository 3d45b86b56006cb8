"""Layers of low rank: w ≈ left · right, or X ≈ Q·(Qᵀ·X), so that one GEMM becomes two thin ones.

Shapes as in ``layers/convolution.py``, with rank r for each of g groups; InnerProduct is convolution of one-pixel
images.

    weights, channel y = A · (B · X) + b  A (M/g, r), B (r, C/g·kh·kw)
    weights, spatial y = H ∗ (V ∗ x) + b  V (g·r, C/g, kh, 1), H (M, r, 1, kw)
    data             y = (w·Q)·(Qᵀ·X) + b Q (C/g·kh·kw, r)

Backward goes through the same two stages: dx = col2im(Bᵀ · (Aᵀ · dy)), dA = dy · (B·X)ᵀ, dB = (Aᵀ·dy) · Xᵀ. Where A
and B come from, and what becomes of dA and dB, is in ``factors.py``; the two stages are in ``products.py``. After
Osawa et al., HPCS 2017, doi 10.1109/HPCS.2017.37.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_variant
from minicaffe.device.array import Array, to_host
from minicaffe.device.workers import Calls
from minicaffe.errors import SpecError, TrainingError, WeightError
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct, InnerProductParam
from minicaffe.layers.matrix_product import MatrixProduct, Stage
from minicaffe.low_rank.data_basis import DataBasis
from minicaffe.low_rank.factors import FactoredWeights, Factors, TruncatedWeights, WeightBasis, WeightMatrix
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Filters, OneStage, TwoStage, cost_of_rank, product_of_rank
from minicaffe.low_rank.schemes import factor_count, schemes
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.epilogue import Epilogue

logger = logging.getLogger("minicaffe")


class LowRank:
    """What a layer of low rank computes with: its factors, and a product for each bottom.

    ``weights`` are the layer's dense ones, ``dense`` the dense products of its bottoms. Raises SpecError where the
    rank does not fit.
    """

    def __init__(
        self, layer: Layer, param: LowRankParam, weights: WeightMatrix, dense: Sequence[DenseConvolution]
    ) -> None:
        self.layer, self.param, self.scheme = layer, param, weights.scheme
        m, n = self.scheme.matrix_shape
        self.full_rank = n if param.target == "DATA" else min(m, n)
        rank = param.max_rank(self.full_rank, cost_of_rank(dense[0], self.scheme))
        self.factors = _make_factors(layer, param, weights, rank, dense[0])
        self.dense = dense
        self._products: list[TwoStage | OneStage] = []
        self._rank_of_products = 0
        self._has_warned = False
        self._warn_if_costly()

    def reshape(self, dense: Sequence[DenseConvolution]) -> None:
        """Follow a change of the bottoms' shapes."""
        self.dense = dense
        self._rank_of_products = 0
        self.factors.reshape(dense[0])
        self._warn_if_costly()

    @property
    def rank(self) -> int:
        """r; with ``energy`` that of the latest factorization, and before the first the largest possible."""
        return self.factors.rank

    @property
    def is_rank_known(self) -> bool:
        """Whether ``rank`` is the present one: with ``energy`` it is not before the first factorization."""
        return self.param.energy is None or self.factors.are_made

    def product(self, index: int) -> TwoStage | OneStage:
        """The product for one bottom at the present rank."""
        if self._rank_of_products != self.rank:
            self._products = [product_of_rank(dense, self.scheme, self.rank) for dense in self.dense]
            self._rank_of_products = self.rank
        return self._products[index]

    def filters(self, x: Array) -> Filters:
        """The factors, which all bottoms share; x is the first of them. Raises TrainingError."""
        with self._factorizing():
            return self.factors.filters(x.reshape(self.dense[0].geometry.shape))

    def energy_kept(self) -> float | None:
        """The share of ‖W‖² that the factors keep of the weights as they are; with ``energy`` this finds the rank.

        None where there is no W to compare with: the factors are parameters, or of the data. Raises TrainingError.
        """
        if self.param.factored or self.param.target == "DATA":
            return None
        with self._factorizing():
            filters = self.factors.fixed_filters()
        if filters is None:
            return None
        w, (left, right) = self.factors.weights.value(), self.scheme.factors(*filters)
        whole, lost = (float((x.astype(np.float64) ** 2).sum()) for x in (w, w - left @ right))
        return 1 - lost / whole if whole else 1.0

    @contextmanager
    def _factorizing(self) -> Iterator[None]:
        try:
            yield
        except np.linalg.LinAlgError as error:
            raise TrainingError(
                f"{self.layer.spec.where}: no factorization ({error}); are its weights and inputs finite numbers?"
            ) from None

    def forward(
        self,
        index: int,
        x: Array,
        filters: Filters,
        out: Array,
        bias: Array | None,
        epilogue: Epilogue | None = None,
    ) -> None:
        """Write y of one bottom, or what the epilogue makes of it, into ``out``."""
        x, product = x.reshape(self.dense[index].geometry.shape), self.product(index)
        product.forward(x, filters, out, bias, epilogue)
        self.factors.after_forward(product, x)

    def backward(
        self, index: int, dy: Array, learns: Sequence[bool], bias_out: Array | None, dx: Array | None
    ) -> None:
        """Add the gradients of the weights or factors that learn; write db and dx where they are given."""
        needed = self.factors.gradients_needed(learns)
        self.factors.add_gradients(self.product(index).backward(dy, needed, bias_out, dx))

    def fixed_convolutions(self) -> list[tuple[Array, Window]]:
        """The filters (M, C/g, kh, kw) and windows that a test net convolves with, one after the other.

        Raises SpecError where every batch has filters of its own.
        """
        filters = self.factors.fixed_filters()
        if filters is None:
            raise SpecError(
                f"{self.layer.spec.where}: computes a basis from each batch, as none is stored, so it has no fixed "
                "filters to take out; train the layer, which stores a basis, or use target 'weights'"
            )
        window = self.dense[0].geometry.window
        if isinstance(self.product(0), OneStage):
            left, right = self.scheme.factors(*filters)
            return [(self.scheme.weights(left @ right), window)]
        return list(zip(filters, self.scheme.windows(window), strict=True))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image."""
        return sum(self.product(i).multiply_adds for i in range(len(self.dense)))

    @property
    def weight_count(self) -> int:
        """The numbers of the two factors, or of W where that is what is multiplied with."""
        if isinstance(self.product(0), OneStage):
            return math.prod(self.scheme.shape)
        return factor_count(self.scheme, self.rank)

    @property
    def cost(self) -> float:
        """The multiply-adds of two stages as a share of the dense layer's."""
        return self.rank * cost_of_rank(self.dense[0], self.scheme)

    def _warn_if_costly(self) -> None:
        if self.param.has("energy") or self._has_warned or not isinstance(self.product(0), OneStage):
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
        if not self.is_rank_known:
            of = "data" if self.param.target == "DATA" else "weights"
            return f"the rank for energy {self.param.energy:g}, at most {self.full_rank}, is not known without {of}"
        share = f"{self.cost:.2f} of dense"
        if isinstance(self.product(0), OneStage):
            share += ", so computed as dense"
        return f"rank {self.rank} of {self.full_rank}, {what}, {share}"


def _make_factors(
    layer: Layer, param: LowRankParam, weights: WeightMatrix, rank: int, dense: DenseConvolution
) -> Factors:
    """The factors that the spec asks for."""

    def fixed_rng() -> Any:
        return layer.setting.device.rng(layer.seed)  # always the same numbers: a resumed run has them too

    is_training = layer.phase == "TRAIN"
    if param.factored:
        return FactoredWeights(weights, rank)
    if param.target == "DATA":
        return DataBasis(weights, param, rank, is_training, layer.rng, dense, layer.setting.communicator)
    if param.refresh_or_default > 1:
        return WeightBasis(weights, param, rank, is_training, fixed_rng)
    return TruncatedWeights(weights, param, rank, fixed_rng)


class LowRankLayer(MatrixProduct):
    """What Convolution and InnerProduct of low rank have in common; their ``setup`` calls ``factorize``."""

    low_rank: LowRank
    bias_blob: Blob | None

    def factorize(
        self, param: LowRankParam, dense: Sequence[DenseConvolution], transposed: bool = False
    ) -> None:
        """Make the factors, and put their blobs in the place of the dense layer's.

        ``dense`` are the dense products of the bottoms; ``transposed``: the weight blob is (K, M).
        """
        geometry = dense[0].geometry
        scheme = schemes[param.scheme](geometry.weight_shape, geometry.group)
        self._dense_shapes = [blob.shape for blob in self.blobs]
        self.bias_blob = self.blobs[1] if len(self.blobs) > 1 else None
        self.low_rank = LowRank(self, param, WeightMatrix(self.blobs[0], scheme, transposed), dense)
        factors = self.low_rank.factors
        self.output_weights = factors.output_weights
        self.blobs[:1] = factors.parameters
        if factors.statistics:
            self.blobs += factors.statistics
            self.keep_from_training(*factors.statistics)

    def backward_bottom(self, index: int, dy: Array, dx: Array | None) -> None:
        """Add what one bottom gives to the parameters' gradients, and write its own into ``dx``."""
        bias, learns = self.bias_blob, self.param_propagate_down
        if bias is not None and learns[self.blobs.index(bias)]:
            bias.accumulate(lambda db: self.low_rank.backward(index, dy, learns, db, dx))
        else:
            self.low_rank.backward(index, dy, learns, None, dx)

    def stages(self) -> list[Stage]:
        """Two plain layers, or one where that costs less: the same choice as for this layer's own product."""
        made, axes = [], len(self._dense_shapes[0])
        for filters, window in self.low_rank.fixed_convolutions():
            spatial = axes - 2  # of (kh, kw): both, kw alone for images of one axis, none of an InnerProduct
            shaped = to_host(filters).reshape(*filters.shape[:2], *filters.shape[4 - spatial :])
            made.append(Stage(shaped, None, window, self.group))
        if self.bias_blob is not None:
            made[-1] = replace(made[-1], bias=to_host(self.bias_blob.data))
        return made

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return self.low_rank.multiply_adds

    @property
    def dense_count(self) -> int:
        """How many numbers the layer would have without low rank."""
        return sum(map(math.prod, self._dense_shapes))

    def computed_counts(self) -> list[int]:
        """Of each parameter how many numbers the layer computes with: the factors', in the place of W."""
        counts = [blob.count for blob in self.blobs]
        if not self.low_rank.param.factored and self.low_rank.is_rank_known:
            own = [0 if blob in self.low_rank.factors.statistics else blob.count for blob in self.blobs]
            counts = [self.low_rank.weight_count, *own[1:]]
        return counts

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
        return self._from_dense if shapes == self._dense_shapes else None

    def _from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        try:
            return self.low_rank.factors.from_dense(arrays)
        except np.linalg.LinAlgError as error:
            raise WeightError(f"layer '{self.name}': {error}") from None


@register_variant("Convolution", "low_rank_param", LowRankParam)
class LowRankConvolution(LowRankLayer, Convolution):
    """A Convolution with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.message(LowRankParam)
        if self.spatial_axes == 3:
            raise param.error("", "is for one or two spatial axes, not 3; leave it out")
        if param.target == "DATA" and len(bottom) > 1:
            raise param.error(
                "target", f"'data' is for one bottom, not {len(bottom)}; give each a layer of its own"
            )
        super().reshape(bottom, top)
        self.factorize(param, self.dense_products())

    def dense_products(self) -> list[DenseConvolution]:
        """The products of the dense layer, which are all of this kind for two spatial axes."""
        return [product for product in self.products if isinstance(product, DenseConvolution)]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.reshape(self.dense_products())

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> None:
        b = None if self.bias_blob is None else self.bias_blob.values
        inputs = [self.images(x, x.stored) for x in bottom]
        first, second = self.low_rank.filters(inputs[0])
        second, b, epilogue = self._folding.folded(second, b, epilogue, top[0].count // self.num_output)
        for i, (x, y) in enumerate(zip(inputs, top, strict=True)):
            out = self.images(y, y.stored)
            self.low_rank.forward(i, x, (first, second), out, b, epilogue)
            self.put_back(out, y, y.stored)

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        filters = self.low_rank.factors.fixed_filters()
        if self.axis != 1 or filters is None:
            return None
        b = None if self.bias_blob is None else self.bias_blob.values
        second, b, epilogue = self._folding.folded(filters[1], b, epilogue, top[0].count // self.num_output)
        return [
            call
            for i, (x, y) in enumerate(zip(bottom, top, strict=True))
            for call in self.low_rank.product(i).prepare(
                x.stored, (filters[0], second), y.stored, b, epilogue
            )
        ]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (y, x) in enumerate(zip(top, bottom, strict=True)):
            dx = self.images(x, x.stored_diff) if propagate_down[i] else None
            self.backward_bottom(i, self.images(y, y.stored_diff), dx)
            if dx is not None:
                self.put_back(dx, x, x.stored_diff)


@register_variant("InnerProduct", "low_rank_param", LowRankParam)
class LowRankInnerProduct(LowRankLayer, InnerProduct):
    """An InnerProduct with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.message(LowRankParam)
        transposed = self.spec.message(InnerProductParam).transpose
        if param.scheme == "SPATIAL":
            raise param.error("scheme", "'spatial' splits a convolution's window; use 'channel'")
        if param.factored and transposed:
            raise param.error("factored", "factors have one order; leave out inner_product_param.transpose")
        super().reshape(bottom, top)
        self.factorize(param, [self.as_product(bottom[0], top[0])[0]], transposed)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.reshape([self.as_product(bottom[0], top[0])[0]])

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> None:
        b = None if self.bias_blob is None else self.bias_blob.values
        x, y = self.as_pixels(bottom[0], top[0])
        self.low_rank.forward(0, x, self.low_rank.filters(x), y, b, epilogue)
        self._put_back(y[:, 0, 0], top[0], top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, y = bottom[0], top[0]
        dx = self._columns(x, x.stored_diff, self.depth) if propagate_down[0] else None
        dy = self._columns(y, y.stored_diff, self.num_output)
        self.backward_bottom(0, dy[:, None, None], None if dx is None else dx[:, None, None])
        if dx is not None:
            self._put_back(dx, x, x.stored_diff)
