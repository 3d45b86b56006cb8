"""Flatten: merges the axes ``axis`` to ``end_axis`` (by default all but the batch) into one.

    y = x        dx = dy

Shapes: x (N, C, H, W) -> y (N, C·H·W).

Like ``Reshape``, it shares memory if it can. Caffe's FlattenLayer.
"""

from __future__ import annotations

import math

from minicaffe.core.layer import canonical_axis, register_layer
from minicaffe.layers.reshape import Reshape
from minicaffe.spec.fields import Int, Message


class FlattenParam(Message):
    """The first and the last of the axes to merge."""

    axis = Int(1)
    end_axis = Int(-1)


@register_layer
class Flatten(Reshape):
    """A blob with several of its axes merged; cannot be in place."""

    messages = {"flatten_param": FlattenParam}

    def new_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The top's shape for a bottom of ``shape``. Raises SpecError or ShapeError if there is none."""
        param = self.spec.message(FlattenParam)
        begin = canonical_axis(self, param.axis, len(shape))
        end = canonical_axis(self, param.end_axis, len(shape), "end_axis") + 1
        if end < begin:
            raise param.error(
                "end_axis", f"axis {end - 1} comes before axis {begin}, where flattening begins"
            )
        return (*shape[:begin], math.prod(shape[begin:end]), *shape[end:])
