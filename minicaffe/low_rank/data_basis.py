"""An orthonormal basis Q for the columns of a data matrix, so that X ≈ Q·(Qᵀ·X).

The matrix X (K × P) is not made: products with it are convolutions over the padded input.

    X·Xᵀ              ``DenseConvolution.gram``, one product per block of columns
    Xᵀ·Q  =: zᵀ       a convolution with Q's vectors as filters
    X·zᵀ              the weight gradient of that convolution

The best Q of r columns has the leading left singular vectors of X (``from_svd``), that is the leading eigenvectors
of X·Xᵀ (``from_gram``). Subspace iterations Q ← orth(X·(Xᵀ·Q)) come close to their span (``from_iterations``), and
fast where they start from the basis of an earlier batch.

Ranks that train together have one basis. It is that of all their columns side by side, X = (X_1 … X_N), so that
X·Xᵀ = Σ X_r·X_rᵀ and X·(Xᵀ·Q) = Σ X_r·(X_rᵀ·Q).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from minicaffe.device.array import Array, module_of
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.low_rank.factorization import Svd, find_range, leading_eigenvectors, svd
from minicaffe.low_rank.factors import ProjectedWeights, WeightMatrix
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Filters, OneStage, TwoStage
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.reference import im2col
from minicaffe.ops.linalg import completed, orthonormal


class DataBasis(ProjectedWeights):
    """X ≈ Q·(Qᵀ·X): Q spans the columns of the data matrix (Osawa et al. 2017, doi 10.1109/HPCS.2017.37).

    In training, Q is made from the batch every ``refresh`` iterations; in between, one subspace iteration after
    each forward turns it towards the batch. The gradient takes Q as a constant, though it depends on x. At TEST,
    without a stored basis each batch gets its own. ``dense`` is the dense product for the layer's bottom; ``rng``
    is for method RANDOMIZED. A batch is that of all ``ranks``. Raises SpecError for several and method SVD.
    """

    output_weights = 0

    def __init__(
        self,
        weights: WeightMatrix,
        param: LowRankParam,
        rank: int,
        is_training: bool,
        rng: Any,
        dense: DenseConvolution,
        ranks: Communicator = ALONE,
    ) -> None:
        super().__init__(weights, param, rank, is_training)
        if ranks.size > 1 and param.method_or_default == "SVD":
            raise param.error("method", "'svd' needs the data of all ranks in one place; use 'gram'")
        self._ranks = ranks
        self.dense = dense
        self._power_iterations, self._oversampling = param.power_iterations, param.oversampling
        self._rng = rng
        methods = {"SVD": self._by_svd, "GRAM": self._by_gram, "RANDOMIZED": self._by_range_finder}
        self._basis_of = methods[param.method_or_default]

    def reshape(self, dense: DenseConvolution) -> None:
        self.dense = dense

    def filters(self, x: Array) -> Filters:
        if not self.is_training:
            return self.fixed_filters() or self.project(self._basis_of(x))
        if self.needs_update():
            self.store(self._basis_of(x))
        self.iteration += 1
        return self.project(self.stored())

    def fixed_filters(self) -> Filters | None:
        return self.project_stored()

    def after_forward(self, product: TwoStage | OneStage, x: Array) -> None:
        """In training, turn Q towards the columns of this batch, for the next iteration."""
        if not self.is_training or self.is_due() or self.q is None:
            return
        if isinstance(product, TwoStage):
            self.store(subspace_step(product.first, product.padded, product.hidden, self._ranks))
        else:
            self.store(from_iterations(self.dense, x, self.q, self.rank, 1, self._ranks))

    def store(self, q: Array) -> None:
        """As always, and all ranks have the basis of rank 0, even where their own differ by rounding."""
        super().store(q)
        if self._ranks.size > 1:
            self._ranks.broadcast(self.blob.stored)

    def _by_svd(self, x: Array) -> Array:
        return self._leading(from_svd(self.dense, x))

    def _by_gram(self, x: Array) -> Array:
        return self._leading(from_gram(self.dense, x, self._ranks))

    def _leading(self, found: Svd) -> Array:
        rank = self.rank if self.energy is None else found.rank_for(self.energy)
        q: Array = module_of(found.u).ascontiguousarray(found.u[..., :rank])
        return q

    def _by_range_finder(self, x: Array) -> Array:
        if self.is_stored():
            start, iterations = self.stored(), self._power_iterations
        else:  # random vectors need one iteration more, and may differ from rank to rank: after it nothing does
            width = min(self.rank + self._oversampling, self.dense.geometry.depth)
            start = random_start(self.dense, width, self._rng, self.blob.dtype)
            iterations = self._power_iterations + 1
        return from_iterations(self.dense, x, start, self.rank, max(1, iterations), self._ranks)

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        w, *bias, _ = super().with_factors(dense, left, right)
        return [w, *bias, right.swapaxes(-1, -2)]


def from_gram(dense: DenseConvolution, x: Array, ranks: Communicator = ALONE) -> Svd:
    """All left singular vectors of x's data matrix, by the eigenvectors of X·Xᵀ (g, K/g, K/g)."""
    xp = module_of(x)
    gram = ranks.sum(dense.gram(dense.pad(x)))
    values, vectors = leading_eigenvectors(gram)
    squares = xp.maximum(values, 0)
    return _basis(vectors.astype(x.dtype), xp.sqrt(squares), squares.sum())


