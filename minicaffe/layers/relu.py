"""ReLU: y = max(x, 0) + s · min(x, 0), with negative slope s (0 by default).

    dx = dy where x > 0, s · dy elsewhere

In place, y has taken x's memory: then y's sign stands for x's, as in Caffe. Caffe's ReLULayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise, scratch
from minicaffe.spec.fields import Enum, Float, Message
from minicaffe.spec.net import LayerSpec


class ReLUParam(Message):
    """``negative_slope``: the gradient where x is negative."""

    negative_slope = Float(0.0)
    engine = Enum("DEFAULT", "CAFFE", "CUDNN", default="DEFAULT")


@register_layer
class ReLU(Layer):
    """Rectified linear unit, leaky with a negative slope; of any shape."""

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
        if not self.slope:
            self.xp.maximum(x, 0, out=y)
            return
        negative = scratch(x, x.shape)
        self.xp.multiply(self.xp.minimum(x, 0, out=negative), self.slope, out=negative)
        self.xp.maximum(x, 0, out=y)
        y += negative

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            elementwise(self._gate, bottom[0].stored, top[0].stored_diff, bottom[0].stored_diff)

    def _gate(self, x: Array, dy: Array, dx: Array) -> None:
        if not self.slope:
            self.xp.multiply(dy, x > 0, out=dx)
            return
        passed = scratch(x, x.shape)
        self.xp.multiply(dy, x > 0, out=passed)
        self.xp.subtract(dy, passed, out=dx)
        dx *= self.slope
        dx += passed
