"""Convolution of low rank: w ≈ left · right, or X ≈ Q·(Qᵀ·X), so that one GEMM becomes two thin ones.

Shapes as in ``layers/convolution.py``, with rank r for each of g groups.

    weights, channel    y = A · (B · X) + b             A (M/g, r), B (r, C/g·kh·kw)
    weights, spatial    y = H ∗ (V ∗ x) + b             V (g·r, C/g, kh, 1), H (M, r, 1, kw)
    data                y = (w·Q) · (Qᵀ · X) + b        Q (C/g·kh·kw, r)

Backward goes through the same two stages: dx = col2im(Bᵀ · (Aᵀ · dy)), dA = dy · (B·X)ᵀ, dB = (Aᵀ·dy) · Xᵀ. What
becomes of dA and dB is told where the factors come from. After Osawa et al., HPCS 2017, doi 10.1109/HPCS.2017.37.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_variant
from minicaffe.device.array import Array
from minicaffe.layers.convolution import Convolution
from minicaffe.low_rank.low_rank import LowRank, LowRankLayer
from minicaffe.low_rank.schemes import schemes


@register_variant("Convolution", "low_rank_param")
class LowRankConvolution(LowRankLayer, Convolution):
    """A Convolution with ``low_rank_param``."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.low_rank_param
        if self.spatial_axes == 3:
            raise param.error("", "is for one or two spatial axes, not 3; leave it out")
        if param.target == "DATA" and len(bottom) > 1:
            raise param.error(
                "target", f"'data' is for one bottom, not {len(bottom)}; give each a layer of its own"
            )
        super().reshape(bottom, top)
        self.bias_blob = self.blobs[1] if len(self.blobs) > 1 else None
        shape = (self.num_output, self.channels // self.group, *self.window.kernel)
        self.low_rank = LowRank(self, param, schemes[param.scheme](shape, self.group), self.products)

    def canonical_weights(self, w: Array) -> Array:
        return w.reshape(self.num_output, -1, *self.window.kernel)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.low_rank.fit(self.products)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        b = None if self.bias_blob is None else self.bias_blob.data
        self.low_rank.factorize(self.images(bottom[0], bottom[0].stored))
        for i, (x, y) in enumerate(zip(bottom, top, strict=True)):
            out = self.images(y, y.stored)
            self.low_rank.forward(i, self.images(x, x.stored), out, b)
            self.put_back(out, y, y.stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (y, x) in enumerate(zip(top, bottom, strict=True)):
            dx = self.images(x, x.stored_diff) if propagate_down[i] else None
            self.products_backward(i, self.images(y, y.stored_diff), dx)
            if dx is not None:
                self.put_back(dx, x, x.stored_diff)