def from_svd(dense: DenseConvolution, x: Array) -> Svd:
    """All left singular vectors of x's data matrix, by the SVD of the matrix, which is made whole."""
    geometry = dense.geometry
    columns = im2col(x, geometry.window).reshape(geometry.group, geometry.depth, -1)
    found = svd(columns)
    missing = geometry.depth - found.rank  # where X has fewer columns than rows, any further vectors will do
    if not missing:
        return _basis(found.u, found.s, found.total)
    xp = module_of(x)
    u = completed(found.u)
    u[..., : found.rank] = found.u
    s = xp.concatenate([found.s, xp.zeros((geometry.group, missing), x.dtype)], axis=-1)
    return _basis(u, s, found.total)


def _basis(u: Array, s: Array, total: Array) -> Svd:
    """An Svd without right vectors, which nobody needs here: they have no entries."""
    return Svd(u, s, u[..., :0, :].swapaxes(-1, -2), total, 0 * total)


def from_iterations(
    dense: DenseConvolution,
    x: Array,
    start: Array,
    rank: int,
    iterations: int,
    ranks: Communicator = ALONE,
) -> Array:
    """The leading ``rank`` vectors (g, K/g, r) after some subspace iterations from a start (g, K/g, l)."""
    geometry = replace(dense.geometry, filters=dense.geometry.group * start.shape[-1])
    stage = dense.direct(geometry)
    hidden = module_of(x).empty(geometry.output_shape, x.dtype)

    def apply(q: Array) -> Array:
        padded = stage.forward(x, as_filters(q, dense), hidden)
        return times_hidden(stage, padded, hidden, ranks)

    basis = find_range(apply, start, iterations)
    turn = leading_eigenvectors(basis.swapaxes(-1, -2) @ apply(basis), rank)[1]
    leading: Array = basis @ turn
    return leading


def subspace_step(
    stage: DenseConvolution, padded: Array, hidden: Array, ranks: Communicator = ALONE
) -> Array:
    """One subspace iteration from the basis that ``hidden`` was made with: orth(X·zᵀ)."""
    return orthonormal(times_hidden(stage, padded, hidden, ranks))


def times_hidden(stage: DenseConvolution, padded: Array, hidden: Array, ranks: Communicator = ALONE) -> Array:
    """X·zᵀ (g, K/g, r), for the padded input and z = Qᵀ·X (g·r, OH, OW, N); of all ranks, their sum."""
    geometry = stage.geometry
    grad: Array = module_of(hidden).empty(geometry.weight_shape, hidden.dtype)
    stage.weight_grad(hidden, padded, grad)
    ranks.sum(grad)
    return grad.reshape(geometry.group, -1, geometry.depth).swapaxes(-1, -2)


def as_filters(q: Array, dense: DenseConvolution) -> Array:
    """Q (g, K/g, r) as the filters (g·r, C/g, kh, kw) of a convolution."""
    rows: Array = module_of(q).ascontiguousarray(q.swapaxes(-1, -2))
    return rows.reshape(-1, *dense.geometry.weight_shape[1:])


def random_start(dense: DenseConvolution, width: int, rng: Any, dtype: np.dtype) -> Array:
    """Random vectors (g, K/g, width) for a first subspace iteration."""
    vectors: Array = rng.standard_normal((dense.geometry.group, dense.geometry.depth, width), dtype=dtype)
    return vectors
