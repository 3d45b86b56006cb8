"""Where the two factors of a low-rank layer come from, and what becomes of their gradients: what all kinds have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import WeightError
from minicaffe.low_rank import data_basis
from minicaffe.low_rank.factorization import Svd, Truncation, gram, randomized, svd
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Merged, Pair, TwoStage
from minicaffe.low_rank.schemes import Scheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.linalg import orthonormal


class Factors:
    """The factors of one layer, whose dense parameters are ``layer.blobs`` when it is made: w, and perhaps a bias.

    ``rank`` is theirs at present. ``iteration`` counts forward passes in training, where that matters.
    """

    def __init__(self, layer: Layer, scheme: Scheme, rank: int) -> None:
        self.layer, self.scheme, self.rank = layer, scheme, rank
        self.dense_shapes = [blob.shape for blob in layer.blobs]
        self.iteration = 0

    @property
    def wanted(self) -> Sequence[bool]:
        """Which of the two stages' filters need a gradient."""
        raise NotImplementedError

    def filters(self, x: Array) -> Pair:
        """The filters of the two stages, for x (C, H, W, N)."""
        raise NotImplementedError

    def lasting_filters(self) -> Pair | None:
        """Those of a test net, where they are the same for every batch; None where each batch has its own."""
        raise NotImplementedError

    def add_grads(self, grads: Pair) -> None:
        """Add to the parameters' gradients what the wanted ones of the filters' make of them."""
        raise NotImplementedError

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The layer's parameters from those of a dense layer."""
        return arrays

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        """The layer's parameters for given factors of w, in the dense ones' place: w and perhaps a bias."""
        w = self.layer.xp.empty_like(self.layer.blobs[0].data)
        self.layer.canonical_weights(w)[...] = self.scheme.weights(left @ right)
        return [w, *dense[1:]]

    def fit(self, dense: DenseConvolution) -> None:
        """Follow a change of the bottom's shape."""

    def parameters_changed(self) -> None:
        """As ``Layer.parameters_changed``."""

    def after_forward(self, product: TwoStage | Merged, x: Array) -> None:
        """What is left to do once the output is there."""

    def dense_weights(self) -> Array:
        """Blob 0 as the scheme's matrices (g, m, n)."""
        return self.scheme.matrix(self.layer.canonical_weights(self.layer.blobs[0].data))

    def new_blob(self, shape: Sequence[int]) -> Blob:
        """A parameter blob for the layer."""
        return Blob(shape, self.layer.dtype, self.layer.setting.device, batch_last=False)


class TruncatedWeights(Factors):
    """The truncation of blob 0 of a layer. With method RANDOMIZED, singular values beyond the rank are unknown, and
    count as 0 in the gradient."""

    def __init__(self, layer: Layer, scheme: Scheme, param: LowRankParam, rank: int) -> None:
        super().__init__(layer, scheme, rank)
        self.param = param
        self._seen: Array | None = None
        self._truncation: Truncation | None = None

    @property
    def wanted(self) -> Sequence[bool]:
        return [self.layer.param_propagate_down[0]] * 2

    def filters(self, x: Array) -> Pair:
        return self.lasting_filters()

    def lasting_filters(self) -> Pair:
        truncation = self.truncation()
        return self.scheme.filters(truncation.left, truncation.right)

    def truncation(self) -> Truncation:
        """That of the weights as they are, made again if they have changed."""
        w = self.layer.blobs[0].data
        if self._seen is None or not self.layer.xp.array_equal(self._seen, w):
            found = self._factorize(self.dense_weights())
            if self.param.has("energy"):
                self.rank = found.rank_for(self.param.energy)
            self._truncation = Truncation(found, self.rank)
            self._seen = w.copy()
        return self._truncation

    def _factorize(self, matrix: Array) -> Svd:
        if self.param.used_method != "RANDOMIZED":
            return {"SVD": svd, "GRAM": gram}[self.param.used_method](matrix)
        rng = self.layer.setting.device.rng(
            self.layer.seed
        )  # always the same start: a resumed run has it too
        power, more = self.param.power_iterations, self.param.oversampling
        return randomized(matrix, self.rank, rng, power, more)

    def add_grads(self, grads: Pair) -> None:
        dw = self._truncation.gradient(*self.scheme.factors(*grads))
        self.layer.add_weight_grad(self.scheme.weights(dw))


class FactoredWeights(Factors):
    """The filters of the two stages as blobs 0 and 1 of a layer."""

    def __init__(self, layer: Layer, scheme: Scheme, rank: int) -> None:
        super().__init__(layer, scheme, rank)
        filters = self._factorize(layer.canonical_weights(layer.blobs[0].data))
        axes = 2 if len(self.dense_shapes[0]) == 2 else 4  # an InnerProduct's are matrices
        self.blobs = [self.new_blob(f.shape[:axes]) for f in filters]
        for blob, values in zip(self.blobs, filters, strict=True):
            blob.data[...] = values.reshape(blob.shape)
        layer.blobs[:1] = self.blobs

    def _factorize(self, w: Array) -> Pair:
        return self.scheme.filters(*svd(self.scheme.matrix(w)).truncate(self.rank).factors())

    @property
    def wanted(self) -> Sequence[bool]:
        return self.layer.param_propagate_down[:2]

    def filters(self, x: Array) -> Pair:
        return self.lasting_filters()

    def lasting_filters(self) -> Pair:
        first, second = (blob.data for blob in self.blobs)
        (_, *first_kernel), (filters, _, *second_kernel) = self.scheme.filter_shapes
        return first.reshape(-1, *first_kernel), second.reshape(filters, -1, *second_kernel)

    def add_grads(self, grads: Pair) -> None:
        for blob, grad, wanted in zip(self.blobs, grads, self.wanted, strict=True):
            if wanted:
                blob.accumulate(lambda out, grad=grad: self.layer.xp.copyto(out, grad.reshape(out.shape)))

    def with_factors(self, dense: list[Array], left: Array, right: Array) -> list[Array]:
        return [*self.scheme.filters(left, right), *dense[1:]]

    def from_dense(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """w's best approximation of this rank in place of w."""
        w = self.layer.setting.device.put(arrays[0], self.layer.dtype)
        if not self.layer.xp.isfinite(w).all():
            raise WeightError(f"layer '{self.layer.name}': its weights are not all finite numbers")
        filters = self._factorize(self.layer.canonical_weights(w))
        return [to_host(f).reshape(b.shape) for f, b in zip(filters, self.blobs, strict=True)] + arrays[1:]


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

    def fit(self, dense: DenseConvolution) -> None:
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
            width = min(self.rank + self.param.oversampling, self.dense.geometry.depth)
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
