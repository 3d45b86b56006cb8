"""ROIPooling: regions of interest of a feature map, each max-pooled to the same size.

    y = max x over the pixels of a bin        dx = Σ dy at the first maximum of each bin

Shapes: x (N, C, H, W), regions (R, 5) with rows (image, x1, y1, x2, y2) in pixels of the net's input -> y
(R, C, PH, PW).

A region, multiplied by ``spatial_scale`` and rounded, is cut into PH × PW bins; the formula is in
``ops/roi_pooling.py``. Regions get no gradient.

The ROIPoolingLayer of Fast R-CNN's Caffe (Girshick 2015, arXiv 1504.08083; rbgirshick/caffe-fast-rcnn).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.errors import DataError
from minicaffe.ops.roi_pooling import max_roi_pool, max_roi_pool_grad
from minicaffe.spec.fields import Float, Int, Message


class ROIPoolingParam(Message):
    """``spatial_scale``: pixels of x per pixel of the net's input, for example 0.0625 for a stride of 16."""

    pooled_h = Int(required=True, min=1)
    pooled_w = Int(required=True, min=1)
    spatial_scale = Float(1.0, above=0)


@register_layer
class ROIPooling(Layer):
    """One image for each region, all of the same size."""

    messages = {"roi_pooling_param": ROIPoolingParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param, shape, regions = self.spec.message(ROIPoolingParam), bottom[0].shape, bottom[1].shape
        if len(shape) != 4 or 0 in shape[1:]:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        if not regions or math.prod(regions[1:]) != 5:
            raise self.shape_error(f"regions have shape {regions}; expected (R, 5): image, x1, y1, x2, y2")
        top[0].reshape(regions[0], shape[1], self.param.pooled_h, self.param.pooled_w)
        self.argmax = self.new_array(top[0].stored_shape, np.int32)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, regions, scale = bottom[0].stored, bottom[1].stored, self.param.spatial_scale
        try:
            max_roi_pool(x, regions.reshape(5, -1), scale, top[0].stored, self.argmax)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}") from None

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            regions = bottom[1].stored.reshape(5, -1)
            max_roi_pool_grad(top[0].stored_diff, self.argmax, regions, bottom[0].stored_diff)
