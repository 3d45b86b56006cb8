"""Dropout: y = x · m / (1 − r) at TRAIN, with a random mask m that is 0 with probability r, else 1; y = x at TEST.

    dx = dy · m / (1 − r)

With ``scale_train: false`` the scaling happens at TEST instead: y = x · m at TRAIN, y = x · (1 − r) at TEST.
With ``sample_weights_test`` TEST is as TRAIN: the mean and the spread of many forwards are a Bayesian net's.

Caffe's DropoutLayer, with fields of Fast R-CNN's Caffe and of SegNet's (Kendall, Badrinarayanan and Cipolla 2015,
arXiv 1511.02680); Srivastava et al. 2014.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.ops.dropout import drop, random_bits, scale_for, threshold_for
from minicaffe.ops.epilogue import Affine, Function, Map
from minicaffe.spec.fields import Bool, Float, Message


class DropoutParam(Message):
    """``dropout_ratio``: the share r that is dropped; ``scale_train``: scale at TRAIN (true) or at TEST (false).

    ``sample_weights_test``: drop at TEST, too.
    """

    dropout_ratio = Float(0.5, min=0, below=1)
    scale_train = Bool(True)
    sample_weights_test = Bool(False)


@register_layer
class Dropout(Layer):
    """Sets a random part of the inputs to 0, a new one in each forward, without changing their mean.

    Masks come from the net's random generator, so a run can be repeated from its seed.
    """

    messages = {"dropout_param": DropoutParam}
    in_place = True
    keeps_sign = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(DropoutParam)
        self.drops = self.phase == "TRAIN" or param.sample_weights_test
        self.threshold = threshold_for(param.dropout_ratio)
        scale = scale_for(self.threshold)
        self.train_scale, self.test_scale = (scale, 1.0) if param.scale_train else (1.0, 1 / scale)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].stored, top[0].stored
        if self.drops:
            self.bits = random_bits(self.rng, x.shape)
            drop(x, self.bits, self.threshold, self.train_scale, out=y)
        else:
            self._scale(x, y)

    def as_map(self) -> Map | None:
        if self.drops:
            return None
        return Affine() if self.test_scale == 1 else Function(lambda y: self._multiply(y, y))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].stored_diff, bottom[0].stored_diff
        if self.drops:
            drop(dy, self.bits, self.threshold, self.train_scale, out=dx)
        else:
            self._scale(dy, dx)

    def _scale(self, source: Array, target: Array) -> None:
        """Copies: if the top shared the bottom's array, an in-place layer on it would change the bottom too."""
        if self.test_scale != 1:
            elementwise(self._multiply, source, target)
        elif target is not source:
            elementwise(self.xp.copyto, target, source)

    def _multiply(self, source: Array, target: Array) -> None:
        self.xp.multiply(source, self.test_scale, out=target)
