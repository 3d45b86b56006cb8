"""CenterLoss: half the mean squared distance of features from the centre of their class.

    loss = Σ_n |x_n − c_y(n)|² / 2N        dx = loss_weight · (x − c_y) / N
    dc_j = Σ_{n: y(n) = j} (c_j − x_n) / (1 + number of n with y(n) = j)

Shapes: x (N, …) with all axes from ``axis`` on flattened to K; labels y (N,); centres c (num_output, K).

dc is no derivative of the loss, and no loss_weight is in it: with the rate of SGD it moves each centre towards the
features of its class. ``param: {lr_mult: 1, decay_mult: 0}`` keeps weight decay from it.

The CenterLossLayer of ydwen/caffe-face; Wen, Zhang, Li and Qiao 2016 (A Discriminative Feature Learning Approach
for Deep Face Recognition).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import LossLayer, check_label_count, read_labels
from minicaffe.ops.gemm import matmul
from minicaffe.spec.fields import Int, Message, Nested


class CenterLossParam(Message):
    """``num_output``: the number of classes; ``axis``: the first axis to flatten, which has to leave the images."""

    num_output = Int(required=True, min=1)
    center_filler = Nested(FillerParam)
    axis = Int(1)


@register_layer
class CenterLoss(LossLayer):
    """Draws the features of a class together, beside a SoftmaxWithLoss that keeps classes apart."""

    messages = {"center_loss_param": CenterLossParam}
    backward_instead = "for centres a step towards the mean of their class"

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(CenterLossParam)
        if canonical_axis(self, param.axis, len(bottom[0].shape)) != 1:
            raise self.spec.error("center_loss_param", f"axis {param.axis}, but labels are of images; set 1")
        self.classes, self.depth = param.num_output, math.prod(bottom[0].shape[1:])
        self.add_blob((self.classes, self.depth), param.center_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        if math.prod(shape[1:]) != self.depth:
            raise self.shape_error(
                f"bottom of shape {shape} has {math.prod(shape[1:])} features, the centres {self.depth}"
            )
        check_label_count(self, bottom[1], shape[:1], self.classes)
        self.batch = shape[0]
        self.difference = self.new_array((self.depth, self.batch))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.labels, _ = read_labels(self, bottom[1], (self.batch,), self.classes, None)
        x = bottom[0].stored.reshape(self.depth, self.batch)
        self.xp.subtract(x, self.blobs[0].values[self.labels].T, out=self.difference)
        flat = self.difference.reshape(-1)
        top[0].stored[...] = self.xp.dot(flat, flat) / (2 * max(1, self.batch))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if self.param_propagate_down[0]:
            self.blobs[0].accumulate(self._pull)
        if propagate_down[0]:
            dx = bottom[0].stored_diff.reshape(self.depth, self.batch)
            self.xp.multiply(self.difference, top[0].stored_diff / max(1, self.batch), out=dx)

    def _pull(self, out: Array) -> None:
        """Write dc, by a product with a matrix of ones and zeros that says which image is of which class."""
        is_of = (self.xp.arange(self.classes)[:, None] == self.labels).astype(self.dtype)
        weights = -is_of / (1 + is_of.sum(axis=1, keepdims=True))
        matmul(weights, self.difference.T, out=out)
