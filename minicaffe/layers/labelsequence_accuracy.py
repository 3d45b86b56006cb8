"""LabelsequenceAccuracy: the share of sequences whose labels are all right.

    right if spelled(argmax_c x_t(c)) = labels        y = the number of right ones / N

Shapes: scores x (N, T, C) (CtcLoss has them as (T, N, C)), labels (N, L), y (). Of equal scores the first counts.
What a path of classes spells is in ``ops/ctc.py``; labels equal to ``blank_label`` do not count, wherever they
stand.

There is no gradient. The LabelsequenceAccuracyLayer of xmfbit/warpctc-caffe.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host
from minicaffe.ops.ctc import spelled
from minicaffe.spec.fields import Int, Message


class LabelsequenceAccuracyParam(Message):
    """``blank_label``: the class of blank."""

    blank_label = Int(0)


@register_layer
class LabelsequenceAccuracy(Layer):
    """How often a text is read without a mistake."""

    messages = {"labelsequence_accuracy_param": LabelsequenceAccuracyParam}
    bottoms = (2, 2)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        scores, labels = (blob.shape for blob in bottom)
        if len(scores) != 3 or 0 in scores:
            raise self.shape_error(f"scores have shape {scores}; expected (sequences, steps, classes)")
        if labels[:1] != scores[:1] or len(labels) < 2:
            raise self.shape_error(f"labels have shape {labels}; expected ({scores[0]} sequences, labels)")
        top[0].reshape()

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        blank = self.spec.message(LabelsequenceAccuracyParam).blank_label
        batch, steps, _ = bottom[0].shape
        best = to_host(bottom[0].data.argmax(axis=2)).T
        labels = to_host(bottom[1].data).reshape(batch, -1).astype(np.int64)
        found, lengths = spelled(best, np.full(batch, steps), blank)
        right = sum(
            np.array_equal(row[:length], wanted[wanted != blank])
            for row, length, wanted in zip(found, lengths, labels, strict=True)
        )
        top[0].stored[...] = right / batch
