"""Factors that are the layer's parameters: w ≈ left · right, trained as they are (``factored: true``).

The blobs are the filters of two convolutions, first and second, then the bias: as two layers of an exported net.
They start as the best approximation of what the weight filler gave (Khodak et al. 2021, arXiv 2105.01029).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import WeightError
from minicaffe.low_rank.factorization import svd
from minicaffe.low_rank.factors import Factors
from minicaffe.low_rank.products import Pair
from minicaffe.low_rank.schemes import Scheme


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
