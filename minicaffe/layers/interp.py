"""Interp: an image enlarged or reduced by bilinear interpolation that takes corners to corners.

    y = A_h · x · A_wᵀ        dx = A_hᵀ · dy · A_w

Shapes: x (N, C, H, W), stored (C, H, W, N) -> y (N, C, OH, OW), stored (C, OH, OW, N); A_h (OH, H), A_w (OW, W).

Row o of A_h has the weights 1 − λ and λ in columns h and h + 1, where h + λ = o · (H − 1) / (OH − 1); A_w likewise.
The output size is ``height`` and ``width``; or H is replaced by (H − 1) / shrink_factor + 1 and then by
H + (H − 1) · (zoom_factor − 1); or it is the size of a second bottom. ``pad_beg`` and ``pad_end``, which are 0 or
less, cut that many pixels off first.

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
    """The size of y, and what is cut off x first."""

    height = Int(min=1)
    width = Int(min=1)
    zoom_factor = Int(min=1)
    shrink_factor = Int(min=1)
    pad_beg = Int(0, max=0)
    pad_end = Int(0, max=0)

    def check(self) -> None:
        for name, other in (("height", "width"), ("width", "height")):
            if self.has(name) and not self.has(other):
                raise self.error(other, f"required with {name}; add '{other}: …'")

    def output_size(self, size: int, given: int | None) -> int | None:
        """The output's size along an axis where the input's is ``size``; ``given``: the height or width field."""
        zooms, shrinks = self.has("zoom_factor"), self.has("shrink_factor")
        if zooms == shrinks and (given is not None or not zooms):  # deeplab-v2 checks one factor first
            return given
        shrunk = (size - 1) // (self.shrink_factor or 1) + 1
        return shrunk + (shrunk - 1) * ((self.zoom_factor or 1) - 1)


@register_layer
class Interp(Layer):
    """Bilinear resizing; of a second bottom only the size is used, and it gets no gradient."""

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
        """The top's size along an axis where the bottom's is ``length``. Raises SpecError if nothing gives it."""
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
    """A (out, whole): takes the ``length`` pixels after ``start``, out of ``whole`` pixels, to ``out`` pixels."""
    step = np.float32(length - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
    position = step * np.arange(out, dtype=np.float32)
    first = np.minimum(position.astype(np.int64), length - 1)
    second = np.minimum(first + 1, length - 1)
    share = position - first.astype(np.float32)
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
