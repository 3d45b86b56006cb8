"""SoftmaxWithLoss: the multinomial logistic loss of the softmax of scores.

    p = softmax(x)        loss = −Σ log p[label] / n        dx = loss_weight · (p − onehot(label)) / n

Shapes: scores x (N, …, C, …) with C classes along ``axis``; labels (N, …) without that axis, in [0, C).

n is the number of labels that are not ignored, unless ``loss_param`` says otherwise.

With ``weight_by_label_freqs`` each label's loss and gradient are multiplied by the ``class_weighting`` of its
class; n still is the number of labels.

Caffe's SoftmaxWithLossLayer; the third top is from R-FCN's Caffe (daijifeng001/caffe-rfcn), for online hard example
mining (Shrivastava et al. 2016, arXiv 1604.03540). Microsoft/caffe, which YuwenXiong/py-R-FCN uses, calls the layer
with that top SoftmaxWithLossOHEM. The weights are from SegNet's (alexgkendall/caffe-segnet).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import LossLayer, LossParam, check_label_count, read_labels
from minicaffe.layers.softmax import SoftmaxParam
from minicaffe.ops.softmax import cross_entropy, cross_entropy_grad, softmax
from minicaffe.spec.fields import Bool, Float


class SoftmaxLossParam(LossParam):
    """``class_weighting``: a weight for each class, with ``weight_by_label_freqs``; without it, of no effect."""

    weight_by_label_freqs = Bool(False)
    class_weighting = Float(repeated=True)


@register_layer("SoftmaxWithLossOHEM")
@register_layer
class SoftmaxWithLoss(LossLayer):
    """Softmax and cross entropy in one; a second top takes the probabilities, a third each label's −log p.

    The third has the shape of the labels, and 0 for those that are ignored. No gradient comes from either.
    """

    messages = {"loss_param": SoftmaxLossParam, "softmax_param": SoftmaxParam}
    tops = (1, 3)
    class_weights: Array | None = None  # (C,)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(SoftmaxLossParam)
        if param.weight_by_label_freqs:
            weights = np.array(param.class_weighting, self.dtype)
            self.class_weights = self.setting.device.put(weights)

    def class_axis(self) -> int:
        """The axis of the classes, as given in the spec."""
        return self.spec.message(SoftmaxParam).axis

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.axis = canonical_axis(self, self.class_axis(), len(shape))
        self.classes = shape[self.axis]
        weights = self.class_weights
        if weights is not None and len(weights) != self.classes:
            raise self.spec.message(SoftmaxLossParam).error(
                "class_weighting", f"{len(weights)} weights for {self.classes} classes; give one for each"
            )
        self.label_shape = shape[: self.axis] + shape[self.axis + 1 :]
        self.outer = int(np.prod(shape[: self.axis]))
        self.stored_axis = bottom[0].stored_axis(self.axis)
        self.prob = self.new_array(self._classes_first(bottom[0].stored).shape)
        self.ignore = self.spec.message(LossParam).ignore_label
        self.mode = self.spec.message(LossParam).mode()
        if len(top) > 1:
            top[1].reshape(*shape)
        if len(top) > 2:
            top[2].reshape(*bottom[1].shape)
        check_label_count(self, bottom[1], self.label_shape, self.classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        softmax(self._classes_first(bottom[0].stored), out=self.prob)
        labels, counts = read_labels(self, bottom[1], self.label_shape, self.classes, self.ignore)
        self.labels, self.counts = (
            self._as_stored(labels),
            counts if counts is None else self._as_stored(counts),
        )
        valid = None if self.counts is None else self.counts.sum()
        self.divisor = self.normalizer(self.mode, self.outer, self.labels.size, valid)
        if self.class_weights is not None:
            weights = self.class_weights[self.labels]
            self.counts = weights if self.counts is None else weights * self.counts
        top[0].stored[...] = self.total_loss(bottom) / self.divisor
        if len(top) > 1:
            top[1].stored[...] = self.xp.moveaxis(self.prob, 0, self.stored_axis)
        if len(top) > 2:
            top[2].data[...] = self._as_given(self.label_losses()).reshape(top[2].shape)

    def _classes_first(self, stored: Array) -> Array:
        """A stored array with the class axis moved to the front; the other axes stay in the order of storage."""
        if self.stored_axis == 0:
            return stored
        moved: Array = self.xp.moveaxis(stored, self.stored_axis, 0)
        return moved

    def _as_stored(self, labels: Array) -> Array:
        """Labels, or one number for each, with their axes in the order of storage: the batch, if any, last."""
        if self.axis == 0 or labels.ndim < 2:
            return labels
        moved: Array = self.xp.ascontiguousarray(self.xp.moveaxis(labels, 0, -1))
        return moved

    def _as_given(self, losses: Array) -> Array:
        """What ``_as_stored`` has made of numbers of labels, in ``label_shape`` again."""
        if self.axis == 0 or losses.ndim < 2:
            return losses
        moved: Array = self.xp.moveaxis(losses, -1, 0)
        return moved

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dx = self._classes_first(bottom[0].stored_diff)
        self.score_grad(dx)
        dx *= top[0].stored_diff / self.divisor

    def total_loss(self, bottom: Blobs) -> Array:
        """−Σ log p[label] over the labels that count."""
        total: Array = self.label_losses().sum()
        return total

    def label_losses(self) -> Array:
        """−log p[label] of each label, or 0 if it is ignored, with the axes in the order of storage."""
        losses = cross_entropy(self.prob, self.labels)
        return losses if self.counts is None else losses * self.counts

    def score_grad(self, dx: Array) -> None:
        """Write the gradient of ``total_loss`` by the scores: p − onehot(label)."""
        cross_entropy_grad(self.prob, self.labels, out=dx)
        if self.counts is not None:
            dx *= self.counts
