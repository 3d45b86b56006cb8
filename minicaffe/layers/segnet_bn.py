"""BN: the same by the batch's own statistics in every phase, or no more than a scale and a shift of each channel.

    LEARN        y = a · u + b,  u = (x − μ) / √(σ² + 10⁻⁹)        da = Σ dy · u        db = Σ dy
                 dx = a · (dy − mean(dy) − u · mean(dy · u)) / √(σ² + 10⁻⁹)
    INFERENCE    y = a · x + b        da = Σ dy · x        db = Σ dy        dx = a · dy

Shapes: x, y (N, C, H, W), stored (C, H, W, N); scale a, shift b, each (1, C, 1, 1), both blobs there are.

μ and σ² are the batch's at TRAIN and at TEST. With LEARN a second top takes μ and a third σ², each (1, C, 1, 1);
no gradient comes from them. A net is made ready for use by a script: it averages μ and σ² over many images, and
writes a / √(σ² + 10⁻⁹) and b − a · μ / √(σ² + 10⁻⁹) into the blobs of a net with ``bn_mode: INFERENCE``.

The BNLayer of SegNet's Caffe (Badrinarayanan, Kendall and Cipolla 2015, arXiv 1511.00561; alexgkendall/
caffe-segnet) and of ENet's (TimoSaemann/caffe-enet). A layer is this one if its spec has ``bn_mode``,
``scale_filler`` or ``shift_filler``.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_fork
from minicaffe.device.array import Array
from minicaffe.layers.bn import BN, BNParam
from minicaffe.ops import channels
from minicaffe.ops.epilogue import Affine, Map

VAR_EPS = 1e-9


@register_fork("BN", lambda spec: spec.message(BNParam).is_of_segnet)
class SegNetBN(BN):
    """Batch normalisation without moving statistics."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.setup_param(bottom)
        self.learns = self.param.bn_mode == "LEARN"
        if len(top) > 1 and not self.learns:
            raise self.spec.error("top", "with 'bn_mode: INFERENCE' there are no statistics; keep one top")
        for filler in (self.param.scale_filler, self.param.shift_filler):
            self.add_blob((1, self.channels, 1, 1), filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        for statistics in top[1:]:
            statistics.reshape(1, self.channels, 1, 1)
        if not self.learns:  # what is left of u is x
            self.mean, self.inverse_std = self.xp.zeros((2, self.channels, 1, 1), self.dtype)
            self.inverse_std += 1

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self.broadcast.rows(bottom[0].stored), self.broadcast.rows(top[0].stored)
        if not self.learns:
            saved = self.saved_input.buffer_for(x)
            channels.in_blocks(self._scale, x, *self.slope_and_bias(), y, saved)
            return
        if not x.size:
            for blob in top[1:]:
                blob.data.fill(0)
            return
        self.mean, self.variance, _ = self.batch_moments(x)
        for blob, found in zip(top[1:], self.statistics(), strict=False):
            blob.data[...] = found.reshape(blob.shape)
        self.normalize(x, self.variance, VAR_EPS, y)

    def statistics(self) -> tuple[Array, Array]:
        """μ and σ² of the latest batch, (C, 1, 1), of a layer that learns."""
        return self.mean, self.variance

    def _scale(self, x: Array, scale: Array, shift: Array, y: Array, saved: Array | None) -> None:
        if saved is not None:
            saved[...] = x
        self.xp.multiply(x, scale, out=y)
        y += shift

    def scale_and_shift(self) -> tuple[Array, Array] | None:
        scale, shift = (blob.values.reshape(-1) for blob in self.blobs)
        return None if self.learns else (scale, shift)

    def as_map(self) -> Map | None:
        found = self.scale_and_shift()
        return None if found is None else Affine(*found)

    @property
    def map_settings(self) -> tuple[object, ...]:
        return (self.learns,)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = self.broadcast.rows(top[0].stored_diff)
        dx = self.broadcast.rows(bottom[0].stored_diff) if propagate_down[0] else None
        if self.learns:
            if dy.size:
                self.batch_grads(bottom, dy, dx)
            return
        self.add_param_grads(self.saved_input.original(self.broadcast.rows(bottom[0].stored)), dy)
        if dx is not None:
            self.multiply(dy, self.slope_and_bias()[0], dx)
