"""ContinuationIndicator: where sequences begin and go on: 0 at the first step, 1 at all others.

Shapes: no bottom; y (T, N) for T = ``time_step`` steps of N = ``batch_size`` sequences.

It is the second bottom of an LSTM or RNN whose sequences all have T steps. The ContinuationIndicatorLayer of
xmfbit/warpctc-caffe.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Int, Message


class ContinuationIndicatorParam(Message):
    """``time_step``: T. ``batch_size``: N."""

    time_step = Int(required=True, min=1)
    batch_size = Int(required=True, min=1)


@register_layer
class ContinuationIndicator(Layer):
    """A constant, for recurrent layers."""

    messages = {"continuation_indicator_param": ContinuationIndicatorParam}
    bottoms = (0, 0)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ContinuationIndicatorParam)
        top[0].reshape(param.time_step, param.batch_size)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].data[0] = 0
        top[0].data[1:] = 1
