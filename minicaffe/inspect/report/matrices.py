"""The matrices that convolutions and inner products multiply with in phase test, as NumPy arrays.

Those of a layer of low rank are the product of its factors, not its parameters. Both functions raise SpecError
where every batch has factors of its own.
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import to_host
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.low_rank.layers import LowRankLayer


def weights_of(layer: MatrixProduct) -> np.ndarray:
    """W (M, K/g), as one product has it."""
    if isinstance(layer, LowRankLayer):
        left, right = factors_of(layer)
        w = layer.low_rank.scheme.weights(left @ right)
    else:
        w = layer.stages()[0].weights
    return np.asarray(w).reshape(layer.num_output, -1)


def factors_of(layer: LowRankLayer) -> tuple[np.ndarray, np.ndarray]:
    """left (g, m, r) and right (g, r, n), with W = left · right as the layer's scheme sees it."""
    layer.stages()  # refuses factors that are different for every batch
    filters = layer.low_rank.factors.fixed_filters()
    assert filters is not None
    left, right = layer.low_rank.scheme.factors(*filters)
    return to_host(left), to_host(right)
