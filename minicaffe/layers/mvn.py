"""MVN: each channel of each image (or each image, with ``across_channels``) normalised to mean 0 and variance 1.

    y = (x − μ) / (σ + ε)        dx = (dy − mean(dy) − y · mean(dy · y)) / (σ + ε)

Shapes: x (N, C, H, W), stored (C, H, W, N), or with fewer axes; y always has 4 axes.

dx is Caffe's: it ignores ε in the derivative of σ. With ``normalize_variance: false``, y = x − μ and
dx = dy − mean(dy). Caffe's MVNLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.in_place import SavedInput
from minicaffe.ops import channels
from minicaffe.ops.normalization import moments, normalize, normalize_grad
from minicaffe.spec.fields import Bool, Float, Message


class MVNParam(Message):
    """``eps`` is added to the standard deviation."""

    normalize_variance = Bool(True)
    across_channels = Bool(False)
    eps = Float(1e-9, min=0)


@register_layer
class MVN(Layer):
    """Mean-variance normalisation."""

    messages = {"mvn_param": MVNParam}
    in_place = True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param, shape = self.spec.message(MVNParam), bottom[0].shape
        if not 1 <= len(shape) <= 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 1 to 4 axes, (N, C, H, W)")
        if top[0] is bottom[0] and len(shape) != 4:
            raise self.shape_error(
                f"the top has 4 axes, so a bottom of shape {shape} cannot be normalised in place; "
                "give the top a name of its own"
            )
        n, c, h, w = (*shape, 1, 1, 1)[:4]
        top[0].reshape(n, c, h, w)
        self.rows = (1, c * h * w, n) if self.param.across_channels else (c, h * w, n)
        self.saved_input = SavedInput(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self._rows(bottom[0].stored), self._rows(top[0].stored)
        if not self.param.normalize_variance:
            self._subtract_mean(x, y)
            return
        self.mean, variance = moments(x, copy=self.saved_input.buffer_for(x))
        self.inverse_std = 1 / (self.xp.sqrt(variance) + self.param.eps)
        normalize(x, self.mean, self.inverse_std, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = self._rows(top[0].stored_diff), self._rows(bottom[0].stored_diff)
        if not self.param.normalize_variance:
            self._subtract_mean(dy, dx)
            return
        x = self.saved_input.original(self._rows(bottom[0].stored))
        normalize_grad(x, dy, self.mean, self.inverse_std, out=dx)

    def _rows(self, stored: Array) -> Array:
        """(channels, pixels, images); with ``across_channels``, all elements of an image are one row."""
        return stored.reshape(self.rows)

    def _subtract_mean(self, values: Array, out: Array) -> None:
        def block(values: Array, mean: Array, out: Array) -> None:
            self.xp.subtract(values, mean, out=out)

        channels.in_blocks(block, values, channels.mean(values), out)
