"""YoloSeg: a mask for each class, from scores that need not exclude each other.

    δ = c · (σ(x) − y)        loss = Σ δ² / N        dx = loss_weight · δ / N

with c = ``object_scale``. A third bottom has the area of each class in each image, in pixels: where y > 1/2, c
is then ``object_scale`` · (2 − a / b), with a pixels of the class in all images of the batch, and b others.

Shapes: x, y (N, C, H, W), and optionally areas, N · C numbers -> a scalar.

dx is not the derivative of the loss, but of the cross entropies of σ(x) times c. A layer of
eric612/MobileNet-YOLO.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.loss import LossLayer
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import Bool, Float, Int, Message


class YoloSegParam(Message):
    """``object_scale``: the weight of all pixels. The others are read, but have no effect, as in the fork."""

    num_class = Int(0, min=0)
    object_scale = Float(5.0)
    class_scale = Float(1.0)
    use_logic_gradient = Bool(False)
    use_hardsigmoid = Bool(False)


@register_layer
class YoloSeg(LossLayer):
    """The masks beside the boxes of a YOLO."""

    messages = {"yolo_seg_param": YoloSegParam}
    bottoms = (2, 3)
    backward_instead = "that of cross entropies"

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        if len(shape) < 2 or bottom[1].shape != shape:
            raise self.shape_error(
                f"scores have shape {shape}, masks {bottom[1].shape}; expected one (N, C, …)"
            )
        if len(bottom) == 3 and bottom[2].count != shape[0] * shape[1]:
            raise self.shape_error(
                f"areas have shape {bottom[2].shape}; expected a number for each of {shape[1]} classes in "
                f"{shape[0]} images"
            )
        self.scale = self.spec.message(YoloSegParam).object_scale
        self.images, self.classes, self.pixels = shape[0], shape[1], math.prod(shape[2:])
        self.delta = self.new_array(bottom[0].stored_shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        delta, masks = self.delta, bottom[1].stored
        sigmoid(bottom[0].stored, out=delta)
        delta -= masks
        delta *= self.scale
        if len(bottom) == 3:
            area = bottom[2].data.reshape(self.images, self.classes).sum(axis=0)
            share = area / self.xp.maximum(1, self.images * self.pixels - area)
            more = (2 - share).reshape(-1, *[1] * (delta.ndim - 1))
            delta *= self.xp.where(masks > 0.5, more, 1)
        top[0].stored[...] = (delta * delta).sum() / max(1, self.images)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            factor = top[0].stored_diff / max(1, self.images)
            self.xp.multiply(self.delta, factor, out=bottom[0].stored_diff)
