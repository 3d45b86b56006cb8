"""SmoothL1Loss: the squared distance where it is small, the absolute distance where it is large.

    loss = Σ v · f(d) / N,  d = w · (a − b)        f(d) = (σ · d)² / 2 if |d| < 1 / σ², else |d| − 1 / 2σ²
    da = loss_weight · v · w · f′(d) / N,  f′(d) = σ² · d, or the sign of d        db = −da

Shapes: a, b (N, …), and optionally inside weights w and outside weights v, all of the same shape.

The SmoothL1LossLayer of Fast R-CNN's Caffe (Girshick 2015, arXiv 1504.08083; rbgirshick/caffe-fast-rcnn).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer
from minicaffe.spec.fields import Float, Message


class SmoothL1LossParam(Message):
    """``sigma``: σ; the larger it is, the smaller the distances that already count linearly."""

    sigma = Float(1.0, above=0, max=1e18)  # its square must fit in a float32


@register_layer
class SmoothL1Loss(LossLayer):
    """Regression of boxes; a and b get gradients, the weights do not."""

    messages = {"smooth_l1_loss_param": SmoothL1LossParam}
    bottoms = (2, 4)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.square = self.spec.message(SmoothL1LossParam).sigma ** 2
        if len(bottom) == 3:
            raise self.spec.error("bottom", "3 given; give 2, or 4 with inside weights and outside weights")
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if blob.shape != bottom[0].shape:
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}, the first {bottom[0].shape}; expected one shape"
                )
        self.batch = max(1, math.prod(bottom[0].shape[:1]))
        self.slope = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, square = self.xp, self.square
        d = bottom[0].stored - bottom[1].stored
        inside, outside = (blob.stored for blob in bottom[2:]) if len(bottom) > 2 else (None, None)
        d = d if inside is None else d * inside
        size = xp.absolute(d)
        is_small = size < 1 / square
        losses = xp.where(is_small, d * d * (square / 2), size - 0.5 / square)
        self.slope[...] = xp.where(is_small, d * square, xp.sign(d))
        if inside is not None:
            losses *= outside
            self.slope *= inside * outside
        top[0].stored[...] = losses.sum() / self.batch

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for sign, blob, wanted in zip((1, -1), bottom, propagate_down, strict=False):
            if wanted:
                factor = sign * top[0].stored_diff / self.batch
                self.xp.multiply(self.slope, factor, out=blob.stored_diff)
