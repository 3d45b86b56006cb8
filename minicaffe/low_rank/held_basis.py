"""A basis Q of the right factor that is held for some iterations: y = (w·Q)·(Qᵀ·X), with Q (K × r) orthonormal.

The parameter is w; Q is a blob without a gradient, so that snapshots have it and the test net shares it. While it
is held, the gradients are exact:

    dw = (dy·(Qᵀ·X)ᵀ)·Qᵀ        dx = col2im(Q·((w·Q)ᵀ·dy))

``DataBasis``    Q spans the columns of the data matrix X: a full update from the batch every ``refresh``
                 iterations, and one warm-started subspace iteration after each step in between (Osawa et al. 2017).
                 How Q changes with x is left out of the gradient: it is that of the projected data.
``WeightBasis``  Q is that of the first right singular vectors of w, made again every ``refresh`` iterations. In
                 between, and so in the long run too, w learns in the space of Q alone.

Iterations are forward passes in training. At TEST a basis that is there is used; without one, DataBasis factorizes
every batch, and WeightBasis is a truncation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.low_rank import data_basis
from minicaffe.low_rank.factorization import Svd
from minicaffe.low_rank.factors import Factors
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Merged, Pair, TwoStage
from minicaffe.low_rank.schemes import Scheme
from minicaffe.low_rank.truncated_weights import TruncatedWeights
from minicaffe.ops.convolution.dense import Convolution2d
from minicaffe.ops.linalg import orthonormal


class HeldBasis(Factors):
    """What both kinds have in common: the blob, the factors, the gradient of w."""

    def __init__(self, layer: Layer, scheme: Scheme, param: LowRankParam, rank: int) -> None:
        super().__init__(layer, scheme, rank)
        self.param = param
        self.blob = self.new_blob((scheme.group, scheme.matrix_shape[1], rank))
        layer.blobs.append(self.blob)
        layer.keep_from_training(self.blob)
        self.q: Array | None = None
        self._must_look = True  # whether there is a basis in the blob

    @property
    def wanted(self) -> Sequence[bool]:
        wants = self.layer.param_propagate_down[0]
        return [wants and stage == self.scheme.left_stage for stage in (0, 1)]

    def filters_with(self, q: Array) -> Pair:
        """The filters of the two stages, with Q (g, n, r)."""
        self.q, self.rank = q, q.shape[-1]
        return self.scheme.filters(self.dense_weights() @ q, q.swapaxes(-1, -2))

    def add_grads(self, grads: Pair) -> None:
        left = self.scheme.left_factor(grads[self.scheme.left_stage], self.rank)
        self.layer.add_weight_grad(self.scheme.weights(left @ self.q.swapaxes(-1, -2)))

    def hold(self, q: Array) -> None:
        """Keep Q (g, n, r) in the blob; where the rank may change, columns of zeros follow."""
        self._must_look = False
        self.blob.data[..., : q.shape[-1]] = q
        self.blob.data[..., q.shape[-1] :] = 0

    def held(self) -> Array | None:
        """Q from the blob; None while there is none. Waits for the device to see which."""
        return self.kept() if self.blob.data[..., 0].any() else None

    def kept(self) -> Array:
        """Q from the blob, where there is one. Waits for the device only with ``energy``, to count its columns."""
        basis = self.blob.data
        used = int(basis.any(axis=(0, 1)).sum()) if self.param.has("energy") else basis.shape[-1]
        return basis[..., :used].copy()

    def is_due(self) -> bool:
        """Whether a full update is due in this iteration."""
        return self.iteration % self.param.used_refresh == 0

    def needs_update(self) -> bool:
        """Whether one is due, or weights that have no basis were loaded."""
        if self.is_due():
            return True
        is_missing = self._must_look and self.held() is None
        self._must_look = False
        return is_missing

    def parameters_changed(self) -> None:
        """Others have written into the blobs: look for a basis again."""
        self._must_look = True

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """No basis yet."""
        return [*arrays, np.zeros(self.blob.shape, self.layer.dtype)]


class DataBasis(HeldBasis):
    """Q spans the columns of the data matrix."""

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        return [*super().with_factors(dense, left, right), right.swapaxes(-1, -2)]

    def fit(self, dense: Convolution2d) -> None:
        self.dense = dense

    def filters(self, x: Array) -> Pair:
        if self.layer.phase != "TRAIN":
            return self.lasting_filters() or self.filters_with(self.full_update(x))
        if self.needs_update():
            self.hold(self.full_update(x))
        self.iteration += 1
        return self.filters_with(self.kept())

    def lasting_filters(self) -> Pair | None:
        held = self.held()
        return None if held is None else self.filters_with(held)

    def full_update(self, x: Array) -> Array:
        """Q (g, K/g, r) from this batch alone."""
        method = self.param.used_method
        if method == "RANDOMIZED":
            return self._find_range(x)
        found: Svd = {"SVD": data_basis.from_svd, "GRAM": data_basis.from_gram}[method](self.dense, x)
        rank = found.rank_for(self.param.energy) if self.param.has("energy") else self.rank
        return self.layer.xp.ascontiguousarray(found.u[..., :rank])

    def _find_range(self, x: Array) -> Array:
        iterations, start = self.param.power_iterations, self.held()
        if start is None:  # random vectors are further off
            width = min(self.rank + self.param.oversampling, self.dense.depth)
            start = data_basis.random_start(self.dense, width, self.layer.rng, self.layer.dtype)
            iterations += 1
        return data_basis.from_products(self.dense, x, start, self.rank, max(1, iterations))

    def after_forward(self, product: TwoStage | Merged, x: Array) -> None:
        """In training, turn Q towards this batch's columns, for the next iteration."""
        if self.layer.phase != "TRAIN" or self.is_due():
            return
        if isinstance(product, TwoStage):
            self.hold(data_basis.step(product.first, product.padded, product.hidden))
        else:
            self.hold(data_basis.from_products(self.dense, x, self.q, self.rank, 1))


class WeightBasis(HeldBasis):
    """Q is that of the weights' first right singular vectors."""

    def __init__(self, layer: Layer, scheme: Scheme, param: LowRankParam, rank: int) -> None:
        super().__init__(layer, scheme, param, rank)
        self.truncated = TruncatedWeights(layer, scheme, param, rank)  # of the same blob 0

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        no_basis = self.layer.xp.zeros(self.blob.shape, self.layer.dtype)
        return [*super().with_factors(dense, left, right), no_basis]

    def filters(self, x: Array) -> Pair:
        if self.layer.phase == "TRAIN":
            if self.needs_update():
                self.hold(orthonormal(self.truncated.truncation().kept.vt.swapaxes(-1, -2)))
            self.iteration += 1
            return self.filters_with(self.kept())
        return self.lasting_filters()

    def lasting_filters(self) -> Pair:
        held = self.held()
        if held is not None:
            return self.filters_with(held)
        self.q, filters = None, self.truncated.lasting_filters()
        self.rank = self.truncated.rank
        return filters

    @property
    def wanted(self) -> Sequence[bool]:
        return self.truncated.wanted if self.q is None else super().wanted

    def add_grads(self, grads: Pair) -> None:
        if self.q is None:
            self.truncated.add_grads(grads)
        else:
            super().add_grads(grads)
