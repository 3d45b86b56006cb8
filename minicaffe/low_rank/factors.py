"""The two factors of a layer's weights, W ≈ left · right: where they come from and where their gradients go.

    ``TruncatedWeights``   W is the parameter, and left · right its best approximation of rank r
    ``FactoredWeights``    left and right are the parameters
    ``WeightBasis``        W is the parameter, and W ≈ (W·Q)·Qᵀ with a basis Q of its rows
    ``DataBasis``          W is the parameter, and X ≈ Q·(Qᵀ·X), with a basis Q of the data: in ``data_basis.py``

W (g, m, n) is how a scheme sees the layer's weights (``schemes.py``). The factors are handed out as the filters of
two convolutions, which ``products.py`` multiplies with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.device.array import Array, module_of, to_host
from minicaffe.low_rank.factorization import Svd, Truncation, gram, randomized, svd
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import FilterGradients, Filters, OneStage, TwoStage
from minicaffe.low_rank.schemes import Scheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.linalg import orthonormal
from minicaffe.ops.remember import constant, is_same, is_same_object, remembered


@dataclass(frozen=True)
class WeightMatrix:
    """A layer's weight blob, seen as the matrices W (g, m, n) of a scheme.

    The blob is w (M, C/g, kh, kw), without kh for images of one axis, or an InnerProduct's (M, K), or (K, M) where
    it is ``transposed``.
    """

    blob: Blob
    scheme: Scheme
    transposed: bool = False

    def value(self) -> Array:
        """W as it is now."""
        return self.matrix_of(self.blob.values)

    def matrix_of(self, w: Array) -> Array:
        """W of an array with the blob's shape."""
        return self.scheme.matrix((w.T if self.transposed else w).reshape(self.scheme.shape))

    def array_of(self, matrix: Array) -> Array:
        """The array with the blob's shape that has this W."""
        w = self.scheme.weights(matrix)
        return w.reshape(len(w), -1).T if self.transposed else w.reshape(self.blob.shape)

    def add_gradient(self, gradient: Array) -> None:
        """Add the gradient of W to the blob's."""
        self.blob.add_to_diff(self.array_of(gradient))

    def new_blob(self, shape: Sequence[int]) -> Blob:
        """A parameter blob beside this one."""
        return Blob(shape, self.blob.dtype, self.blob.device, batch_last=False)


class Factors:
    """The two factors of a layer's weights.

    ``rank`` is the present one; ``iteration`` counts forward passes in training, for those that need it.
    ``parameters`` are the blobs that the layer has in place of w; ``statistics`` are further ones, after its bias,
    and not trained. ``output_weights`` is the place of the blob that has weights of its own for each output of the
    layer; None where none has: the truncation of scaled rows is not the scaled truncation.
    """

    output_weights: int | None = None

    def __init__(self, weights: WeightMatrix, rank: int) -> None:
        self.weights, self.scheme, self.rank = weights, weights.scheme, rank
        self.iteration = 0
        self.parameters: list[Blob] = [weights.blob]
        self.statistics: list[Blob] = []

    @property
    def are_made(self) -> bool:
        """Whether there has been a factorization, so that ``rank`` is the present one."""
        return True

    def filters(self, x: Array) -> Filters:
        """The factors for this pass, as the filters of two stages; x (C, H, W, N) is the first bottom."""
        raise NotImplementedError

    def fixed_filters(self) -> Filters | None:
        """The filters of a test net, where they are the same for every batch; None where each batch has its own."""
        raise NotImplementedError

    def gradients_needed(self, learns: Sequence[bool]) -> tuple[bool, bool]:
        """Which of the two stages' filters need a gradient; ``learns`` says which of the layer's blobs learn."""
        raise NotImplementedError

    def add_gradients(self, grads: FilterGradients) -> None:
        """Turn the gradients of the filters into gradients of the parameters, and add them there."""
        raise NotImplementedError

    def reshape(self, dense: DenseConvolution) -> None:
        """Follow a change of the bottom's shape; ``dense`` is the dense product for it."""

    def after_forward(self, product: TwoStage | OneStage, x: Array) -> None:
        """Prepare for the next pass; ``product`` has just computed the output for x."""

    def parameters_changed(self) -> None:
        """As ``Layer.parameters_changed``."""

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The layer's parameters from those of a dense layer: w and perhaps a bias. Raises LinAlgError."""
        return arrays

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        """The layer's parameters for given factors; ``dense`` are a dense layer's, of which the bias is taken."""
        return [self.weights.array_of(left @ right), *dense[1:]]


