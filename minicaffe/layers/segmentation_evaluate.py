"""SegmentationEvaluate: how well masks fit: the intersection over union of each class.

    y[c] = |p ∧ t| / |p ∨ t|,  p: pixels with a score above ``threshold``, t: with a true value above it

and 0 where the two have no pixel in common. Shapes: scores and truths (N, C, H, W) -> y (1, 1, 1, C). There is
no gradient.

A layer of eric612/MobileNet-YOLO, which looks at the first image of a batch only, and resizes scores of another
size; here the pixels of all images count together, and sizes must agree.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Float, Int, Message


class SegmentationEvaluateParam(Message):
    """``num_classes`` is read, but not used: classes are the channels."""

    num_classes = Int(1, min=1)
    threshold = Float(0.5)


@register_layer
class SegmentationEvaluate(Layer):
    """The score of masks that may overlap."""

    messages = {"segmentation_evaluate_param": SegmentationEvaluateParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or bottom[1].shape != shape:
            raise self.shape_error(
                f"scores have shape {shape}, truths {bottom[1].shape}; expected one (N, C, …)"
            )
        self.threshold = self.spec.message(SegmentationEvaluateParam).threshold
        top[0].reshape(1, 1, 1, shape[1])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        found, true = (blob.stored.reshape(blob.shape[1], -1) > self.threshold for blob in bottom)
        common, either = (found & true).sum(axis=1), (found | true).sum(axis=1)
        top[0].data[0, 0, 0] = common / self.xp.maximum(either, 1)
