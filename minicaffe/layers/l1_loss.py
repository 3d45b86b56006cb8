"""L1Loss: the mean absolute distance between two batches.

    loss = Σ |a − b| / N        da = loss_weight · sign(a − b) / N        db = −da

Shapes: a, b (N, …), with equally many elements. Where a is b, the gradient is 0.

The L1LossLayer of NVIDIA/caffe, which trains the boxes of DetectNet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer


@register_layer
class L1Loss(LossLayer):
    """Least absolute deviations; both bottoms get gradients."""

    def takes_gradient(self, bottom_index: int) -> bool:
        return True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.check_equal_counts(bottom)
        self.batch = max(1, math.prod(bottom[0].shape[:1]))
        self.sign = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        a = bottom[0].stored
        difference = a - bottom[1].stored.reshape(a.shape)
        self.xp.sign(difference, out=self.sign)
        top[0].stored[...] = self.xp.absolute(difference).sum() / self.batch

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for sign, blob, wanted in zip((1, -1), bottom, propagate_down, strict=True):
            if wanted:
                scale = sign * top[0].stored_diff / self.batch
                self.xp.multiply(self.sign, scale, out=blob.stored_diff.reshape(self.sign.shape))
