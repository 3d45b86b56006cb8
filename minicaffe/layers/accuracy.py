"""Accuracy: the share of predictions whose label is among the ``top_k`` highest scores.

Shapes: scores (N, …, C, …) with C classes along ``axis``, labels (N, …) without that axis, y ().

A score equal to the label's counts as higher: a tie counts against the label. A nan is as high as any score, and a
label whose score is nan is wrong (in Caffe nan is never higher, so it is always right). There is no gradient.
A class without labels has accuracy 0; in alexgkendall/caffe-segnet it has 1.

Caffe's AccuracyLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import check_label_count, read_labels
from minicaffe.ops.softmax import one_hot, pick
from minicaffe.spec.fields import Int, Message


class AccuracyParam(Message):
    """``top_k``: how many of the highest scores count as right."""

    top_k = Int(1, min=1)
    axis = Int(1)
    ignore_label = Int()


@register_layer
class Accuracy(Layer):
    """Accuracy over all predictions; a second top takes the accuracy within each class, (C,)."""

    messages = {"accuracy_param": AccuracyParam}
    bottoms = (2, 2)
    tops = (1, 2)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        self.param = param = self.spec.message(AccuracyParam)
        self.axis = canonical_axis(self, param.axis, len(shape))
        self.classes = shape[self.axis]
        self.label_shape = shape[: self.axis] + shape[self.axis + 1 :]
        if param.top_k > self.classes:
            raise param.error(
                "top_k", f"{param.top_k} is more than the {self.classes} classes of bottom {shape}"
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(self.classes)
        check_label_count(self, bottom[1], self.label_shape, self.classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param = self.xp, self.param
        scores = xp.moveaxis(bottom[0].data, self.axis, 0)
        labels, counts = read_labels(self, bottom[1], self.label_shape, self.classes, param.ignore_label)
        own = pick(scores, labels)
        as_high = (~(scores < own)).sum(axis=0)  # not ``>=``: nan is as high as any score
        right = (as_high <= param.top_k) & ~xp.isnan(own)
        counts = xp.ones(labels.shape, bool) if counts is None else counts
        top[0].stored[...] = (right & counts).sum() / xp.maximum(counts.sum(), 1)
        if len(top) > 1:
            of_class = (one_hot(labels, self.classes) & counts).reshape(self.classes, right.size)
            hits = (of_class & right.reshape(-1)).sum(axis=1)
            self._in_class = of_class.sum(axis=1)
            top[1].stored[...] = hits / xp.maximum(self._in_class, 1)

    def counted_by(self, top_index: int) -> Array | None:
        """A class's accuracy is weighted by its number of labels; a class missing from a batch is 0 there."""
        return self._in_class if top_index == 1 else None
