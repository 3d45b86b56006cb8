"""Deconvolution: y = wᵀ ∗ x + b, the transpose of a convolution; it upsamples by its stride.

    y  = col2im(wᵀ · x) + b         the input gradient of the convolution that takes y to x
    dx = w · im2col(dy)             its output
    dw = x · im2col(dy)ᵀ            its weight gradient, with x in place of dy and dy in place of x

Shapes: x (N, C, H, W), stored (C, H, W, N); w (C, M/g, kh, kw) for g groups; b (M,); y (N, M, OH, OW), stored
(M, OH, OW, N), with OH = stride·(H − 1) + dilation·(kh − 1) + 1 − 2·pad, and OW likewise.

Caffe's DeconvolutionLayer; Long et al. 2015 (arXiv 1411.4038), with the bilinear filler.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import channelwise
from minicaffe.layers.convolution import Convolution, ConvolutionParam
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.ops.convolution.products import Products


@register_layer
class Deconvolution(Convolution):
    """Transposed convolution; takes ``convolution_param``."""

    messages = {"convolution_param": ConvolutionParam}

    output_weights = None

    def weight_shape(self) -> tuple[int, ...]:
        """(C, M/g, kh, kw)."""
        return (self.channels, self.num_output // self.group, *self.window.kernel[-self.spatial_axes :])

    def output_size(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """(OH, OW): the image size that the convolution takes to (H, W)."""
        w = self.window
        return tuple(
            s * (size - 1) + e - 2 * p for size, s, e, p in zip(image, w.stride, w.extent, w.pad, strict=True)
        )

    def geometry(self, image: tuple[int, ...], batch: int) -> Geometry:
        """The shapes of the convolution from y (M, OH, OW, N) to x. Raises ValueError if y would be empty."""
        size = self.output_size(image)
        if min(size) < 1:
            raise ValueError(f"the top would be {size}; pad less, or use a larger kernel")
        return Geometry((self.num_output, *size, batch), self.channels, self.window, self.group)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        w = self.blobs[0].data
        for product, x, y in zip(self.products, bottom, top, strict=True):
            out = self.images(y, y.stored)
            product.input_grad(self.images(x, x.stored), w, out)
            if len(self.blobs) > 1:
                channelwise(_add_bias, out, self.blobs[1].data)
            self.put_back(out, y, y.stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (product, y, x) in enumerate(zip(self.products, top, bottom, strict=True)):
            dy, padded = self.images(y, y.stored_diff), None
            if propagate_down[i]:
                dx = self.images(x, x.stored_diff)
                padded = product.forward(dy, self.blobs[0].data, dx)
                self.put_back(dx, x, x.stored_diff)
            if self.param_propagate_down[0]:
                padded = product.pad(dy) if padded is None else padded
                self._add_weight_grad(product, self.images(x, x.stored), padded)
            if len(self.blobs) > 1 and self.param_propagate_down[1]:
                self._add_bias_grad(dy.reshape(self.num_output, -1))

    def _add_weight_grad(self, product: Products, x: Array, padded: Array) -> None:
        """Add dw: x plays the part that dy has in a convolution, and dy that of its padded input."""
        self.blobs[0].accumulate(lambda out: product.weight_grad(x, padded, out))

    def _add_bias_grad(self, dy: Array) -> None:
        self.blobs[1].accumulate(lambda out: dy.sum(axis=1, out=out))


def _add_bias(y: Array, b: Array) -> None:
    y += b.reshape(-1, *[1] * (y.ndim - 1))
