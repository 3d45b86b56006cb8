"""BatchReindex: images picked from a batch by index: in any order, some left out, some repeated.

    y[j] = x[index[j]]        dx[n] = Σ dy[j] over the j with index[j] = n

Shapes: x (N, …), index (J,) with whole numbers in [0, N), y (J, …).

The index gets no gradient. Caffe's BatchReindexLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.ops.select import add_images, check_indices


@register_layer
class BatchReindex(Layer):
    """A batch of images picked from another."""

    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, index = bottom[0].shape, bottom[1].shape
        if len(index) != 1 or not shape:
            raise self.shape_error(
                f"bottoms {shape} and {index}; expected a batch (N, …), and one index for each image wanted"
            )
        top[0].reshape(*index, *shape[1:])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.index = bottom[1].stored.astype(self.xp.int64)
        check_indices(self.index, bottom[0].shape[0], self.spec.where, "images")
        top[0].stored[...] = self.xp.take(bottom[0].stored, self.index, axis=-1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            add_images(top[0].stored_diff, self.index, bottom[0].stored_diff)