@dataclass(frozen=True)
class Factorized:
    """What a factorization gave; ``weights`` are the numbers that were factorized."""

    weights: Array
    truncation: Truncation
    filters: Filters


class TruncatedWeights(Factors):
    """The best approximation of rank r of the weights as they are: left · right = T_r(W).

    They are factorized again when they have changed. The gradient of W is that of the truncation, see
    ``Truncation``. Method RANDOMIZED does not find the singular values beyond the rank, which count as 0 there;
    ``make_rng`` makes the random generator that it starts from.
    """

    def __init__(
        self, weights: WeightMatrix, param: LowRankParam, rank: int, make_rng: Callable[[], Any]
    ) -> None:
        super().__init__(weights, rank)
        self.energy = param.energy
        self._range_finder = param.power_iterations, param.oversampling
        self._make_rng = make_rng
        methods = {"SVD": svd, "GRAM": gram, "RANDOMIZED": self._randomized}
        self._factorize: Callable[[Array], Svd] = methods[param.method_or_default]
        self._latest: Factorized | None = None

    def _randomized(self, matrix: Array) -> Svd:
        return randomized(matrix, self.rank, self._make_rng(), *self._range_finder)

    @property
    def are_made(self) -> bool:
        return self._latest is not None

    def filters(self, x: Array) -> Filters:
        return self.fixed_filters()

    def fixed_filters(self) -> Filters:
        return self.factorized().filters

    def factorized(self) -> Factorized:
        """The factorization of the weights as they are, made again if they have changed."""
        w = self.weights.blob.values
        latest = self._latest
        if latest is None or not is_same(w, latest.weights):
            found = self._factorize(self.weights.value())
            if self.energy is not None:
                self.rank = found.rank_for(self.energy)
            truncation = Truncation(found, self.rank)
            first, second = self.scheme.filters(truncation.left, truncation.right)
            filters = constant(first), constant(second)
            self._latest = latest = Factorized(remembered(w), truncation, filters)
        return latest

    def gradients_needed(self, learns: Sequence[bool]) -> tuple[bool, bool]:
        return learns[0], learns[0]

    def add_gradients(self, grads: FilterGradients) -> None:
        first, second = grads
        if first is not None and second is not None and self._latest is not None:
            left, right = self.scheme.factors(first, second)
            self.weights.add_gradient(self._latest.truncation.gradient(left, right))


