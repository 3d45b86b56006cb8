"""BNLL: y = log(1 + exp(x)), the binomial normal log likelihood (softplus).

    dx = dy · σ(x)

Caffe's BNLLLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.sigmoid import sigmoid, softplus


@register_layer
class BNLL(Neuron):
    """A smooth ReLU."""

    def compute(self, x: Array, y: Array) -> None:
        soft = scratch(x, x.shape)  # in place, x and y are the same array
        softplus(x, soft)
        y[...] = soft

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        sigmoid(x, out=slope)
        self.xp.multiply(dy, slope, out=dx)
