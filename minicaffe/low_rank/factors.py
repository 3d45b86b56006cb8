"""Where the two factors of a low-rank layer come from, and what becomes of their gradients: what all kinds have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.low_rank.products import Merged, Pair, TwoStage
from minicaffe.low_rank.schemes import Scheme
from minicaffe.ops.convolution.dense import Convolution2d


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

    def fit(self, dense: Convolution2d) -> None:
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
