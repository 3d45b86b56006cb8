"""SigmoidCrossEntropyLoss: the cross entropy of the sigmoids of scores and targets in [0, 1].

    p = σ(x)        loss = −Σ (t·log p + (1 − t)·log(1 − p)) / n        dx = loss_weight · (p − t) / n

Shapes: scores x (N, …), targets t (N, …) with equally many elements.

The sum is computed as Σ max(x, 0) − x·t + log(1 + exp(−|x|)), which cannot overflow. n is the batch size unless
``loss_param`` says otherwise. Caffe's SigmoidCrossEntropyLossLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.layers.loss import LossLayer, LossParam
from minicaffe.ops.sigmoid import sigmoid, softplus


@register_layer
class SigmoidCrossEntropyLoss(LossLayer):
    """Sigmoid and cross entropy in one, for labels that do not exclude each other."""

    messages = {"loss_param": LossParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.check_equal_counts(bottom)
        param = self.spec.message(LossParam)
        given = param.has("normalization") or param.has("normalize")
        self.mode = param.mode() if given else "BATCH_SIZE"
        self.ignore = param.ignore_label
        self.batch = math.prod(bottom[0].shape[:1])
        self.losses = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].stored
        t = bottom[1].stored.reshape(x.shape)
        elementwise(self._cross_entropy, x, t, self.losses)
        self.counts, valid = self._counted(t), None
        if self.counts is not None:
            self.losses *= self.counts
            valid = self.counts.sum()
        self.divisor = self.normalizer(self.mode, self.batch, x.size, valid)
        top[0].stored[...] = self.losses.sum() / self.divisor

    def _cross_entropy(self, x: Array, t: Array, losses: Array) -> None:
        softplus(x, losses)
        losses -= x * t

    def _counted(self, t: Array) -> Array | None:
        """Which targets count (None: all); as in Caffe, their integer part is compared with ``ignore_label``."""
        return None if self.ignore is None else self.xp.trunc(t) != self.ignore

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        scale = top[0].stored_diff / self.divisor
        x, dx = bottom[0].stored, bottom[0].stored_diff
        t = bottom[1].stored.reshape(x.shape)

        def gradient(x: Array, t: Array, dx: Array) -> None:
            sigmoid(x, dx)
            dx -= t
            dx *= scale

        elementwise(gradient, x, t, dx)
        if self.counts is not None:
            dx *= self.counts
