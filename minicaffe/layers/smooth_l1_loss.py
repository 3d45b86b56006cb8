"""SmoothL1Loss: the squared distance where it is small, the absolute distance where it is large.

    loss = Σ v · f(d) / n,  d = w · (a − b)        f(d) = (σ · d)² / 2 if |d| < 1 / σ², else |d| − 1 / 2σ²
    da = loss_weight · v · w · f′(d) / n,  f′(d) = σ² · d, or the sign of d        db = −da

Shapes: a, b (N, …), and optionally inside weights w, or w and outside weights v, all of the same shape, up to axes
of length 1 at the end.

n is N, unless ``loss_param`` says otherwise. A second top (N, 1, H, W) takes the sums of v · f(d) over the
channels.

The SmoothL1LossLayer of Fast R-CNN's Caffe (Girshick 2015, arXiv 1504.08083; rbgirshick/caffe-fast-rcnn), of
SSD's, which has w alone, and of R-FCN's, which has w alone, ``loss_param`` and the second top
(daijifeng001/caffe-rfcn). With either of these two, n is what R-FCN has: VALID and FULL mean N · H · W.
R-FCN's backward leaves w out, which is the same for weights of 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer, LossParam
from minicaffe.spec.fields import Float, Message


class SmoothL1LossParam(Message):
    """``sigma``: σ; the larger it is, the smaller the distances that already count linearly."""

    sigma = Float(1.0, above=0, max=1e18)  # its square must fit in a float32


@register_layer
class SmoothL1Loss(LossLayer):
    """Regression of boxes; a and b get gradients, the weights do not."""

    messages = {"smooth_l1_loss_param": SmoothL1LossParam, "loss_param": LossParam}
    bottoms = (2, 4)
    tops = (1, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.square = self.sigma() ** 2
        shape = bottom[0].shape
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if _with_four_axes(blob.shape) != _with_four_axes(shape):
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}, the first {shape}; expected one shape"
                )
        self.divisor = self.normalizer(self.mode(), math.prod(shape[:1]), math.prod(shape[:1] + shape[2:]))
        self.slope = self.new_array(bottom[0].stored_shape)
        if len(top) > 1:
            top[1].reshape(*shape[:1], 1, *_with_four_axes(shape)[2:])

    def sigma(self) -> float:
        """σ, as given in the spec."""
        return self.spec.message(SmoothL1LossParam).sigma

    def mode(self) -> str:
        """What the sum is divided by: a ``normalization`` of ``loss_param``."""
        is_of_rfcn = len(self.spec.top) > 1 or self.spec.has("loss_param")
        return self.spec.message(LossParam).mode() if is_of_rfcn else "BATCH_SIZE"

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, square = self.xp, self.square
        a, b, *weights = (blob.stored.reshape(self.slope.shape) for blob in bottom)
        d = a - b
        for inside in weights[:1]:
            d *= inside
        size = xp.absolute(d)
        is_small = size < 1 / square
        losses = xp.where(is_small, d * d * (square / 2), size - 0.5 / square)
        self.slope[...] = xp.where(is_small, d * square, xp.sign(d))
        for inside_or_outside in weights:
            self.slope *= inside_or_outside
        for outside in weights[1:]:
            losses *= outside
        top[0].stored[...] = losses.sum() / self.divisor
        if len(top) > 1:
            channels = losses.shape[0] if losses.ndim > 1 else 1
            top[1].stored[...] = (
                losses.reshape(channels, top[1].count).sum(axis=0).reshape(top[1].stored_shape)
            )

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for sign, blob, wanted in zip((1, -1), bottom, propagate_down, strict=False):
            if wanted:
                factor = sign * top[0].stored_diff / self.divisor
                self.xp.multiply(self.slope.reshape(blob.stored_shape), factor, out=blob.stored_diff)


def _with_four_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, with axes of length 1 at the end if it has fewer than four."""
    return shape + (1,) * (4 - len(shape))
