"""LRN: each element divided by a power of the energy around it.

    y = x / s^β,  s = k + α/n · Σ x²        dx = dy / s^β − 2αβ/n · x · Σ (dy · x / s^(β+1))

Shapes: x, y (N, C, H, W), stored (C, H, W, N).

ACROSS_CHANNELS sums over n = ``local_size`` channels at the same pixel. WITHIN_CHANNEL sums over n × n pixels of
the same channel, divides by n² (at borders as well) and takes 1 for k, as Caffe does.

Caffe's LRNLayer; Krizhevsky, Sutskever and Hinton 2012.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.layers.in_place import SavedInput
from minicaffe.ops.lrn import LocalResponse
from minicaffe.spec.fields import ENGINE, Enum, Float, Int, Message


class LRNParam(Message):
    """``local_size``: the window's width, odd."""

    local_size = Int(5, min=1)
    alpha = Float(1.0)
    beta = Float(0.75)
    norm_region = Enum("ACROSS_CHANNELS", "WITHIN_CHANNEL", default="ACROSS_CHANNELS")
    k = Float(1.0)
    engine = ENGINE

    def check(self) -> None:
        if self.local_size % 2 == 0:
            raise self.error(
                "local_size",
                f"{self.local_size} is even; it must be odd, to have a middle; use {self.local_size + 1}",
            )

    def response(self) -> LocalResponse:
        """The windows and constants that the spec asks for."""
        n, half = self.local_size, self.local_size // 2
        if self.norm_region == "ACROSS_CHANNELS":
            return LocalResponse(half, (0,), self.alpha / n, self.beta, self.k)
        return LocalResponse(half, (1, 2), self.alpha / n**2, self.beta, 1.0)


@register_layer
class LRN(Layer):
    """Local response normalisation."""

    messages = {"lrn_param": LRNParam}
    in_place = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.response = self.spec.message(LRNParam).response()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if len(bottom[0].shape) != 4:
            raise self.shape_error(f"bottom has shape {bottom[0].shape}; expected 4 axes (N, C, H, W)")
        top[0].reshape(*bottom[0].shape)
        self.saved_input = SavedInput(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = self.saved_input.save(bottom[0].stored)  # in place, neighbours may be overwritten first
        self.response.forward(x, out=top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            x = self.saved_input.original(bottom[0].stored)
            self.response.backward(x, top[0].stored_diff, out=bottom[0].stored_diff)
