"""FocalLoss: SoftmaxWithLoss in which a label counts the less, the surer the net is of it.

    p = softmax(x)        loss = −Σ w · log p[label] / n,   w = α · (1 − p[label])^γ

    dx = loss_weight · w · (1 − γ · p[label] · log p[label] / (1 − p[label])) · (p − onehot(label)) / n

Shapes: scores x (N, …, C, …) with C classes along ``axis``; labels (N, …) without that axis, in [0, C). n is that
of SoftmaxWithLoss. A second top takes the probabilities.

Lin, Goyal, Girshick, He and Dollár 2017 (arXiv 1708.02002), who have a sigmoid in place of the softmax. The
FocalLossLayer of zimenglan-sysu-512/Focal-Loss, which makefile/frcnn trains with.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.layers.softmax import SoftmaxParam
from minicaffe.layers.softmax_with_loss import SoftmaxLossParam, SoftmaxWithLoss
from minicaffe.ops.softmax import cross_entropy, pick
from minicaffe.spec.fields import Enum, Float, Message

SMALLEST_REST = 1e-10  # of 1 − p, by which the gradient divides


class FocalLossParam(Message):
    """``gamma``, ``alpha``: see above. ``type`` and ``beta`` are read, but have no effect, as in the fork."""

    type = Enum("ORIGIN", "LINEAR", default="ORIGIN")
    gamma = Float(2.0, min=0)
    alpha = Float(0.25, above=0)
    beta = Float(1.0)


@register_layer
class FocalLoss(SoftmaxWithLoss):
    """For classes of which one, such as the background, is much more frequent than the others."""

    messages = {
        "focal_loss_param": FocalLossParam,
        "loss_param": SoftmaxLossParam,
        "softmax_param": SoftmaxParam,
    }
    tops = (1, 2)

    def label_losses(self) -> Array:
        return super().label_losses() * self._weights(pick(self.prob, self.labels))

    def score_grad(self, dx: Array) -> None:
        super().score_grad(dx)
        p = pick(self.prob, self.labels)
        losses = cross_entropy(self.prob, self.labels)
        gamma, rest = self.spec.message(FocalLossParam).gamma, self.xp.maximum(1 - p, SMALLEST_REST)
        dx *= self._weights(p) * (1 + gamma * p * losses / rest)

    def _weights(self, p: Array) -> Array:
        """w, from the probabilities of the labels."""
        param = self.spec.message(FocalLossParam)
        weights: Array = param.alpha * self.xp.maximum(1 - p, 0) ** param.gamma
        return weights