class FactoredWeights(Factors):
    """Factors that are the layer's parameters, trained as they are (``factored: true``).

    The blobs are the filters of the two stages, as an exported net has them in two layers. They start as the best
    approximation of what the weight filler gave (Khodak et al. 2021, arXiv 2105.01029).
    """

    output_weights = 1

    def __init__(self, weights: WeightMatrix, rank: int) -> None:
        super().__init__(weights, rank)
        (_, *first), (filters, _, *second) = self.scheme.filter_shapes
        self._shapes = (-1, *first), (filters, -1, *second)  # for any rank
        self._latest: dict[int, tuple[Array, Array]] = {}  # of each stage the parameter, and it as filters
        values = self._factorize(weights.value())
        axes = 2 if len(weights.blob.shape) == 2 else 4  # an InnerProduct's are matrices
        self.parameters = [weights.new_blob(f.shape[:axes]) for f in values]
        for blob, array in zip(self.parameters, values, strict=True):
            blob.write(array.reshape(blob.shape))

    def _factorize(self, matrix: Array) -> Filters:
        if not matrix.any():  # a deploy net before it has weights: an SVD would find the same, but take long
            (stack, m, n), zeros = matrix.shape, module_of(matrix).zeros
            left, right = (
                zeros((stack, m, self.rank), matrix.dtype),
                zeros((stack, self.rank, n), matrix.dtype),
            )
            return self.scheme.filters(left, right)
        return self.scheme.filters(*svd(matrix).truncate(self.rank).factors())

    def filters(self, x: Array) -> Filters:
        return self.fixed_filters()

    def fixed_filters(self) -> Filters:
        return self._as_filters(0), self._as_filters(1)

    def _as_filters(self, stage: int) -> Array:
        """A parameter as filters: the same object, as far as is known, as long as it has the same numbers."""
        values, latest = self.parameters[stage].values, self._latest.get(stage)
        if latest is None or not is_same_object(values, latest[0]):
            self._latest[stage] = latest = values, values.reshape(self._shapes[stage])
        return latest[1]

    def gradients_needed(self, learns: Sequence[bool]) -> tuple[bool, bool]:
        return learns[0], learns[1]

    def add_gradients(self, grads: FilterGradients) -> None:
        for blob, grad in zip(self.parameters, grads, strict=True):
            if grad is not None:
                blob.add_to_diff(grad.reshape(blob.shape))

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """w's best approximation of this rank in place of w."""
        device = self.weights.blob.device
        w = device.put(arrays[0], self.weights.blob.dtype)
        if not device.xp.isfinite(w).all():
            raise np.linalg.LinAlgError("its weights are not all finite numbers")
        filters = self._factorize(self.weights.matrix_of(w))
        values = [to_host(f).reshape(b.shape) for f, b in zip(filters, self.parameters, strict=True)]
        return [*values, *arrays[1:]]

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        return [*self.scheme.filters(left, right), *dense[1:]]


@dataclass(frozen=True)
class Projected:
    """W·Q and Qᵀ as filters; ``weights`` and ``basis`` are the arrays that they were made of."""

    weights: Array
    basis: Array
    q: Array
    filters: Filters


