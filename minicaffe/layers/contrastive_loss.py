"""ContrastiveLoss: similar pairs should be near each other, dissimilar ones at least a margin apart.

    D² = Σ_k (a − b)²        loss = Σ (s · D² + (1 − s) · max(margin − D, 0)²) / 2N

    da = loss_weight · f · (a − b) / N,    f = 1 if similar, else −max(margin − D, 0) / D        db = −da

Shapes: a, b (N, K), stored (K, N); s (N,): 1 for a similar pair, 0 for a dissimilar one.

With ``legacy_version`` the term of a dissimilar pair is max(margin − D², 0), and f = −1 within the margin. As in
Caffe, 1e-4 is added to D before dividing by it.

Caffe's ContrastiveLossLayer; Hadsell et al. 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import LossLayer
from minicaffe.spec.fields import Bool, Float, Message

EPSILON = 1e-4


class ContrastiveLossParam(Message):
    """``margin``: how far apart dissimilar pairs should be; ``legacy_version``: compare it with D², not with D."""

    margin = Float(1.0)
    legacy_version = Bool(False)


@register_layer
class ContrastiveLoss(LossLayer):
    """A loss on distances, for siamese nets; a and b get gradients."""

    messages = {"contrastive_loss_param": ContrastiveLossParam}
    bottoms = (3, 3)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.param = self.spec.message(ContrastiveLossParam)
        self.check_equal_counts(bottom)
        self.batch = math.prod(bottom[0].shape[:1])
        self.difference = self.new_array((bottom[0].count // max(self.batch, 1), self.batch))
        if bottom[2].count != self.batch:
            raise self.shape_error(f"{bottom[2].count} labels {bottom[2].shape} for {self.batch} pairs")

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param, d = self.xp, self.param, self.difference
        xp.subtract(bottom[0].stored.reshape(d.shape), bottom[1].stored.reshape(d.shape), out=d)
        squared = (d * d).sum(axis=0)
        similar = xp.trunc(bottom[2].stored.reshape(-1)) != 0
        if param.legacy_version:
            short = xp.maximum(param.margin - squared, 0)
            dissimilar_loss, pull = short, -(short > 0).astype(d.dtype)
        else:
            distance = xp.sqrt(squared)
            short = xp.maximum(param.margin - distance, 0)
            dissimilar_loss, pull = short * short, -short / (distance + EPSILON)
        self.factor: Array = xp.where(similar, d.dtype.type(1), pull)
        top[0].stored[...] = xp.where(similar, squared, dissimilar_loss).sum() / (2 * self.batch)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for sign, blob, wanted in zip((1, -1), bottom[:2], propagate_down[:2], strict=True):
            if wanted:
                scale = self.factor * (sign * top[0].stored_diff / self.batch)
                dx = blob.stored_diff.reshape(self.difference.shape)
                self.xp.multiply(self.difference, scale, out=dx)
