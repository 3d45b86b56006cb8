"""Upsample: pixels put back where a Pooling found them, by its mask, with 0 in all other places.

    y = 0 but for y[mask[i]] = x[i]        dx[i] = dy[mask[i]]

Shapes: x and mask (N, C, H, W), stored (C, H, W, N) -> y (N, C, UH, UW). mask[i] = h · UW + w is a place within the
channel, as the second top of a MAX Pooling has it.

The size (UH, UW) is ``upsample_h`` and ``upsample_w``, or s times that of x, less 1 where ``pad_out_h`` or
``pad_out_w`` says that the pooled image had an odd height or width.

Where a place comes twice, as the maximum of windows that overlap, y gets the last x (on a GPU, any), and all of
them get its dy, as in the original. The mask gets no gradient.

The UpsampleLayer of SegNet's Caffe (Badrinarayanan, Kendall and Cipolla 2015, arXiv 1511.00561;
alexgkendall/caffe-segnet). A layer is this one if it has two bottoms.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_fork
from minicaffe.errors import DataError
from minicaffe.layers.upsample import UpsampleParam
from minicaffe.ops.unpooling import unpool, unpool_grad


@register_fork("Upsample", lambda spec: len(spec.bottom) == 2)
class SegNetUpsample(Layer):
    """What undoes a MAX Pooling."""

    messages = {"upsample_param": UpsampleParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, mask = bottom[0].shape, bottom[1].shape
        if len(shape) != 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        if mask != shape:
            raise self.shape_error(f"the mask has shape {mask}, the bottom {shape}; expected one shape")
        top[0].reshape(*shape[:2], *self.spec.message(UpsampleParam).unpooled(shape[2:]))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        try:
            unpool(bottom[0].stored, bottom[1].stored, top[0].stored)
        except DataError as error:
            mend = "set upsample_h and upsample_w to the size of the bottom of the mask's Pooling"
            raise DataError(f"{self.spec.where}: {error}; {mend}") from None

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            unpool_grad(top[0].stored_diff, bottom[1].stored, bottom[0].stored_diff)
