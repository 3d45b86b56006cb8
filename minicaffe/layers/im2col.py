"""Im2col: the data matrix of a convolution as a blob, with the pixels of each window as channels.

    y[n, (c, i, j), oh, ow] = x[n, c, oh·s − p + i·d, ow·s − p + j·d],  0 outside the image
    dx = each dy added to the pixel that it came from

Shapes: x (N, C, H, W), or with one, three or more spatial axes; y (N, C·kh·kw, OH, OW).

``axis`` is the axis of the channels; those before it are a batch. Caffe's Im2colLayer; it takes its sizes from
convolution_param.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.convolution import ConvolutionParam
from minicaffe.ops.convolution.geometry import Window
from minicaffe.spec.fields import Int


class Im2colParam(ConvolutionParam):
    """ConvolutionParam, of which only the sizes are used; ``num_output`` and ``group`` are ignored."""

    num_output = Int(0, min=0)


@register_layer
class Im2col(Layer):
    """Windows laid out as channels: a 1 × 1 convolution of them is a convolution of the image."""

    messages = {"convolution_param": Im2colParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(Im2colParam), bottom[0].shape
        self.axis = canonical_axis(self, param.axis, len(shape))
        self.axes = len(shape) - self.axis - 1
        if not self.axes:
            raise self.shape_error(
                f"bottom of shape {shape} has no axes after the channels (axis {self.axis}); "
                "expected some, as in (N, C, H, W)"
            )
        window = param.window(self.axes)
        sizes = (window.kernel, window.stride, window.pad, window.dilation)
        self.window = Window(*[size[-self.axes :] for size in sizes])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, first = bottom[0].shape, self.axis + 1
        if len(shape) != first + self.axes:
            raise self.shape_error(
                f"bottom has shape {shape}; expected {first + self.axes} axes, as at the start"
            )
        window, image = self.window, shape[first:]
        padded, output = window.padded_size(image), window.output_size(image)
        if min(output) < 1:
            raise self.shape_error(
                f"a window of {window.extent} does not fit in bottom {shape}, padded to {padded}; "
                "use a smaller kernel, or pad more"
            )
        top[0].reshape(*shape[: self.axis], shape[self.axis] * math.prod(window.kernel), *output)
        # the axes around the spatial ones, see ``_images``
        before = shape[1:first] if self.axis else shape[:1]
        after = shape[:1] if self.axis else ()
        self.columns_shape = (*before, *window.kernel, *output, *after)
        self.padded = self.xp.zeros((*before, *padded, *after), self.dtype)
        every = (slice(None),) * len(before)
        self.inner = every + window.inside(image)
        # for each kernel position: its rows of the columns, and their pixels in the padded image
        self.positions: list[tuple[Any, Any]] = [
            (every + position, every + window.under(position, output)) for position in window.positions()
        ]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.padded[self.inner] = self._images(bottom[0].stored)
        columns = self._columns(top[0].stored)
        for position, pixels in self.positions:
            columns[position] = self.padded[pixels]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        columns, padded = self._columns(top[0].stored_diff), self.xp.zeros_like(self.padded)
        for position, pixels in self.positions:
            padded[pixels] += columns[position]
        self._images(bottom[0].stored_diff)[...] = padded[self.inner]

    def _images(self, stored: Array) -> Array:
        """x's array with the channels before the spatial axes; with ``axis: 0`` they are stored last."""
        first: Array = stored if self.axis else self.xp.moveaxis(stored, -1, 0)
        return first

    def _columns(self, stored: Array) -> Array:
        """y's array with the kernel's axes apart: (…, C, kh, kw, OH, OW, N), or (C, kh, kw, OH, OW) for axis 0."""
        if self.axis:
            return stored.reshape(self.columns_shape)
        shape, axes = self.columns_shape, self.axes
        apart = stored.reshape(*shape[-axes:], *shape[:-axes])
        return apart.transpose(*range(axes, 2 * axes + 1), *range(axes))
