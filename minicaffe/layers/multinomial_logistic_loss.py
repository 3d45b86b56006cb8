"""MultinomialLogisticLoss: the negative log of the label's probability.

    loss = −Σ log p[label] / N        dp = −loss_weight / (N · p[label]) at the label, 0 elsewhere

Shapes: probabilities p (N, …) with K per image, stored (K, N); labels (N,) in [0, K).

Probabilities count as at least 1e-20. SoftmaxWithLoss takes scores instead, and is more accurate.

Caffe's MultinomialLogisticLossLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer, check_label_count, read_labels
from minicaffe.ops.softmax import one_hot, pick

SMALLEST = 1e-20


@register_layer
class MultinomialLogisticLoss(LossLayer):
    """Cross entropy of labels and probabilities, such as the output of a Softmax layer."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.batch, self.classes = math.prod(shape[:1]), math.prod(shape[1:])
        check_label_count(self, bottom[1], (self.batch,), self.classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp = self.xp
        p = bottom[0].stored.reshape(self.classes, self.batch)
        self.labels, _ = read_labels(self, bottom[1], (self.batch,), self.classes, None)
        self.chosen = xp.maximum(pick(p, self.labels), SMALLEST)
        top[0].stored[...] = -xp.log(self.chosen).sum() / self.batch

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dp = bottom[0].stored_diff.reshape(self.classes, self.batch)
            slope = -top[0].stored_diff / (self.batch * self.chosen)
            self.xp.multiply(one_hot(self.labels, self.classes), slope, out=dp)
