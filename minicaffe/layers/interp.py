"""Interp: an image enlarged or reduced, by bilinear interpolation between its corners.

Shapes: x (C, H, W, N) -> y (C, OH, OW, N), with the corners of y on those of x.

    y = A_h · x · A_wᵀ        dx = A_hᵀ · dy · A_w

A_h (OH × H) has in row o the weights 1 − λ and λ at the places h and h + 1, where h + λ = o · (H − 1) / (OH − 1);
A_w alike. The size: ``height`` and ``width``; or H ↦ (H − 1) / shrink_factor + 1, then H ↦ H + (H − 1) ·
(zoom_factor − 1); or that of a second bottom. ``pad_beg`` and ``pad_end``, 0 or less: so many pixels are cut off.

The InterpLayer of DeepLab (Chen et al. 2014, arXiv 1412.7062; deeplab-v2) and PSPNet (hszhao/PSPNet).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.ops.gemm import matmul
from minicaffe.spec.fields import Int, Message


class InterpParam(Message):
    """How large y is, and what is cut off before."""

    height = Int(min=1)
    width = Int(min=1)
    zoom_factor = Int(min=1)
    shrink_factor = Int(min=1)
    pad_beg = Int(0, max=0)
    pad_end = Int(0, max=0)

    def check(self) -> None:
        for name, other in (("height", "width"), ("width", "height")):
            if self.has(name) and not self.has(other):
                raise self.error(other, f"required beside {name}; add '{other}: …'")

    def output_size(self, size: int, given: int | None) -> int | None:
        """The output's size along an axis where the input has ``size``; ``given``: its height or width."""
        zooms, shrinks = self.has("zoom_factor"), self.has("shrink_factor")
        if zooms == shrinks and (given is not None or not zooms):  # deeplab-v2 looks at one factor first
            return given
        shrunk = (size - 1) // (self.shrink_factor or 1) + 1
        return shrunk + (shrunk - 1) * ((self.zoom_factor or 1) - 1)


@register_layer
class Interp(Layer):
    """Bilinear resizing; the second bottom, if there is one, gives its size alone and gets no gradient."""

    messages = {"interp_param": InterpParam}
    bottoms = (1, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(InterpParam), bottom[0].shape
        if any(len(blob.shape) != 4 for blob in bottom):
            shapes = ", ".join(str(blob.shape) for blob in bottom)
            raise self.shape_error(f"bottoms have shapes {shapes}; expected 4 axes (N, C, H, W)")
        image = [size + param.pad_beg + param.pad_end for size in shape[2:]]
        if min(image) < 1:
            raise self.shape_error(f"pad_beg and pad_end leave nothing of bottom {shape}; cut less")
        reference = bottom[1].shape[2:] if len(bottom) > 1 else (None, None)
        size = [
            self._size(length, given, other)
            for length, given, other in zip(image, (param.height, param.width), reference, strict=True)
        ]
        top[0].reshape(*shape[:2], *size)
        self.down, self.across = (
            self.setting.device.put(weights(length, whole, -param.pad_beg, out), self.dtype)
            for length, whole, out in zip(image, shape[2:], size, strict=True)
        )

    def _size(self, length: int, given: int | None, reference: int | None) -> int:
        """The top's size along an axis where the bottom has ``length``. Raises SpecError where nothing gives it."""
        param = self.spec.message(InterpParam)
        size = param.output_size(length, given) or reference
        if size is None:
            raise param.error(
                "height", "no size: give height and width, zoom_factor, shrink_factor, or a second bottom"
            )
        return size

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        resample(bottom[0].stored, self.down, self.across, out=top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            resample(top[0].stored_diff, self.down.T, self.across.T, out=bottom[0].stored_diff)


def weights(length: int, whole: int, start: int, out: int) -> np.ndarray:
    """A (out, whole): from ``length`` pixels, from ``start`` on, of ``whole`` pixels to ``out``."""
    step = np.float32(length - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
    place = step * np.arange(out, dtype=np.float32)
    first = np.minimum(place.astype(np.int64), length - 1)
    second = np.minimum(first + 1, length - 1)
    share = place - first.astype(np.float32)
    matrix = np.zeros((out, whole))
    np.add.at(matrix, (np.arange(out), start + first), 1 - share)
    np.add.at(matrix, (np.arange(out), start + second), share)
    return matrix


def resample(x: Array, down: Array, across: Array, out: Array) -> None:
    """out (C, OH, OW, N) = down · x · acrossᵀ for x (C, H, W, N), with matrices (OH, H) and (OW, W)."""
    channels, _, width, batch = x.shape
    rows = module_of(x).empty((channels, len(down), width * batch), x.dtype)
    matmul(down, x.reshape(channels, -1, width * batch), out=rows)
    matmul(across, rows.reshape(-1, width, batch), out=out.reshape(-1, len(across), batch))
