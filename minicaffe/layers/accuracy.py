"""Accuracy: the share of places whose label is among the ``top_k`` highest scores.

Shapes: scores (N, …, C, …) with C classes along ``axis``, a label for each place that is left. A score equal
to the label's counts as higher: a tie goes against the label. No gradient. Caffe's AccuracyLayer, but for nan:
it is as high as any score, and a label that has it is missed (in Caffe it is never higher, so nan is always right).
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
    """Accuracy over all places; a second top takes the accuracy within each class."""

    messages = {"accuracy_param": AccuracyParam}
    bottoms = (2, 2)
    tops = (1, 2)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        self.param = param = self.spec.message(AccuracyParam)
        self.axis = canonical_axis(self, param.axis, len(shape))
        self.classes = shape[self.axis]
        self.places = shape[: self.axis] + shape[self.axis + 1 :]
        if param.top_k > self.classes:
            raise param.error(
                "top_k", f"{param.top_k} is more than the {self.classes} classes of bottom {shape}"
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(self.classes)
        check_label_count(self, bottom[1], self.places, self.classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param = self.xp, self.param
        scores = xp.moveaxis(bottom[0].data, self.axis, 0)
        labels, counts = read_labels(self, bottom[1], self.places, self.classes, param.ignore_label)
        own = pick(scores, labels)
        as_high = (~(scores < own)).sum(axis=0)  # not ``>=``: nan is as high as any
        right = (as_high <= param.top_k) & ~xp.isnan(own)
        counts = xp.ones(labels.shape, bool) if counts is None else counts
        top[0].stored[...] = (right & counts).sum() / xp.maximum(counts.sum(), 1)
        if len(top) > 1:
            of_class = (one_hot(labels, self.classes) & counts).reshape(self.classes, right.size)
            hits = (of_class & right.reshape(-1)).sum(axis=1)
            self._in_class = of_class.sum(axis=1)
            top[1].stored[...] = hits / xp.maximum(self._in_class, 1)

    def counted_by(self, top_index: int) -> Array | None:
        """A class counts by the places that it has: one that a batch lacks is 0 there, as in Caffe."""
        return self._in_class if top_index == 1 else None
