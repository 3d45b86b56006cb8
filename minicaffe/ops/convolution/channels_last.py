"""Convolution of each channel with its own filters, where a channel has few pixels: with the channels last.

Runs of one channel's pixels would be short. With the channels last, a row of pixels is one run; each weight is
repeated for all outputs of a row. For some channels at a time, their names and shapes as in ``depthwise.py``:

    q[h, (w, n, c)]       = x[c, h − p, w − p, n], or 0 beyond the image
    y[oh, (ow, n, c)]     = Σ_ij w[i, j, (ow, n, c)] · q[oh·s + i·d, (ow·s + j·d, n, c)]
    dw[i, j, (ow, n, c)]  = Σ_oh q[oh·s + i·d, (ow·s + j·d, n, c)] · dy[oh, (ow, n, c)], then the sum over ow and n

With a stride, q has a row for each kernel column j, of the pixels that it meets.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array
from minicaffe.ops.convolution.depthwise import DepthwiseConvolution, Part, copy_reached
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.ops.epilogue import Epilogue

FEW_COLUMNS = 400  # of the output, with all images
LEAST_CHANNELS = 32
SPARE = 16  # numbers after the channels of a pixel: pixels 2 KB apart would share few places in a cache


def suits(geometry: Geometry) -> bool:
    """Whether this is the faster way."""
    return geometry.columns <= FEW_COLUMNS and geometry.channels >= LEAST_CHANNELS


class ChannelsLastConvolution(DepthwiseConvolution):
    """A DepthwiseConvolution on a CPU."""

    def _cut(self) -> list[Part]:
        """Some channels for each worker."""
        rows = slice(0, self.geometry.output[0])
        return [Part(own, rows) for own in workers.cut(self.geometry.channels, self.workers)]

    def forward_padded(
        self, padded: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> None:
        """As ``DepthwiseConvolution.forward_padded``."""
        w, y = self._filters(w), self._images(out)
        bias = None if bias is None else bias.reshape(w.shape[:2])

        def multiply(part: Part, worker: int) -> None:
            own, windows = part.channels, self._windows(padded, part)
            for k in range(self.multiplier):
                outputs = workers.scratch(padded, (windows.shape[2], windows.shape[3]), slot=1)
                np.einsum("ijhl,ijl->hl", windows, self._along_rows(w[own, k]), out=outputs)
                result = self._pixels_of(outputs, len(w[own]))
                if bias is not None:
                    result += bias[own, k]
                if epilogue is not None:
                    filters = slice(
                        own.start * self.multiplier + k, own.stop * self.multiplier, self.multiplier
                    )
                    epilogue.apply(np.moveaxis(result, -1, 0), filters)
                np.moveaxis(y[own, k], 0, -1)[...] = result

        workers.share(multiply, self.parts, self.workers)

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """As ``DenseConvolution.weight_grad``."""
        dy, dw = self._images(dy), self._filters(out)

        def multiply(part: Part, worker: int) -> None:
            own, windows = part.channels, self._windows(padded, part)
            for k in range(self.multiplier):
                outputs = workers.scratch(padded, (windows.shape[2], windows.shape[3]), slot=1)
                self._pixels_of(outputs, len(dw[own]))[...] = np.moveaxis(dy[own, k], 0, -1)
                sums = workers.scratch(padded, (*windows.shape[:2], windows.shape[3]), slot=2)
                np.einsum("ijhl,hl->ijl", windows, outputs, out=sums)
                sums = sums.reshape(*windows.shape[:2], -1, self._spaced(len(dw[own])))
                np.moveaxis(dw[own, k], 0, -1)[...] = sums.sum(axis=2)[..., : len(dw[own])]

        workers.share(multiply, self.parts, self.workers)
        if bias_out is not None:
            dy.sum(axis=(2, 3, 4), out=bias_out.reshape(dy.shape[:2]))

    def _windows(self, image: Array, part: Part) -> Array:
        """q as a view (kh, kw, OH, OW·N·c): for each weight and row of outputs the pixels that it meets."""
        geometry, window = self.geometry, self.geometry.window
        (kernel_h, kernel_w), (rows, width), batch = window.kernel, geometry.output, geometry.batch
        border, source = self.border(image), image[part.channels]
        if window.stride[1] == 1:
            lines = [range(-border[1], geometry.padded[1] - border[1])]
        else:
            lines = [self._pixels(1, j, width, border) for j in range(kernel_w)]
        height = self._input_rows(rows)
        spaced = self._spaced(len(source))
        q = workers.scratch(image, (height, len(lines), len(lines[0]), batch, spaced))
        for line, columns in enumerate(lines):
            target = np.moveaxis(q[:, line, ..., : len(source)], -1, 0)
            copy_reached(target, source, range(-border[0], height - border[0]), columns)
        h, line, w = q.strides[:3]
        strides = (window.dilation[0] * h, window.dilation[1] * w if len(lines) == 1 else line)
        run = width * batch * spaced
        return np.ndarray(
            (kernel_h, kernel_w, rows, run), q.dtype, q, strides=(*strides, window.stride[0] * h, q.itemsize)
        )

    def _along_rows(self, w: Array) -> Array:
        """Filters (c, kh, kw), repeated for all outputs of a row: (kh, kw, OW·N·c)."""
        shape = (*w.shape[1:], self.row, self._spaced(len(w)))
        repeated = workers.scratch(w, shape, slot=2)
        repeated[..., : len(w)] = np.moveaxis(w, 0, -1)[:, :, None]
        repeated[..., len(w) :] = 0
        return repeated.reshape(*shape[:2], -1)

    def _pixels_of(self, outputs: Array, channels: int) -> Array:
        """Outputs (OH, OW·N·c) as (OH, OW, N, channels), without what is spare."""
        pixels = outputs.reshape(*self.geometry.output, self.geometry.batch, self._spaced(channels))
        return pixels[..., :channels]

    def _images(self, y: Array) -> Array:
        """y as (C, m, OH, OW, N)."""
        return y.reshape(self.geometry.group, self.multiplier, *self.geometry.output_shape[1:])

    def _spaced(self, channels: int) -> int:
        return channels + SPARE

    @cached_property
    def turned(self) -> DepthwiseConvolution | None:
        """As ``DepthwiseConvolution.turned``."""
        turned = self.geometry.turned
        if turned is None or self.multiplier > 1:
            return None
        kind = ChannelsLastConvolution if suits(turned) else DepthwiseConvolution
        return kind(turned, self.dtype)
