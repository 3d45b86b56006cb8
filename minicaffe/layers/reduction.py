"""Reduction: all the numbers in the axes from ``axis`` on (by default, in the whole blob) reduced to one.

    SUM      y = c · Σ x          dx = c · dy
    ASUM     y = c · Σ |x|        dx = c · sign(x) · dy
    SUMSQ    y = c · Σ x²         dx = c · 2x · dy
    MEAN     y = c · Σ x / n      dx = c · dy / n

Shapes: x (N, C, …) -> y with the shape of x before ``axis``; n is the number of elements reduced to one.

c is ``coeff``. With a ``loss_weight`` the layer makes a loss of anything. Caffe's ReductionLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.workers import elementwise, scratch
from minicaffe.spec.fields import Enum, Float, Int, Message


class ReductionParam(Message):
    """``coeff``: a factor that multiplies the output."""

    operation = Enum("SUM", "ASUM", "SUMSQ", "MEAN", default="SUM")
    axis = Int(0)
    coeff = Float(1.0)


@register_layer
class Reduction(Layer):
    """The sum, the sum of absolute values or squares, or the mean."""

    messages = {"reduction_param": ReductionParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param, shape = self.spec.message(ReductionParam), bottom[0].shape
        axis = canonical_axis(self, self.param.axis, len(shape))
        top[0].reshape(*shape[:axis])
        # the batch is stored last, so an axis k > 0 is stored at k - 1
        self.axes = tuple(range(axis - 1, len(shape) - 1)) if axis else tuple(range(len(shape)))
        self.keepdims_shape = tuple(
            1 if i in self.axes else size for i, size in enumerate(bottom[0].stored_shape)
        )
        self.coeff = self.param.coeff
        if self.param.operation == "MEAN":
            self.coeff /= max(math.prod(shape[axis:]), 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y, operation = bottom[0].stored, top[0].stored, self.param.operation
        terms = x
        if operation in ("ASUM", "SUMSQ"):
            terms = scratch(x, x.shape)
            elementwise(self.xp.absolute if operation == "ASUM" else self.xp.square, x, terms)
        terms.sum(axis=self.axes, out=y)
        if self.coeff != 1:
            y *= self.coeff

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        xp, operation = self.xp, self.param.operation
        x, dx = bottom[0].stored, bottom[0].stored_diff
        dy = top[0].stored_diff.reshape(self.keepdims_shape) * self.coeff
        if operation == "ASUM":
            elementwise(xp.sign, x, dx)
            dx *= dy
        elif operation == "SUMSQ":
            xp.multiply(x, 2 * dy, out=dx)
        else:
            dx[...] = dy
