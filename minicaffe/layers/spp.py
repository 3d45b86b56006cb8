"""SPP: pooling over finer and finer grids of bins, for the same number of outputs whatever the size of the image.

    level l     2^l × 2^l bins (fewer if rounding leaves none): windows of ceil(H / 2^l) × ceil(W / 2^l) pixels that
                do not overlap; the image is padded on both sides to fit them
    y           the outputs of the levels, one after the other, each with its channels first
    dx          the sum of the gradients of the levels' poolings

Shapes: x (N, C, H, W), stored (C, H, W, N) -> y (N, C · (1 + 4 + 16 + …)) with ``pyramid_height`` terms, or
(N, C, 1, 1) with one term.

Spatial pyramid pooling: He et al. 2014 (arXiv 1406.4729). Caffe's SPPLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.errors import TrainingError
from minicaffe.ops import pooling
from minicaffe.ops.convolution.geometry import Window
from minicaffe.spec.fields import ENGINE, Enum, Int, Message


class SPPParam(Message):
    """``pyramid_height``: the number of levels."""

    pyramid_height = Int(required=True, min=1, max=16)
    pool = Enum("MAX", "AVE", "STOCHASTIC", default="MAX")
    engine = ENGINE


@register_layer
class SPP(Layer):
    """A pyramid of poolings."""

    messages = {"spp_param": SPPParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(SPPParam), bottom[0].shape
        self.pool = param.pool
        if len(shape) != 4 or 0 in shape:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W), none of them 0")
        self.windows = [bins(shape[2:], level) for level in range(param.pyramid_height)]
        for level, window in enumerate(self.windows):
            if any(pad >= kernel for pad, kernel in zip(window.pad, window.kernel, strict=True) if pad):
                raise param.error(
                    "pyramid_height",
                    f"{param.pyramid_height}: an image of {shape[2:]} is too small for {2**level} bins each way",
                )
        grids = [pooling.output_size(shape[2:], window) for window in self.windows]
        self.grids = [(shape[1], *grid, shape[0]) for grid in grids]
        outputs = shape[1] * sum(rows * cols for rows, cols in grids)
        top[0].reshape(*((shape[0], outputs) if len(grids) > 1 else (*shape[:2], *grids[0])))
        self.picked = [
            self.new_array(grid, pooling.position_type(window))
            for grid, window in zip(self.grids, self.windows, strict=True)
        ]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for y, window, picked in zip(self._levels(top[0].stored), self.windows, self.picked, strict=True):
            self._pool(bottom[0].stored, window, y, picked)

    def _pool(self, x: Array, window: Window, y: Array, picked: Array) -> None:
        if self.pool == "AVE":
            pooling.ave_pool(x, window, y)
        elif self.pool == "MAX":
            pooling.max_pool(x, window, y, picked)
        elif self.phase == "TRAIN":
            pooling.sample_pool(x, window, self.rng.random(y.shape, dtype=y.dtype), y, picked)
        else:
            pooling.expected_pool(x, window, y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dx = bottom[0].stored_diff
        if self.pool == "STOCHASTIC" and self.phase == "TEST":
            raise TrainingError(f"{self.spec.where}: STOCHASTIC pooling has no gradient in the test phase")
        levels = zip(self._levels(top[0].stored_diff), self.windows, self.picked, strict=True)
        for number, (dy, window, picked) in enumerate(levels):
            share = self.xp.empty_like(dx) if number else dx
            if self.pool == "AVE":
                pooling.ave_pool_grad(dy, window, share)
            else:
                pooling.max_pool_grad(dy, picked, window, share)
            if number:
                dx += share

    def _levels(self, stored: Array) -> list[Array]:
        """The parts of the top's array that belong to the levels, each (C, rows, cols, N)."""
        flat, parts, start = stored.reshape(-1, stored.shape[-1]), [], 0
        for grid in self.grids:
            end = start + grid[0] * grid[1] * grid[2]
            parts.append(flat[start:end].reshape(grid))
            start = end
        return parts


def bins(image: tuple[int, int], level: int) -> Window:
    """The window of a level for an (H, W) image (``GetPoolingParam`` in Caffe's spp_layer.cpp)."""
    count = 2**level
    kernel = tuple(-(-size // count) for size in image)
    pad = tuple((k * count - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
    return Window(kernel, kernel, pad)
