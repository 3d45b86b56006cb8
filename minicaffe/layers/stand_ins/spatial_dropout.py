"""ENet's ``SpatialDropoutLayer`` (``spatial_dropout``): whole maps are dropped at random.

    y = x · m / (1 − p), with m 0 or 1 for each map of each image: 0 with probability p;    dx = dy · m / (1 − p)

Shapes: x, y (N, C, …); m (N, C). Where ``phase`` in ``param_str`` is not TRAIN, m is 1, and y = x / (1 − p), as in
the original, whose script for deployment expects that. In the original all images share the m of the last of them
in backward; here each has its own.

A Python layer of ENet's Caffe (TimoSaemann/caffe-enet), which is written in Python 2; spatial dropout: Tompson et
al. 2014 (arXiv 1411.4280).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs
from minicaffe.device.array import Array
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.spec.fields import Float, Message, String


class SpatialDropoutSettings(Message):
    """What ``param_str`` has: ``p``, the share that is dropped, and ``phase``, which is not that of the net."""

    phase = String(required=True)
    p = Float(required=True, above=0, below=1)


@stand_in("spatial_dropout", "SpatialDropoutLayer")
class SpatialDropoutLayer(StandIn):
    """Dropout of maps."""

    bottoms = (1, 1)
    tops = (1, 1)

    def takes_gradient(self, bottom_index: int) -> bool:
        return True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        settings = self.read(SpatialDropoutSettings)
        self.drops, self.ratio = settings.phase == "TRAIN", settings.p

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected a batch with maps (N, C, …)")
        top[0].reshape(*shape)
        self.factors_shape = (shape[1], *[1] * (len(shape) - 2), shape[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.factors: Array | float = 1 / (1 - self.ratio)
        if self.drops:
            kept = self.rng.random(self.factors_shape, dtype=self.dtype) >= self.ratio
            self.factors = kept * self.dtype.type(self.factors)
        self.xp.multiply(bottom[0].stored, self.factors, out=top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            self.xp.multiply(top[0].stored_diff, self.factors, out=bottom[0].stored_diff)
