"""PReLU: y = max(x, 0) + a · min(x, 0), with a learned slope a for each channel, or one for all.

    dx = dy where x > 0, a · dy elsewhere        da = Σ dy · min(x, 0)

Shapes: x, y (N, C, …), stored (C, …, N); a (C,), or () with ``channel_shared``.

Caffe's PReLULayer; He et al. 2015 (arXiv 1502.01852).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import scratch
from minicaffe.layers.in_place import SavedInput
from minicaffe.ops import channels
from minicaffe.ops.channels import Broadcast
from minicaffe.ops.epilogue import Function, Map
from minicaffe.ops.rectify import relu, relu_grad
from minicaffe.spec.fields import Bool, Message, Nested


class PReLUParam(Message):
    """``filler``: the initial slopes, ¼ by default."""

    filler = Nested(FillerParam)
    channel_shared = Bool(False)


@register_layer
class PReLU(Layer):
    """Rectified linear unit whose slope on the negative side is learned."""

    messages = {"prelu_param": PReLUParam}
    in_place = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(PReLUParam)
        self.num_axes = 0 if param.channel_shared else 1
        filler = param.filler if param.has("filler") else FillerParam(value=0.25)
        self.add_blob(self._find_broadcast(bottom).coefficient_shape, filler)

    def _find_broadcast(self, bottom: Blobs) -> Broadcast:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected at least 2 axes (N, C)")
        return Broadcast(shape, 1, self.num_axes)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.broadcast = self._find_broadcast(bottom)
        if self.broadcast.coefficient_shape != self.blobs[0].shape:
            raise self.shape_error(
                f"bottom has {bottom[0].shape[1]} channels, but the slopes are for {self.blobs[0].shape[0]}"
            )
        top[0].reshape(*bottom[0].shape)
        self.saved_input = SavedInput(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        rows, slope = self.broadcast.rows, self.broadcast.spread(self.blobs[0].values)
        x, y = rows(bottom[0].stored), rows(top[0].stored)
        channels.in_blocks(self._rectify, x, slope, y, self.saved_input.buffer_for(x))

    def as_map(self) -> Map:
        slopes = self.xp.broadcast_to(self.blobs[0].values.reshape(-1), self.broadcast.shape[1:2])
        return Function(lambda y, slope: relu(y, slope, out=y), (slopes,))

    def _rectify(self, x: Array, slope: Array, y: Array, saved: Array | None) -> None:
        if saved is not None:
            saved[...] = x
        relu(x, slope, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        rows, slope = self.broadcast.rows, self.broadcast.spread(self.blobs[0].values)
        x = self.saved_input.original(rows(bottom[0].stored))
        dy = rows(top[0].stored_diff)
        if self.param_propagate_down[0]:
            sums = channels.row_sums(self._slope_sum, 1, x, dy)[0]
            self.blobs[0].add_to_diff(self.broadcast.gather(sums))
        if propagate_down[0]:
            channels.in_blocks(self._gate, x, slope, dy, rows(bottom[0].stored_diff))

    def _slope_sum(self, x: Array, dy: Array) -> list[Array]:
        product = scratch(x, x.shape)
        self.xp.minimum(x, 0, out=product)
        product *= dy
        return [product.sum(axis=1)]

    def _gate(self, x: Array, slope: Array, dy: Array, dx: Array) -> None:
        relu_grad(x, dy, slope, out=dx)
