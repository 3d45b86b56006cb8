"""A Convolution or InnerProduct as the plain layers that compute the same: one, or for low rank a pair.

    channel, data       kh × kw windows to g·r channels, then 1 × 1       InnerProduct: K to r numbers, then r to M
    spatial             kh × 1 windows to g·r channels, then 1 × kw

It is what other frameworks, which know no low rank, are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.products import OneStage
from minicaffe.ops.convolution.geometry import Window

POINT = Window((1, 1))


@dataclass
class Stage:
    """One plain layer. ``weights``: (M, C/g, kh, kw) with as many axes as the images have, or (M, K)."""

    weights: np.ndarray
    bias: np.ndarray | None = None
    window: Window = POINT
    group: int = 1


def stages(layer: Convolution | InnerProduct) -> list[Stage]:
    """The one or two plain layers that compute what the layer does in a test net.

    Where two would cost more than one, as the layer itself counts it, there is one. Raises SpecError for a basis
    that is not held, but made anew of each batch.
    """
    window, group = getattr(layer, "window", POINT), getattr(layer, "group", 1)
    if not isinstance(layer, LowRankLayer):
        arrays = [to_host(blob.data) for blob in layer.blobs]
        transposed = layer.type == "InnerProduct" and layer.spec.inner_product_param.transpose
        w = arrays[0].T if transposed else arrays[0]
        return [Stage(w, *(arrays[1:] or [None]), window, group)]
    bias = None if layer.bias_blob is None else to_host(layer.bias_blob.data)
    scheme, pair = layer.low_rank.scheme, layer.low_rank.factors.fixed_filters()
    if pair is None:
        raise SpecError(
            f"{layer.spec.where}: its basis is made anew of each batch and none is held, so there are no fixed "
            "filters to take out; train with it for a basis that stays, or use target 'weights'"
        )
    if isinstance(layer.low_rank.product(0), OneStage):
        left, right = scheme.factors(*pair)
        whole = to_host(scheme.weights(left @ right))
        return [Stage(_with_axes(whole, layer), bias, window, group)]
    first, second = (_with_axes(to_host(filters), layer) for filters in pair)
    windows = scheme.windows(window)
    return [Stage(first, None, windows[0], group), Stage(second, bias, windows[1], group)]


def _with_axes(filters: np.ndarray, layer: LowRankLayer) -> np.ndarray:
    """Filters (M, C, kh, kw) with as many axes as those of the layer: without kh for one axis, or (M, K)."""
    if isinstance(layer, InnerProduct):
        return filters.reshape(filters.shape[:2])
    return filters.reshape(*filters.shape[:2], *filters.shape[4 - layer.spatial_axes :])
