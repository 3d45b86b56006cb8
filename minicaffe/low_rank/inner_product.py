"""InnerProduct of low rank: y = A · (B · x) + b, or (w·Q) · (Qᵀ · x) + b.

Shapes as in ``layers/inner_product.py``; A (M, r), B (r, K), Q (K, r). It is convolution of one-pixel images.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_variant
from minicaffe.device.array import Array
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.low_rank.low_rank import LowRank, LowRankLayer
from minicaffe.low_rank.schemes import ChannelScheme


@register_variant("InnerProduct", "low_rank_param")
class LowRankInnerProduct(LowRankLayer, InnerProduct):
    """An InnerProduct with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.low_rank_param
        self.transposed = self.spec.inner_product_param.transpose
        if param.scheme == "SPATIAL":
            raise param.error("scheme", "'spatial' splits a convolution's window; use 'channel'")
        if param.factored and self.transposed:
            raise param.error("factored", "factors have one order; leave out inner_product_param.transpose")
        self.bias_blob = self.blobs[1] if len(self.blobs) > 1 else None
        scheme = ChannelScheme((self.num_output, self.depth, 1, 1), 1)
        super().reshape(bottom, top)
        self.low_rank = LowRank(self, param, scheme, [self.as_product(bottom[0], top[0])[0]])

    def canonical_weights(self, w: Array) -> Array:
        return (w.T if self.transposed else w)[:, :, None, None]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.fit([self.as_product(bottom[0], top[0])[0]])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        b = None if self.bias_blob is None else self.bias_blob.data
        x, y = self.as_pixels(bottom[0], top[0])
        self.low_rank.factorize(x)
        self.low_rank.forward(0, x, y, b)
        self._put_back(y[:, 0, 0], top[0], top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, y = bottom[0], top[0]
        dx = self._columns(x, x.stored_diff, self.depth) if propagate_down[0] else None
        dy = self._columns(y, y.stored_diff, self.num_output)
        self.products_backward(0, dy[:, None, None], None if dx is None else dx[:, None, None])
        if dx is not None:
            self._put_back(dx, x, x.stored_diff)
