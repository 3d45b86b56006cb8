"""Scale: y = s · x + b, where s (and b) has the shape of some axes of x.

    dx = s · dy        ds = Σ dy · x        db = Σ dy        (sums over the elements that share an s)

Shapes: x, y (N, C, …); s, b (C,) by default. s is a parameter or the second bottom; b, a parameter, is only there
with ``bias_term``.

Caffe's ScaleLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.bias import check_learned_shape, find_broadcast
from minicaffe.layers.in_place import SavedInput
from minicaffe.ops import channels
from minicaffe.ops.channels import Broadcast, RowLoops
from minicaffe.ops.epilogue import Affine, Map
from minicaffe.spec.fields import Bool, Int, Message, Nested


class ScaleParam(Message):
    """s spans ``num_axes`` axes of x, starting at ``axis`` (−1: to the last axis; 0: s is a single number).

    With two bottoms, ``num_axes`` is ignored: s has the axes of the second. ``filler`` fills with 1 by default.
    """

    axis = Int(1)
    num_axes = Int(1, min=-1)
    filler = Nested(FillerParam)
    bias_term = Bool(False)
    bias_filler = Nested(FillerParam)


@register_layer
class Scale(Layer):
    """Multiplies along some axes, and adds a bias."""

    messages = {"scale_param": ScaleParam}
    in_place = True
    bottoms = (1, 2)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ScaleParam)
        shape = self._find_broadcast(bottom).coefficient_shape
        self.learns_scale, self.has_bias = len(bottom) == 1, param.bias_term
        if self.learns_scale:
            self.add_blob(shape, param.filler if param.has("filler") else FillerParam(value=1.0))
        if self.has_bias:
            self.add_blob(shape, param.bias_filler)

    def _find_broadcast(self, bottom: Blobs) -> Broadcast:
        param = self.spec.message(ScaleParam)
        return find_broadcast(self, bottom, param.axis, param.num_axes)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.broadcast = self._find_broadcast(bottom)
        check_learned_shape(self, self.broadcast)
        top[0].reshape(*bottom[0].shape)
        self.saved_input = SavedInput(bottom, top)

    def _scale(self, bottom: Blobs) -> Array:
        """s as (R, 1, T)."""
        return self.broadcast.spread(self.blobs[0].values if self.learns_scale else bottom[1].data)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        rows = self.broadcast.rows
        bias = self.broadcast.spread(self.blobs[-1].values) if self.has_bias else None
        x, y = rows(bottom[0].stored), rows(top[0].stored)
        channels.in_blocks(self._multiply, x, self._scale(bottom), bias, y, self.saved_input.buffer_for(x))

    @property
    def is_learned_per_channel(self) -> bool:
        """Whether s is a parameter, and each channel has one."""
        return self.learns_scale and self.broadcast.is_per_channel

    def coefficients(self) -> tuple[Array, Array | None]:
        """The parameters s and b as (R, 1, 1); None: there is no b."""
        spread = self.broadcast.spread
        return spread(self.blobs[0].values), spread(self.blobs[-1].values) if self.has_bias else None

    def as_map(self) -> Map | None:
        if not self.is_learned_per_channel:
            return None
        return Affine(self.blobs[0].values, self.blobs[-1].values if self.has_bias else None)

    def _multiply(self, x: Array, scale: Array, bias: Array | None, y: Array, saved: Array | None) -> None:
        if saved is not None:
            saved[...] = x
        with RowLoops(x):
            self.xp.multiply(x, scale, out=y)
            if bias is not None:
                y += bias

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        rows = self.broadcast.rows
        scale_wanted = self.param_propagate_down[0] if self.learns_scale else propagate_down[1]
        bias_wanted = self.has_bias and self.param_propagate_down[-1]
        dy = rows(top[0].stored_diff)
        x = self.saved_input.original(rows(bottom[0].stored)) if scale_wanted else None
        dx = rows(bottom[0].stored_diff) if propagate_down[0] else None

        def block(dy: Array, x: Array | None, scale: Array, dx: Array | None) -> list[Array]:
            sums = [] if x is None else [channels.product_sums(x, dy)]
            if bias_wanted:
                sums.append(dy.sum(axis=1))
            if dx is not None:
                with RowLoops(dy):
                    self.xp.multiply(dy, scale, out=dx)
            return sums

        count = int(scale_wanted) + int(bias_wanted)
        totals = channels.row_sums(block, count, dy, x, self._scale(bottom), dx)
        self._add_to_diffs(totals[0] if scale_wanted else None, totals[-1] if bias_wanted else None, bottom)

    def add_to_diffs(self, product_sums: Array, dy_sums: Array) -> None:
        """Add the gradients of learned s and b where they are wanted: Σ dy · x and Σ dy of each row."""
        scale_wanted, *bias_wanted = self.param_propagate_down
        self._add_to_diffs(product_sums if scale_wanted else None, dy_sums if any(bias_wanted) else None, ())

    def _add_to_diffs(self, product_sums: Array | None, dy_sums: Array | None, bottom: Blobs) -> None:
        if dy_sums is not None:
            self.blobs[-1].add_to_diff(self.broadcast.gather(dy_sums))
        if product_sums is None:
            return
        ds = self.broadcast.gather(product_sums)
        if self.learns_scale:
            self.blobs[0].add_to_diff(ds)
        else:
            bottom[1].diff[...] = ds
