"""SigmoidCrossEntropyBalanceLoss: the cross entropy of sigmoids and targets 0 and 1, of which the rarer weigh more.

    p = σ(x)        loss = −Σ (w₁·t·log p + w₀·(1 − t)·log(1 − p)) / N        dx = loss_weight · w · (p − t) / N

Shapes: scores x (N, …), targets t (N, …) with equally many elements. Targets other than 0 and 1 do not count.

Each image has weights of its own: w₁ is the share of zeros among its targets, w₀ that of ones. So edges, a few
pixels of an image, weigh as much as all that is no edge: Xie and Tu 2015 (Holistically-Nested Edge Detection, arXiv
1504.06375). s9xie/hed has it under the name SigmoidCrossEntropyLoss, where targets that do not count get p − t as
their gradient nevertheless; yun-liu/RCF too, with 0 for these, and w₀ multiplied by 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.layers.loss import LossLayer
from minicaffe.ops.sigmoid import sigmoid, softplus


@register_layer
class SigmoidCrossEntropyBalanceLoss(LossLayer):
    """Class-balanced cross entropy, for edges and other rare pixels."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.check_equal_counts(bottom)
        self.batch = math.prod(bottom[0].shape[:1])
        self.columns = (bottom[0].count // max(1, self.batch), self.batch)
        self.losses = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].stored
        t = bottom[1].stored.reshape(x.shape)
        elementwise(self._cross_entropy, x, t, self.losses)
        self.weights = self._weights(t.reshape(self.columns)).reshape(x.shape)
        top[0].stored[...] = (self.losses * self.weights).sum() / max(1, self.batch)

    def _weights(self, t: Array) -> Array:
        """The weight of each number of t, which has a column for each image."""
        ones, zeros = t == 1, t == 0
        counted = self.xp.maximum((ones | zeros).sum(axis=0), 1)
        weights: Array = (ones * zeros.sum(axis=0) + zeros * ones.sum(axis=0)) / counted.astype(self.dtype)
        return weights

    def _cross_entropy(self, x: Array, t: Array, losses: Array) -> None:
        softplus(x, losses)
        losses -= x * t

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        x, dx = bottom[0].stored, bottom[0].stored_diff
        scale = top[0].stored_diff / max(1, self.batch)

        def gradient(x: Array, t: Array, weights: Array, dx: Array) -> None:
            sigmoid(x, dx)
            dx -= t
            dx *= weights
            dx *= scale

        elementwise(gradient, x, bottom[1].stored.reshape(x.shape), self.weights, dx)
