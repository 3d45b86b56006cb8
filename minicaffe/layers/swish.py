"""Swish: y = x · σ(β · x).

    dx = dy · σ · (1 + β · x · (1 − σ)),  σ = σ(β · x)

Caffe's SwishLayer; Ramachandran, Zoph and Le 2017 (arXiv 1710.05941).
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.neuron import Neuron
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import Float, Message


class SwishParam(Message):
    """``beta``: how sharp the bend at 0 is; for large β, Swish is close to ReLU."""

    beta = Float(1.0)


@register_layer
class Swish(Neuron):
    """x, gated by its own sigmoid."""

    messages = {"swish_param": SwishParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.beta = self.spec.message(SwishParam).beta

    def compute(self, x: Array, y: Array) -> None:
        gate = scratch(x, x.shape)
        self._gate(x, gate)
        self.xp.multiply(x, gate, out=y)

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        gate, slope = scratch(x, x.shape, 0), scratch(x, x.shape, 1)
        self._gate(x, gate)
        self.xp.subtract(1, gate, out=slope)
        slope *= x
        slope *= self.beta
        slope += 1
        slope *= gate
        self.xp.multiply(dy, slope, out=dx)

    def _gate(self, x: Array, out: Array) -> None:
        """out = σ(β · x)."""
        self.xp.multiply(x, self.beta, out=out)
        sigmoid(out, out=out)