class ProjectedWeights(Factors):
    """W ≈ (W·Q)·Qᵀ, with an orthonormal basis Q (g, n, r) that serves for some iterations.

        y  = (W·Q)·(Qᵀ·X)
        dW = (dy·(Qᵀ·X)ᵀ)·Qᵀ        dX = Q·((W·Q)ᵀ·dy)

    These gradients are exact for a constant Q. W is the parameter; Q is stored in a blob without a gradient, so
    that snapshots contain it and the test net shares it. Iterations are forward passes in training; at TEST the
    stored basis is used, and W·Q, which for few images is more work than all else, is made again only if W or Q has
    changed.
    """

    def __init__(self, weights: WeightMatrix, param: LowRankParam, rank: int, is_training: bool) -> None:
        super().__init__(weights, rank)
        self.energy = param.energy
        self.refresh = param.refresh_or_default
        self.is_training = is_training
        self.blob = weights.new_blob((self.scheme.group, self.scheme.matrix_shape[1], rank))
        self.statistics = [self.blob]
        self.q: Array | None = None  # of the latest pass
        self._is_checked = False  # loaded weights may have no basis
        self._latest: Projected | None = None

    @property
    def are_made(self) -> bool:
        return self.q is not None

    def project(self, q: Array) -> Filters:
        """W·Q and Qᵀ as filters, for Q (g, n, r)."""
        self.q, self.rank = q, q.shape[-1]
        return self.scheme.filters(self.weights.value() @ q, q.swapaxes(-1, -2))

    def project_stored(self) -> Filters | None:
        """``project`` for the basis in the blob, made again if it or W has changed; None where there is none."""
        w, basis, latest = self.weights.blob.values, self.blob.values, self._latest
        if latest is None or not (is_same(w, latest.weights) and is_same(basis, latest.basis)):
            if not self.is_stored():
                return None
            q = self.stored()
            first, second = self.project(q)
            filters = constant(first), constant(second)
            latest = self._latest = Projected(remembered(w), remembered(basis), q, filters)
        self.q, self.rank = latest.q, latest.q.shape[-1]
        return latest.filters

    def gradients_needed(self, learns: Sequence[bool]) -> tuple[bool, bool]:
        return learns[0] and self.scheme.left_stage == 0, learns[0] and self.scheme.left_stage == 1

    def add_gradients(self, grads: FilterGradients) -> None:
        grad = grads[self.scheme.left_stage]
        if grad is not None and self.q is not None:
            left = self.scheme.left_factor(grad, self.rank)
            self.weights.add_gradient(left @ self.q.swapaxes(-1, -2))

    def store(self, q: Array) -> None:
        """Write Q (g, n, r) into the blob; where the rank may change, columns of zeros follow."""
        self._is_checked = True
        missing = self.blob.shape[-1] - q.shape[-1]
        if missing:
            xp = module_of(q)
            q = xp.concatenate([q, xp.zeros((*q.shape[:-1], missing), q.dtype)], axis=-1)
        self.blob.write(q)

    def is_stored(self) -> bool:
        """Whether there is a basis in the blob. Waits for the device to see it."""
        return bool(self.blob.values[..., 0].any())

    def stored(self) -> Array:
        """Q from the blob. Waits for the device only with ``energy``, to count the columns."""
        basis = self.blob.values
        rank = basis.shape[-1] if self.energy is None else int(basis.any(axis=(0, 1)).sum())
        return basis[..., :rank].copy()

    def is_due(self) -> bool:
        """Whether this iteration makes a new basis."""
        return self.iteration % self.refresh == 0

    def needs_update(self) -> bool:
        """Whether one is due, or weights without a basis were loaded."""
        if self.is_due():
            return True
        is_missing = not (self._is_checked or self.is_stored())
        self._is_checked = True
        return is_missing

    def parameters_changed(self) -> None:
        self._is_checked = False

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """No basis yet."""
        return [*arrays, np.zeros(self.blob.shape, self.blob.dtype)]

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        no_basis = self.blob.device.xp.zeros(self.blob.shape, self.blob.dtype)
        return [*super().with_factors(dense, left, right), no_basis]


class WeightBasis(ProjectedWeights):
    """Q spans W's leading right singular vectors; it is made again every ``refresh`` iterations.

    In between, and so in the long run too, W learns in the span of Q alone. At TEST, without a stored basis, W is
    truncated.
    """

    def __init__(
        self,
        weights: WeightMatrix,
        param: LowRankParam,
        rank: int,
        is_training: bool,
        make_rng: Callable[[], Any],
    ) -> None:
        super().__init__(weights, param, rank, is_training)
        self.truncated = TruncatedWeights(weights, param, rank, make_rng)
        self._is_projected = True

    @property
    def are_made(self) -> bool:
        return super().are_made or self.truncated.are_made

    def filters(self, x: Array) -> Filters:
        if not self.is_training:
            return self.fixed_filters()
        self._is_projected = True
        if self.needs_update():
            self.store(orthonormal(self.truncated.factorized().truncation.leading.vt.swapaxes(-1, -2)))
        self.iteration += 1
        return self.project(self.stored())

    def fixed_filters(self) -> Filters:
        filters = self.project_stored()
        self._is_projected = filters is not None
        if filters is not None:
            return filters
        filters = self.truncated.fixed_filters()
        self.rank = self.truncated.rank
        return filters

    def gradients_needed(self, learns: Sequence[bool]) -> tuple[bool, bool]:
        if self._is_projected:
            return super().gradients_needed(learns)
        return self.truncated.gradients_needed(learns)

    def add_gradients(self, grads: FilterGradients) -> None:
        if self._is_projected:
            super().add_gradients(grads)
        else:
            self.truncated.add_gradients(grads)
