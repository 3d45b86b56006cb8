"""Bias: y = x + b, where b has the shape of some axes of x.

    dx = dy        db = Σ dy over the elements that share an element of b

Shapes: x, y (N, C, …); b (C,) by default: a parameter, or the second bottom.

Caffe's BiasLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.ops import channels
from minicaffe.ops.channels import Broadcast, RowLoops
from minicaffe.ops.epilogue import Affine, Map
from minicaffe.spec.fields import Int, Message, Nested


class BiasParam(Message):
    """b spans ``num_axes`` axes of x, starting at ``axis`` (−1: to the last axis; 0: b is a single number).

    With two bottoms, ``num_axes`` is ignored: b has the axes of the second.
    """

    axis = Int(1)
    num_axes = Int(1, min=-1)
    filler = Nested(FillerParam)


def find_broadcast(layer: Layer, bottom: Blobs, axis: int, num_axes: int) -> Broadcast:
    """How the second bottom, or parameters for ``num_axes`` axes, spread over the first bottom from ``axis`` on.

    Raises ShapeError if they do not fit.
    """
    shape = bottom[0].shape
    given = bottom[1].shape if len(bottom) > 1 else None
    count = num_axes if given is None else len(given)
    if count == 0:
        return Broadcast(shape, 0, 0)
    axis = canonical_axis(layer, axis, len(shape))
    count = len(shape) - axis if count == -1 else count
    if axis + count > len(shape):
        raise layer.shape_error(
            f"{count} axes from axis {axis} on are more than bottom '{layer.spec.bottom[0]}' {shape} has"
        )
    broadcast = Broadcast(shape, axis, count)
    if given is not None and given != broadcast.coefficient_shape:
        raise layer.shape_error(
            f"bottom '{layer.spec.bottom[1]}' has shape {given}; expected {broadcast.coefficient_shape}, the axes "
            f"of '{layer.spec.bottom[0]}' {shape} from axis {axis} on"
        )
    return broadcast


def check_learned_shape(layer: Layer, broadcast: Broadcast) -> None:
    """Raises ShapeError if the bottom's shape has changed so that the parameters no longer fit."""
    for blob in layer.blobs:
        if blob.shape != broadcast.coefficient_shape:
            raise layer.shape_error(
                f"parameters of shape {blob.shape} do not fit a bottom of shape {broadcast.shape}; "
                f"they would have to be {broadcast.coefficient_shape}"
            )


@register_layer
class Bias(Layer):
    """Adds a bias along some axes."""

    messages = {"bias_param": BiasParam}
    in_place = True
    saves_nothing = True
    bottoms = (1, 2)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if len(bottom) == 1:
            self.add_blob(self._find_broadcast(bottom).coefficient_shape, self.spec.message(BiasParam).filler)

    def _find_broadcast(self, bottom: Blobs) -> Broadcast:
        param = self.spec.message(BiasParam)
        return find_broadcast(self, bottom, param.axis, param.num_axes)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.broadcast = self._find_broadcast(bottom)
        check_learned_shape(self, self.broadcast)
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        bias = self.blobs[0] if self.blobs else bottom[1]
        rows = self.broadcast.rows
        channels.in_blocks(
            self._add, rows(bottom[0].stored), self.broadcast.spread(bias.data), rows(top[0].stored)
        )

    def as_map(self) -> Map | None:
        return Affine(shift=self.blobs[0].values) if self.blobs and self.broadcast.is_per_channel else None

    def _add(self, x: Array, bias: Array, y: Array) -> None:
        with RowLoops(x):
            self.xp.add(x, bias, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = top[0].stored_diff
        if self.blobs and self.param_propagate_down[0]:
            self.blobs[0].add_to_diff(self._sums(dy))
        if not self.blobs and propagate_down[1]:
            bottom[1].diff[...] = self._sums(dy)
        if propagate_down[0] and top[0] is not bottom[0]:
            elementwise(self.xp.copyto, bottom[0].stored_diff, dy)

    def _sums(self, dy: Array) -> Array:
        """Σ dy for each element of the bias."""
        sums = channels.row_sums(lambda dy: [dy.sum(axis=1)], 1, self.broadcast.rows(dy))
        return self.broadcast.gather(sums[0])
