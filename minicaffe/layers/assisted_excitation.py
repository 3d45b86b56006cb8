"""AssistedExcitation: activations raised where objects are, by less and less as training goes on.

    y = x + α · m · e        dx = dy        α = max(0, cos(π/2 · iteration / (3/4 · max_iter)))

with m = 1 for a pixel that a true box covers, even in part, else 0, and e, a number for each pixel: the mean of
its channels, as the paper has it. A solver's test nets have the α of its training. In a net without a solver, or
without max_iter, α is 1.

Shapes: x, y (N, C, H, W), stored (C, H, W, N); labels (N, …) of 5 numbers for each box, (label, x, y, w, h) in
fractions of the image, up to the first with x = 0; e, N · H · W numbers, as (N, H, W). Labels and e get no
gradient.

Derakhshani et al. 2019 (arXiv 1906.05388); a layer of eric612/MobileNet-YOLO, which raises the first image of a
batch only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host


@register_layer
class AssistedExcitation(Layer):
    """Helps a young detector to see where it should look; for training nets."""

    bottoms = (3, 3)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, labels, extra = (blob.shape for blob in bottom)
        if len(shape) != 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        images, _, height, width = shape
        if labels[:1] != shape[:1] or bottom[1].count % (5 * max(1, images)):
            raise self.shape_error(
                f"labels have shape {labels}; expected 5 numbers (label, x, y, w, h) for each box of an image"
            )
        if extra[:1] != shape[:1] or bottom[2].count != images * height * width:
            raise self.shape_error(f"means have shape {extra}; expected ({images}, {height}, {width})")
        self.pixels = (height, width, images)
        self.boxes_each = bottom[1].count // (5 * max(1, images))
        top[0].reshape(*shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        alpha = max(0.0, math.cos(math.pi / 2 * self.setting.progress / 0.75))
        labels = to_host(bottom[1].data).reshape(self.pixels[2], self.boxes_each, 5)
        mask = self.setting.device.put(alpha * self._covered(labels), self.dtype)
        self.xp.add(bottom[0].stored, mask * bottom[2].stored.reshape(self.pixels), out=top[0].stored)

    def _covered(self, labels: np.ndarray) -> np.ndarray:
        """The pixels (H, W, N) that boxes (N, T, 5) cover."""
        height, width, _ = self.pixels
        covered = np.zeros(self.pixels, bool)
        real = np.logical_and.accumulate(labels[:, :, 1] != 0, axis=1)
        centre, half = labels[:, :, 1:3], labels[:, :, 3:] / 2
        low = np.nan_to_num((centre - half) * [width, height]).clip(0, [width - 1, height - 1])
        high = np.nan_to_num((centre + half) * [width, height] + 0.95).clip(0, [width, height])
        for image, box in zip(*real.nonzero(), strict=True):
            (left, above), (right, below) = low[image, box].astype(int), high[image, box].astype(int)
            rows, columns = slice(above, max(below, above + 1)), slice(left, max(right, left + 1))
            covered[rows, columns, image] = True
        return covered

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            bottom[0].stored_diff[...] = top[0].stored_diff
