"""EuclideanLoss: half the mean squared distance between two batches.

    loss = Σ (a − b)² / 2N        da = loss_weight · (a − b) / N        db = −da

Shapes: a, b (N, …), with equally many elements.

Caffe's EuclideanLossLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.workers import elementwise
from minicaffe.layers.loss import LossLayer


@register_layer
class EuclideanLoss(LossLayer):
    """Least squares; both bottoms get gradients."""

    def takes_gradient(self, bottom_index: int) -> bool:
        return True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.check_equal_counts(bottom)
        self.batch = math.prod(bottom[0].shape[:1])
        self.difference = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        a = bottom[0].stored
        b = bottom[1].stored.reshape(a.shape)
        elementwise(self.xp.subtract, a, b, self.difference)
        flat = self.difference.reshape(-1)
        top[0].stored[...] = self.xp.dot(flat, flat) / (2 * self.batch)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for sign, blob, wanted in zip((1, -1), bottom, propagate_down, strict=True):
            if wanted:
                scale = sign * top[0].stored_diff / self.batch
                dx = blob.stored_diff.reshape(self.difference.shape)
                self.xp.multiply(self.difference, scale, out=dx)
