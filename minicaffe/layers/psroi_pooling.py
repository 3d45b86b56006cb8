"""PSROIPooling: position-sensitive score maps averaged over regions of interest, a channel for each bin.

    y[r, d, i, j] = mean of x[(d · G + i) · G + j] over bin (i, j) of region r        dx = Σ dy / area of the bin

Shapes: x (N, D · G · G, H, W), regions (R, 5) with rows (image, x1, y1, x2, y2) in pixels of the net's input -> y
(R, D, G, G), with D = ``output_dim`` and G = ``group_size``.

How a region is cut into bins is in ``ops/psroi_pooling.py``. Regions get no gradient.

The PSROIPoolingLayer of R-FCN's Caffe (Dai et al. 2016, arXiv 1605.06409; daijifeng001/caffe-rfcn).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.errors import DataError
from minicaffe.ops.psroi_pooling import bins_of, psroi_pool, psroi_pool_grad
from minicaffe.spec.fields import Float, Int, Message


class PSROIPoolingParam(Message):
    """``spatial_scale``: pixels of x per pixel of the net's input, for example 0.0625 for a stride of 16.

    ``output_dim``: D, for example the number of classes. ``group_size``: G, the bins across and down.
    """

    spatial_scale = Float(required=True, above=0)
    output_dim = Int(required=True, min=1)
    group_size = Int(required=True, min=1)


@register_layer
class PSROIPooling(Layer):
    """One map of G × G bins for each region and output."""

    messages = {"psroi_pooling_param": PSROIPoolingParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param, shape, regions = self.spec.message(PSROIPoolingParam), bottom[0].shape, bottom[1].shape
        outputs, group = self.param.output_dim, self.param.group_size
        if len(shape) != 4 or 0 in shape[1:]:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        if shape[1] != outputs * group * group:
            raise self.shape_error(
                f"bottom has {shape[1]} channels; expected output_dim · group_size² = {outputs * group * group}"
            )
        if not regions or math.prod(regions[1:]) != 5:
            raise self.shape_error(f"regions have shape {regions}; expected (R, 5): image, x1, y1, x2, y2")
        top[0].reshape(regions[0], outputs, group, group)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, regions = bottom[0].stored, bottom[1].stored.reshape(5, -1)
        try:
            self.bins = bins_of(regions, self.param.spatial_scale, self.param.group_size, x.shape)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}") from None
        psroi_pool(x, self.bins, top[0].stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            psroi_pool_grad(top[0].stored_diff, self.bins, bottom[0].stored_diff)
