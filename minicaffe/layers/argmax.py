"""ArgMax: the indices of the k largest values, the largest first.

Shapes: x (N, …) with D values per image -> y (N, 1, k), or (N, 2, k) with the values in the second row
(``out_max_val``). With an ``axis``, y has x's shape with k along that axis, and holds indices or values.

Of equal values the later comes first. There is no gradient.

Caffe's ArgMaxLayer.
"""

from __future__ import annotations

import math

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.spec.fields import Bool, Int, Message


class ArgMaxParam(Message):
    """``top_k``: how many; ``out_max_val``: also return the values (with ``axis``: return only the values)."""

    out_max_val = Bool(False)
    top_k = Int(1, min=1)
    axis = Int()


@register_layer
class ArgMax(Layer):
    """Predicted classes from scores."""

    messages = {"argmax_param": ArgMaxParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        self.param = param = self.spec.message(ArgMaxParam)
        if not shape:
            raise self.shape_error("bottom has no axes; expected a batch (N, …)")
        if param.axis is None:
            values, top_shape = math.prod(shape[1:]), [1] * max(3, len(shape))
            top_shape[0], top_shape[2] = shape[0], param.top_k
            top_shape[1] = 2 if param.out_max_val else 1
        else:
            self.axis = canonical_axis(self, param.axis, len(shape))
            values, top_shape = shape[self.axis], list(shape)
            top_shape[self.axis] = param.top_k
        if param.top_k > values:
            raise param.error("top_k", f"{param.top_k} is more than the {values} values of bottom {shape}")
        top[0].reshape(*top_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param = self.xp, self.param
        if param.axis is not None:
            x = xp.moveaxis(bottom[0].data, self.axis, 0)
            y = xp.moveaxis(top[0].data, self.axis, 0)
            indices = largest_indices(x, param.top_k)
            y[...] = xp.take_along_axis(x, indices, axis=0) if param.out_max_val else indices
            return
        x = bottom[0].stored.reshape(-1, bottom[0].shape[0])
        rows = top[0].stored.reshape(-1, param.top_k, len(x.T))
        indices = largest_indices(x, param.top_k)
        rows[0] = indices
        if param.out_max_val:
            rows[1] = xp.take_along_axis(x, indices, axis=0)


def largest_indices(x: Array, k: int) -> Array:
    """(k, …): the indices along axis 0 of the k largest values, the largest first; ties: the later first."""
    if k == 1:
        last: Array = len(x) - 1 - x[::-1].argmax(axis=0)[None]
        return last
    ascending: Array = module_of(x).argsort(x, axis=0, kind="stable")
    return ascending[::-1][:k]
