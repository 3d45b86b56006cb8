"""HingeLoss: each score should be above 1 for the label and below −1 for every other class.

    s = −1 at the label, 1 elsewhere        m = max(0, 1 + s·x)

    L1    loss = Σ m / N         dx = loss_weight · s · [m > 0] / N
    L2    loss = Σ m² / N        dx = loss_weight · 2·s·m / N

Shapes: scores x (N, …) with K per image, stored (K, N); labels (N,) in [0, K).

Caffe's HingeLossLayer: one-versus-all, as in a linear support vector machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer, check_label_count, read_labels
from minicaffe.ops.softmax import one_hot
from minicaffe.spec.fields import Enum, Message


class HingeLossParam(Message):
    """``norm``: whether the loss sums the margins (L1) or their squares (L2)."""

    norm = Enum("L1", "L2", default="L1")


@register_layer
class HingeLoss(LossLayer):
    """One-versus-all hinge loss, or its square."""

    messages = {"hinge_loss_param": HingeLossParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.is_l1 = self.spec.message(HingeLossParam).norm == "L1"
        shape = bottom[0].shape
        self.batch, self.classes = math.prod(shape[:1]), math.prod(shape[1:])
        self.sign = self.new_array((self.classes, self.batch))
        self.margin = self.new_array((self.classes, self.batch))
        check_label_count(self, bottom[1], (self.batch,), self.classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, m = self.xp, self.margin
        labels, _ = read_labels(self, bottom[1], (self.batch,), self.classes, None)
        self.sign[...] = xp.where(one_hot(labels, self.classes), -1, 1)
        xp.multiply(self.sign, bottom[0].stored.reshape(m.shape), out=m)
        m += 1
        xp.maximum(m, 0, out=m)
        top[0].stored[...] = (m.sum() if self.is_l1 else (m * m).sum()) / self.batch

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        xp, m, scale = self.xp, self.margin, top[0].stored_diff / self.batch
        dx = bottom[0].stored_diff.reshape(m.shape)
        xp.multiply(self.sign, m > 0 if self.is_l1 else 2 * m, out=dx)
        dx *= scale
