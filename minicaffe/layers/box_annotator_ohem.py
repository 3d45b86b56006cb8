"""BoxAnnotatorOHEM: of each image's regions those that lose most keep their labels (online hard example mining).

    y = label and u = w        where a region is among the k that lose most of its image
    y = ignore_label and u = 0 elsewhere

Shapes: regions (R, 5, …) with rows (image, x1, y1, x2, y2), losses (R, …), labels (R, …) and weights of the box
regression w (R, C, …) -> labels y (R, 1, H, W) and weights u (R, C, H, W). H and W are 1, but where the regions
of a whole map are given.

k is ``roi_per_img``. Of equal losses the first counts as larger. There is no gradient.

The BoxAnnotatorOHEMLayer of R-FCN's Caffe (Dai et al. 2016, arXiv 1605.06409; daijifeng001/caffe-rfcn).
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.spec.fields import Int, Message


class BoxAnnotatorOHEMParam(Message):
    """``roi_per_img``: how many regions of each image to train on. ``ignore_label``: the label of the others."""

    roi_per_img = Int(required=True, min=1)
    ignore_label = Int(-1)


@register_layer
class BoxAnnotatorOHEM(Layer):
    """Between the losses of all regions, which have no gradient, and those of the chosen ones, which do."""

    messages = {"box_annotator_ohem_param": BoxAnnotatorOHEMParam}
    bottoms = (4, 4)
    tops = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(BoxAnnotatorOHEMParam)
        regions = bottom[0].shape
        if regions[1:2] != (5,) or len(regions) > 4:
            raise self.shape_error(f"regions have shape {regions}; expected (R, 5): image, x1, y1, x2, y2")
        place = (*regions[2:], 1, 1)[:2]
        channels = (*bottom[3].shape, 1, 1)[1]
        for name, blob, expected in zip(
            ("losses", "labels", "weights"), bottom[1:], (1, 1, channels), strict=True
        ):
            if blob.shape[:1] != regions[:1] or math.prod(blob.shape[1:]) != expected * math.prod(place):
                raise self.shape_error(f"{name} have shape {blob.shape}, the regions {regions}")
        top[0].reshape(regions[0], 1, *place)
        top[1].reshape(regions[0], channels, *place)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        labels, weights = top[0].stored, top[1].stored
        place = labels.shape[1:]
        images, losses = bottom[0].stored[0].reshape(-1), bottom[1].stored.reshape(-1)
        chosen = (rank_in_image(images, losses) < self.param.roi_per_img).reshape(place)
        given = bottom[2].stored.reshape(labels.shape)
        labels[...] = self.xp.where(chosen, given, self.dtype.type(self.param.ignore_label))
        weights[...] = bottom[3].stored.reshape(weights.shape) * chosen


def rank_in_image(images: Array, losses: Array) -> Array:
    """How many regions of its image (R,) come before each (R,): those that lose more, and equal ones before it."""
    xp = module_of(images)
    by_loss = xp.argsort(-losses, kind="stable")
    by_image = by_loss[xp.argsort(images[by_loss], kind="stable")]
    ordered = images[by_image]
    rank: Array = xp.empty(len(images), np.int64)
    rank[by_image] = xp.arange(len(images)) - xp.searchsorted(ordered, ordered)
    return rank
