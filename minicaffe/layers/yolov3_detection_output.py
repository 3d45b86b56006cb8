"""Yolov3DetectionOutput: the boxes that YOLO v3 finds: of all grids, thresholded, and without duplicates.

Shapes: G grids (N, A · (5 + K), H, W), of different sizes, for A anchors and K classes -> y (1, 1, D, 7), a row
for each detection:

    image, label, confidence, x_min, y_min, x_max, y_max

Of the 5 + K channels of an anchor, σ(0), σ(1), 2 and 3 make a box (``ops/detection/yolo.py``), σ(4) is the
probability p of an object, and p · σ(4 + k) is the confidence of label k, which counts from 1. The g-th grid
has the anchors ``biases[2m]`` × ``biases[2m + 1]`` (width × height, in pixels) of each m in the g-th part of
``mask``, in an image of ``anchors_scale[g]`` · W × ``anchors_scale[g]`` · H pixels.

Boxes are left out unless their confidence is above ``confidence_threshold``. The others, the best first, are
compared whatever their labels: a box goes if its intersection over union with a better one is at least
``nms_threshold``. D is only known in forward. If nothing is found, y has one row of −1 for each image, with the
image's number.

With ``gaussian_box`` there are 9 + K channels: σ(0), σ(2), 4 and 6 make the box, σ(1), σ(3), σ(5) and σ(7) are
their uncertainties, and p is σ(8) · (1 − their mean) (Gaussian YOLOv3: Choi et al. 2019, arXiv 1904.04620).

There is no gradient. It works on the host: on a GPU it waits for its bottoms. YOLO v3: Redmon and Farhadi 2018,
arXiv 1804.02767; a layer of eric612/MobileNet-YOLO, which puts the boxes of all images in one list under the
number 0. Here each image has its own. With ``gaussian_box`` it counts σ(1) twice on a GPU, and takes p for a
class on a CPU.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import to_host
from minicaffe.layers.yolo_output import YoloOutput
from minicaffe.ops.detection import yolo
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import Bool, Float, Int, Message


class Yolov3DetectionOutputParam(Message):
    """``num_box``: the anchors of a grid, A. ``mask_group_num``: the number of grids. See above for the others."""

    num_classes = Int(20, min=1)
    num_box = Int(3, min=1)
    confidence_threshold = Float(0.01)
    nms_threshold = Float(0.45, min=0)
    biases = Float(above=0, repeated=True)
    anchors_scale = Int(min=1, repeated=True)
    mask_group_num = Int(2, min=1)
    mask = Int(min=0, repeated=True)
    gaussian_box = Bool(False)

    def check(self) -> None:
        if len(self.anchors_scale) < self.mask_group_num:
            raise self.error(
                "anchors_scale",
                f"{len(self.anchors_scale)} given for {self.mask_group_num} grids (mask_group_num)",
            )
        each = len(self.mask) // self.mask_group_num
        if each < self.num_box:
            raise self.error(
                "mask",
                f"{len(self.mask)} given; expected {self.num_box} (num_box) × {self.mask_group_num} grids",
            )
        if max(self.mask) >= len(self.biases) // 2:
            raise self.error(
                "mask",
                f"{max(self.mask)} is no anchor: {len(self.biases)} biases are {len(self.biases) // 2}",
            )


@register_layer
class Yolov3DetectionOutput(YoloOutput):
    """The last layer of YOLO v3."""

    messages = {"yolov3_detection_output_param": Yolov3DetectionOutputParam}
    bottoms = (1, None)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(Yolov3DetectionOutputParam)
        if len(bottom) != param.mask_group_num:
            raise param.error(
                "mask_group_num", f"{param.mask_group_num}, but {len(bottom)} bottoms are given"
            )
        each = param.num_classes + (9 if param.gaussian_box else 5)
        self.reshape_grids(bottom, top, param.num_box, param.num_classes, channels=each)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        found = [self._grid(g, to_host(blob.stored)) for g, blob in enumerate(bottom)]
        boxes, confidences = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        # other labels of a box overlap it wholly, so that only the best one can stay
        labels, best = confidences.argmax(axis=2), confidences.max(axis=2)
        counts = best > self.param.confidence_threshold
        self.put_detections(top, boxes, labels, best, counts, self.param.nms_threshold)

    def _grid(self, g: int, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The boxes (N, P, 4) and confidences (N, P, K) of a grid's bottom (C, H, W, N)."""
        param, (channels, height, width, images) = self.param, stored.shape
        x = stored.reshape(param.num_box, channels // param.num_box, height, width, images).swapaxes(0, 1)
        s = np.empty(x.shape, x.dtype)
        sigmoid(x, out=s)
        anchors = self.anchors_of(g, height, width)
        if param.gaussian_box:
            boxes = yolo.grid_boxes(s[0], s[2], x[4], x[6], anchors)
            confidences = s[9:] * (s[8] * (1 - s[1:8:2].mean(axis=0)))
        else:
            boxes = yolo.grid_boxes(s[0], s[1], x[2], x[3], anchors)
            confidences = s[5:] * s[4]
        return yolo.by_image(boxes), yolo.by_image(confidences)

    def anchors_of(self, g: int, height: int, width: int) -> list[tuple[float, float]]:
        """Width and height of the g-th grid's anchors, in fractions of the image."""
        param = self.param
        first = g * (len(param.mask) // param.mask_group_num)
        across, down = width * param.anchors_scale[g], height * param.anchors_scale[g]
        return [
            (param.biases[2 * m] / across, param.biases[2 * m + 1] / down)
            for m in param.mask[first : first + param.num_box]
        ]
