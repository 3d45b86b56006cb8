"""A layer's trained weights, truncated to a rank by the SVD of a scheme's matrix: no data are needed.

    Ŵ = Σ_{i≤r} σ_i·u_i·v_iᵀ        the best approximation of W itself (Eckart and Young 1936)

For the layer's answers there are better ones (``fitting.py``), which want data.
"""

from __future__ import annotations

import numpy as np

from minicaffe.compress.survey import MatrixLayer, matrix_layer
from minicaffe.core.graph import Step
from minicaffe.device.array import Array, to_host
from minicaffe.errors import WeightError
from minicaffe.layers.convolution import Convolution
from minicaffe.low_rank.factorization import gram
from minicaffe.low_rank.schemes import Scheme


class TrainedLayer:
    """The weights of a layer that ``why_dense`` has nothing against, and their SVD as ``scheme`` sees them.

    Of a layer that has factors these are the weights that the factors make. Raises WeightError for weights that are
    not finite.
    """

    def __init__(self, step: Step, scheme: Scheme) -> None:
        found, layer = matrix_layer(step), step.layer
        assert isinstance(found, MatrixLayer)
        if not np.isfinite(to_host(found.weights)).all():
            raise WeightError(
                f"{layer.spec.where}: its weights have nan or infinite numbers; "
                "give weights of a training that did not diverge"
            )
        self.scheme, self.bias = scheme, found.bias
        self.weights = found.scheme.weights(found.weights)  # (M, C/g, kh, kw)
        self.svd = gram(scheme.matrix(self.weights))
        self._dense_shape = layer.weight_shape() if isinstance(layer, Convolution) else self.weights.shape[:2]

    def energy(self, rank: int) -> float:
        """The share of Σσ² that is kept at a rank."""
        return self.svd.truncate(rank).energy

    def factored(self, rank: int) -> list[np.ndarray]:
        """The layer's parameters with ``factored: true``: filters (g·r, …) and (M, r, …), and the bias if any."""
        axes = 2 if len(self._dense_shape) == 2 else 4  # an InnerProduct's are matrices
        filters = self.scheme.filters(*self.svd.truncate(rank).factors())
        return self._with_bias(*(array.reshape(array.shape[:axes]) for array in filters))

    def dense(self) -> list[np.ndarray]:
        """The dense layer's parameters: the weights, and the bias if there is one."""
        return self._with_bias(self.weights.reshape(self._dense_shape))

    def _with_bias(self, *arrays: Array) -> list[np.ndarray]:
        return [to_host(array) for array in (*arrays, *([] if self.bias is None else [self.bias]))]
