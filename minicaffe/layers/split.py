"""Split: passes one blob to several layers; their gradients add up.

    y_k = x        dx = Σ_k dy_k

Nets insert it wherever a blob feeds several layers. Caffe's SplitLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.workers import Calls
from minicaffe.ops.epilogue import Epilogue


@register_layer
class Split(Layer):
    """Several tops that share the data of one bottom."""

    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        names = self.setting.label_names.get(self.spec.bottom[0])
        if names:  # the tops are labels too
            self.setting.label_names.of_top.update(dict.fromkeys(self.spec.top, names))

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob in top:
            blob.reshape(*bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Nothing to do: the tops share the bottom's data."""

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls:
        return []

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        arriving = [y for y, arrives in zip(top, self.top_has_gradient, strict=True) if arrives]
        dx = bottom[0].stored_diff
        if len(arriving) == 1:
            dx[...] = arriving[0].stored_diff
            return
        self.xp.add(arriving[0].stored_diff, arriving[1].stored_diff, out=dx)
        for blob in arriving[2:]:
            dx += blob.stored_diff
