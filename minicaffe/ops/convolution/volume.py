"""Convolution over three spatial axes, as one over two: the kernel's depth becomes channels.

Shapes: x (C, D, H, W, N), w (M, C/g, kd, kh, kw), y (M, OD, OH, OW, N).

    slices (C·kd, H, W, OD·N)   for each output depth and kernel depth, the slice of x there: im2col over the
                                depth only
    y = w ∗ slices              with w as (M, C/g·kd, kh, kw), and OD·N images
    dx = the slices' gradients, each added to the slice that it came from
"""

from __future__ import annotations

from numpy.typing import DTypeLike

from minicaffe.device.array import CPU, Array, Device, module_of
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.epilogue import Epilogue


class VolumeConvolution:
    """The products for one geometry with three spatial axes, in one number type on one device; ``kind`` is that of
    the convolution over two."""

    def __init__(
        self,
        geometry: Geometry,
        dtype: DTypeLike,
        device: Device = CPU,
        kind: type[DenseConvolution] = DenseConvolution,
    ) -> None:
        self.geometry = geometry
        window, outputs = geometry.window, geometry.output[0]
        channels, _, height, width, batch = geometry.shape
        self.depths = [window.pixels(0, position, outputs) for position in range(window.kernel[0])]
        self.inner = slice(window.pad[0], window.pad[0] + geometry.image[0])  # of the padded depths
        plane = Window(window.kernel[1:], window.stride[1:], window.pad[1:], window.dilation[1:])
        slices = (channels * window.kernel[0], height, width, outputs * batch)
        self.planes = kind(Geometry(slices, geometry.filters, plane, geometry.group), dtype, device)

    def forward(
        self, x: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Array:
        """Write y (M, OD, OH, OW, N) into ``out``; return the padded slices, which ``weight_grad`` takes."""
        y = module_of(x).empty(self.planes.geometry.output_shape, x.dtype)
        padded = self.planes.forward(self._slices(x), w, y, bias, epilogue)
        out.reshape(self.geometry.output_shape)[...] = self._depth_second(y)
        return padded

    def pad(self, x: Array) -> Array:
        """What ``forward`` returns."""
        return self.planes.pad(self._slices(x))

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw (M, C/g, kd, kh, kw) into ``out`` and, where given, db (M,) into ``bias_out``."""
        self.planes.weight_grad(self._depth_last(dy), padded, out, bias_out)

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx (C, D, H, W, N) into ``out``."""
        slices = module_of(dy).empty(self.planes.geometry.shape, dy.dtype)
        w = w.reshape(self.planes.geometry.weight_shape)
        self.planes.input_grad(self._depth_last(dy), w, slices)
        (channels, _, *plane), outputs = self.geometry.shape, self.geometry.output[0]
        slices = self._depth_second(slices).reshape(channels, len(self.depths), outputs, *plane)
        dx = self._padded_depths(dy)
        for i, depths in enumerate(self.depths):
            dx[:, depths] += slices[:, i]
        out.reshape(self.geometry.shape)[...] = dx[:, self.inner]

    def _slices(self, x: Array) -> Array:
        """(C·kd, H, W, OD·N) of x: for each kernel depth, the slices under it."""
        xp, (channels, _, height, width, batch) = module_of(x), self.geometry.shape
        padded = self._padded_depths(x)
        padded[:, self.inner] = x.reshape(self.geometry.shape)
        outputs = self.geometry.output[0]
        slices: Array = xp.empty((channels, len(self.depths), height, width, outputs, batch), x.dtype)
        for i, depths in enumerate(self.depths):
            slices[:, i] = xp.moveaxis(padded[:, depths], 1, 3)
        return slices.reshape(self.planes.geometry.shape)

    def _padded_depths(self, like: Array) -> Array:
        """Zeros (C, D + 2p, H, W, N)."""
        channels, _, height, width, batch = self.geometry.shape
        zeros: Array = module_of(like).zeros(
            (channels, self.geometry.padded[0], height, width, batch), like.dtype
        )
        return zeros

    def _depth_second(self, images: Array) -> Array:
        """(m, H, W, OD·N) as (m, OD, H, W, N)."""
        split = images.reshape(*images.shape[:3], self.geometry.output[0], -1)
        moved: Array = module_of(images).moveaxis(split, 3, 1)
        return moved

    def _depth_last(self, y: Array) -> Array:
        """(M, OD, OH, OW, N) as (M, OH, OW, OD·N)."""
        volume: Array = module_of(y).moveaxis(y.reshape(self.geometry.output_shape), 1, 3)
        return volume.reshape(self.planes.geometry.output_shape)
