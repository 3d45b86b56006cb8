"""ReLU: y = max(x, 0) + s · min(x, 0), with negative slope s (0 by default).

    dx = dy where x > 0, s · dy elsewhere

In place, y has overwritten x, and its sign is used in place of x's. Caffe's ReLULayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.ops.epilogue import Bounded, Function, Map
from minicaffe.ops.rectify import relu, relu_grad
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
    saves_nothing = True

    @classmethod
    def reads_top(cls, spec: LayerSpec) -> str:
        return "sign" if spec.top == spec.bottom else ""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape)
        self.slope = self.spec.message(ReLUParam).negative_slope

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        elementwise(self._rectify, bottom[0].stored, top[0].stored)

    def as_map(self) -> Map:
        return Bounded(low=0) if self.slope == 0 else Function(lambda y: self._rectify(y, y))

    @property
    def map_settings(self) -> tuple[object, ...]:
        return (self.slope,)

    def _rectify(self, x: Array, y: Array) -> None:
        relu(x, self.slope, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            elementwise(self._gate, bottom[0].stored, top[0].stored_diff, bottom[0].stored_diff)

    def _gate(self, x: Array, dy: Array, dx: Array) -> None:
        relu_grad(x, dy, self.slope, out=dx)
