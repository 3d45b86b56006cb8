"""Filter: the images of several batches for which a selector is not 0.

    y = x[selected]        dx[selected] = dy, 0 elsewhere

Shapes: bottoms (N, …), the last of them the selector (N,) or (N, 1, …); for each of the others a top (J, …) with
the J selected images, in order.

J is only known in forward: before it, tops have all N images, and later layers follow their shapes. The selector
gets no gradient. Caffe's FilterLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host


@register_layer
class Filter(Layer):
    """The images that a selector lets through."""

    bottoms = (2, None)
    tops = (1, None)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < len(self.spec.bottom) - 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if len(top) != len(bottom) - 1:
            raise self.spec.error(
                "top",
                f"{len(top)} tops for {len(bottom) - 1} bottoms and a selector; give a top for each bottom",
            )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        selector = bottom[-1].shape
        if not selector or math.prod(selector[1:]) != 1:
            raise self.shape_error(f"selector '{self.spec.bottom[-1]}' has shape {selector}; expected (N,)")
        for name, x, y in zip(self.spec.bottom[:-1], bottom[:-1], top, strict=True):
            if x.shape[:1] != selector[:1]:
                raise self.shape_error(
                    f"bottom '{name}' has shape {x.shape}, the selector {selector}; expected one batch size"
                )
            y.reshape(*x.shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        selected = np.flatnonzero(to_host(bottom[-1].stored))
        self.selected = self.setting.device.put(selected)
        for x, y in zip(bottom[:-1], top, strict=True):
            y.reshape(len(selected), *x.shape[1:])
            y.stored[...] = self.xp.take(x.stored, self.selected, axis=-1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for x, y, wanted in zip(bottom[:-1], top, propagate_down[:-1], strict=True):
            if wanted:
                x.stored_diff.fill(0)
                x.stored_diff[..., self.selected] = y.stored_diff
