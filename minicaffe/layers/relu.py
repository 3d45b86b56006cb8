"""ReLU: y = max(x, 0) + s · min(x, 0), with negative slope s (0 by default).

    dx = dy where x > 0, s · dy elsewhere

In place, y has overwritten x, and its sign is used in place of x's. Caffe's ReLULayer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import elementwise, scratch
from minicaffe.spec.fields import ENGINE, Float, Message
from minicaffe.spec.net import LayerSpec


class ReLUParam(Message):
    """``negative_slope``: the gradient where x is negative."""

    negative_slope = Float(0.0)
    engine = ENGINE


@register_layer
class ReLU(Layer):
    """Rectified linear unit, leaky if there is a negative slope."""

    messages = {"relu_param": ReLUParam}
    in_place = True
    keeps_sign = True

    @classmethod
    def reads_top(cls, spec: LayerSpec) -> str:
        return "sign" if spec.top == spec.bottom else ""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape)
        self.slope = self.spec.message(ReLUParam).negative_slope

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        elementwise(self._rectify, bottom[0].stored, top[0].stored)

    def _rectify(self, x: Array, y: Array) -> None:
        relu(x, self.slope, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            elementwise(self._gate, bottom[0].stored, top[0].stored_diff, bottom[0].stored_diff)

    def _gate(self, x: Array, dy: Array, dx: Array) -> None:
        relu_grad(x, dy, self.slope, out=dx)


def relu(x: Array, slope: float | Array, out: Array) -> None:
    """out = max(x, 0) + slope · min(x, 0); out may be x."""
    xp = module_of(x)
    if np.isscalar(slope) and slope == 0:
        xp.maximum(x, 0, out=out)
        return
    negative = scratch(x, x.shape)
    xp.minimum(x, 0, out=negative)
    negative *= slope
    xp.maximum(x, 0, out=out)
    out += negative


def relu_grad(x: Array, dy: Array, slope: float | Array, out: Array) -> None:
    """out = dy where x > 0, slope · dy elsewhere; out may be dy."""
    xp = module_of(x)
    if np.isscalar(slope) and slope == 0:
        xp.multiply(dy, x > 0, out=out)
        return
    passed = scratch(x, x.shape)
    xp.multiply(dy, x > 0, out=passed)
    xp.subtract(dy, passed, out=out)
    out *= slope
    out += passed
