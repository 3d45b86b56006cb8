"""ReLU6: y = min(max(x, 0) + s · min(x, 0), 6), with negative slope s (0 by default).

    dx = dy where 0 < x < 6, s · dy where x ≤ 0, 0 elsewhere

It is the same as Clip with bounds 0 and 6. MobileNet's activation (Howard et al. 2017, arXiv 1704.04861); a layer
of Caffe's forks (eric612/MobileNet-YOLO).
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.rectify import bounded, relu, relu_grad
from minicaffe.spec.fields import Float, Message


class ReLU6Param(Message):
    """``negative_slope``: the gradient where x is negative."""

    negative_slope = Float(0.0)


@register_layer
class ReLU6(Neuron):
    """Rectified linear unit, limited to 6."""

    messages = {"relu6_param": ReLU6Param}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.slope = self.spec.message(ReLU6Param).negative_slope

    def compute(self, x: Array, y: Array) -> None:
        relu(x, self.slope, out=y)
        bounded(y, None, 6, y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        relu_grad(x, dy, self.slope, out=dx)
        dx *= x < 6
