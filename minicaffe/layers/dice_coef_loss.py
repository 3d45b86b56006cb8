"""DiceCoefLoss: how far two batches are from overlapping, 0 where they are equal.

    r_n = (2 · a_n·b_n + 1) / (|a_n|² + |b_n|² + 1)        loss = 1 − Σ_n |r_n| / N

    da_n = loss_weight · 2 · (r_n · a_n − b_n) / (|a_n|² + |b_n|² + 1) / N        db the same with a and b exchanged

Shapes: a, b (N, …), with equally many elements. The 1 keeps images without an object from dividing by 0.

The gradient is that of r, not of |r|, as in the fork. Masks and probabilities have no r below 0.

The DiceCoefLossLayer of HolmesShuan/A-Variation-of-Dice-coefficient-Loss-Caffe-Layer, for segmentation and for
numbers that are not 0 or 1; the coefficient is that of Dice 1945.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import LossLayer

SMOOTH = 1


@register_layer
class DiceCoefLoss(LossLayer):
    """One minus the mean Dice coefficient; both bottoms get gradients."""

    backward_instead = "that of r in place of |r|"

    def takes_gradient(self, bottom_index: int) -> bool:
        return True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.check_equal_counts(bottom)
        self.batch = math.prod(bottom[0].shape[:1])
        self.columns = (bottom[0].count // max(1, self.batch), self.batch)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        a, b = self._columns(bottom[0]), self._columns(bottom[1])
        self.divisor = (a * a).sum(axis=0) + (b * b).sum(axis=0) + SMOOTH
        self.ratio = (2 * (a * b).sum(axis=0) + SMOOTH) / self.divisor
        top[0].stored[...] = 1 - self.xp.absolute(self.ratio).sum() / max(1, self.batch)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for own, other, wanted in zip(bottom, bottom[::-1], propagate_down, strict=True):
            if wanted:
                scale = 2 * top[0].stored_diff / self.divisor / max(1, self.batch)
                dx = own.stored_diff.reshape(self.columns)
                dx[...] = scale * (self.ratio * self._columns(own) - self._columns(other))

    def _columns(self, blob: Blob) -> Array:
        """The blob as a column for each image."""
        return blob.stored.reshape(self.columns)
