"""Convolution over three spatial axes, by that over two: the kernel's depth becomes channels.

Shapes: x (C, D, H, W, N), w (M, C/g, kd, kh, kw), y (M, OD, OH, OW, N).

    slices (C·kd, H, W, OD·N)   for each output depth and kernel depth, the slice of x that they meet: im2col
                                over the depth alone
    y = w ∗ slices              with w as (M, C/g·kd, kh, kw), and OD·N images
    dx = the slices' gradients, each added to the slice that it came from
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import CPU, Array, Device, module_of
from minicaffe.ops.convolution.dense import Convolution2d
from minicaffe.ops.convolution.im2col import Window


class Convolution3d:
    """The three products for one shape of input, as ``Convolution2d`` has them.

    ``shape`` is the input's (C, D, H, W, N). Raises ValueError where no window fits.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        filters: int,
        window: Window,
        group: int,
        dtype: np.dtype,
        device: Device = CPU,
    ) -> None:
        self.shape, self.filters = shape, filters
        self.output = window.output_size(shape[1:4])
        if min(self.output) < 1:
            raise ValueError(f"a window of {window.extent} does not fit an image of {shape[1:4]}")
        channels, depth, height, width, batch = shape
        self.kernel_depth, self.pad_depth = window.kernel[0], window.pad[0]
        self.padded_depth = depth + 2 * self.pad_depth
        stride, dilation, out = window.stride[0], window.dilation[0], self.output[0]
        self.depths = [
            slice(i * dilation, i * dilation + (out - 1) * stride + 1, stride)
            for i in range(self.kernel_depth)
        ]
        plane = Window(window.kernel[1:], window.stride[1:], window.pad[1:], window.dilation[1:])
        slices = (channels * self.kernel_depth, height, width, out * batch)
        self.planes = Convolution2d(slices, filters, plane, group, dtype, device)

    def forward(self, x: Array, w: Array, out: Array, bias: Array | None = None) -> Array:
        """Write y (M, OD, OH, OW, N) into ``out``; return the padded slices, which ``weight_grad`` takes."""
        y = module_of(x).empty((self.filters, *self.planes.output, self.planes.batch), x.dtype)
        padded = self.planes.forward(self._slices(x), w, y, bias)
        out.reshape(self.filters, *self.output, -1)[...] = self._depth_second(y)
        return padded

    def pad(self, x: Array) -> Array:
        """What ``forward`` returns."""
        return self.planes.pad(self._slices(x))

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw (M, C/g, kd, kh, kw) into ``out`` and, where given, db (M,) into ``bias_out``."""
        self.planes.weight_grad(self._depth_last(dy), padded, out, bias_out)

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx (C, D, H, W, N) into ``out``."""
        xp, (channels, depth, height, width, batch) = module_of(dy), self.shape
        slices = xp.empty(self.planes.shape, dy.dtype)
        w = w.reshape(self.filters, -1, *self.planes.window.kernel)
        self.planes.input_grad(self._depth_last(dy), w, slices)
        slices = self._depth_second(slices).reshape(
            channels, self.kernel_depth, self.output[0], height, width, batch
        )
        dx = xp.zeros((channels, self.padded_depth, height, width, batch), dy.dtype)
        for i, depths in enumerate(self.depths):
            dx[:, depths] += slices[:, i]
        out.reshape(self.shape)[...] = dx[:, self.pad_depth : self.pad_depth + depth]

    def _slices(self, x: Array) -> Array:
        """(C·kd, H, W, OD·N) of x: for each kernel depth, the slices that it meets."""
        xp, (channels, depth, height, width, batch) = module_of(x), self.shape
        padded = xp.zeros((channels, self.padded_depth, height, width, batch), x.dtype)
        padded[:, self.pad_depth : self.pad_depth + depth] = x.reshape(self.shape)
        slices = xp.empty((channels, self.kernel_depth, height, width, self.output[0], batch), x.dtype)
        for i, depths in enumerate(self.depths):
            slices[:, i] = xp.moveaxis(padded[:, depths], 1, 3)
        return slices.reshape(self.planes.shape)

    def _depth_second(self, images: Array) -> Array:
        """(m, H, W, OD·N) as (m, OD, H, W, N)."""
        split = images.reshape(*images.shape[:3], self.output[0], -1)
        return module_of(images).moveaxis(split, 3, 1)

    def _depth_last(self, y: Array) -> Array:
        """(M, OD, OH, OW, N) as (M, OH, OW, OD·N)."""
        volume = y.reshape(self.filters, *self.output, -1)
        return module_of(y).moveaxis(volume, 1, 3).reshape(self.filters, *self.planes.output, -1)
