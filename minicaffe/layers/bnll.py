"""BNLL: y = log(1 + exp(x)), the binomial normal log likelihood (softplus).

    dx = dy · σ(x)

Caffe's BNLLLayer.
"""

from __future__ import annotations

from minicaffe.array import Array
from minicaffe.layer import register_layer
from minicaffe.layers.neuron import Neuron
from minicaffe.layers.sigmoid import sigmoid
from minicaffe.ops.workers import scratch


@register_layer
class BNLL(Neuron):
    """A smooth ReLU."""

    def compute(self, x: Array, y: Array) -> None:
        """max(x, 0) + log(1 + exp(−|x|)): nothing overflows."""
        tail = scratch(x, x.shape)
        self.xp.absolute(x, out=tail)
        self.xp.negative(tail, out=tail)
        self.xp.exp(tail, out=tail)
        self.xp.log1p(tail, out=tail)
        self.xp.maximum(x, 0, out=y)
        y += tail

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        slope = scratch(x, x.shape)
        sigmoid(x, out=slope)
        self.xp.multiply(dy, slope, out=dx)
