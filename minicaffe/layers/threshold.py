"""Threshold: y = 1 where x > threshold, 0 elsewhere.

There is no gradient. Caffe's ThresholdLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.spec.fields import Float, Message


class ThresholdParam(Message):
    """``threshold``: x must be greater than this."""

    threshold = Float(0.0)


@register_layer
class Threshold(Layer):
    """A step function."""

    messages = {"threshold_param": ThresholdParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.threshold = self.spec.message(ThresholdParam).threshold
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        elementwise(self._step, bottom[0].stored, top[0].stored)

    def _step(self, x: Array, y: Array) -> None:
        y[...] = x > self.threshold
