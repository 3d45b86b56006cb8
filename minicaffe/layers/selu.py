"""SeLu: y = λ · x where x > 0, λ · α · (exp(x) − 1) elsewhere.

    dx = λ · dy where x > 0, λ · α · dy · exp(x) elsewhere

With the default λ and α, activations of mean 0 and variance 1 tend to stay so from layer to layer: Klambauer,
Unterthiner, Mayr and Hochreiter 2017 (arXiv 1706.02515). The SeLuLayer of
HolmesShuan/SNNs-Self-Normalizing-Neural-Networks-Caffe-Reimplementation; SeLU in synopsys-caffe.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.spec.fields import Float, Message


class SeLuParam(Message):
    """``lambda``: λ, the slope above 0. ``alpha``: y tends to −λ · α for x → −∞."""

    alpha = Float(1.67326324)
    fields = {**Message.fields, "lambda": Float(1.050700987)}  # a word of Python

    @property
    def slope(self) -> float:
        """λ."""
        return float(vars(self)["lambda"])


@register_layer("SeLU")
@register_layer
class SeLu(Neuron):
    """Scaled exponential linear unit."""

    messages = {"selu_param": SeLuParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(SeLuParam)
        self.slope, self.height = param.slope, param.slope * param.alpha

    def compute(self, x: Array, y: Array) -> None:
        curve = scratch(x, x.shape)
        self.xp.minimum(x, 0, out=curve)
        self.xp.expm1(curve, out=curve)
        curve *= self.height
        self.xp.maximum(x, 0, out=y)
        y *= self.slope
        y += curve

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        self.xp.minimum(x, 0, out=slope)
        self.xp.exp(slope, out=slope)
        slope *= self.height
        slope *= x <= 0
        slope += self.slope * (x > 0)
        self.xp.multiply(dy, slope, out=dx)
