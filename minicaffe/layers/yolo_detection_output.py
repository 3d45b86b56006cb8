"""YoloDetectionOutput: the boxes that YOLO v2 finds: of one or two grids, thresholded, and without duplicates.

Shapes: one or two grids (N, A · (5 + K), H, W), for A anchors and K classes -> y (1, 1, D, 7), a row for each
detection:

    image, label, confidence, x_min, y_min, x_max, y_max

Of the 5 + K channels of an anchor, σ(x_0), σ(x_1), x_2 and x_3 make a box (``ops/detection/yolo.py``), p = σ(x_4)
is the probability of an object, and p · max softmax(x_5 … x_{4+K}) is the confidence of the best label, which
counts from 1. Anchor n is ``biases[2n]`` cells wide and ``biases[2n + 1]`` high, in either grid.

Boxes are left out unless their confidence is at least ``confidence_threshold``. The others, the best first, are
compared whatever their labels: a box goes if its intersection over union with a better one is at least
``nms_threshold``. D is only known in forward. If nothing is found, y has one row of −1 for each image, with its
number.

There is no gradient. It works on the host: on a GPU it waits for its bottoms. YOLO v2: Redmon and Farhadi 2016,
arXiv 1612.08242; a layer of eric612/MobileNet-YOLO, which knows square grids only, and puts the boxes of all
images in one list under the number 0. Here each image has its own.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import to_host
from minicaffe.layers.yolo_output import YoloOutput
from minicaffe.ops.detection import yolo
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import Float, Int, Message, String


class YoloDetectionOutputParam(Message):
    """``num_box``: the anchors of a grid, A. ``side`` and ``label_map_file`` are read, but not used."""

    side = Int(13, min=0)
    num_classes = Int(20, min=1)
    num_box = Int(5, min=1)
    coords = Int(4, min=4, max=4)
    confidence_threshold = Float(0.01)
    nms_threshold = Float(0.45, min=0)
    biases = Float(above=0, repeated=True)
    label_map_file = String("")

    def check(self) -> None:
        if len(self.biases) < 2 * self.num_box:
            raise self.error(
                "biases",
                f"{len(self.biases)} given; expected a width and a height for each of {self.num_box} (num_box)",
            )


@register_layer
class YoloDetectionOutput(YoloOutput):
    """The last layer of YOLO v2."""

    messages = {"yolo_detection_output_param": YoloDetectionOutputParam}
    bottoms = (1, 2)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(YoloDetectionOutputParam)
        self.reshape_grids(bottom, top, param.num_box, param.num_classes, channels=5 + param.num_classes)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        found = [self._grid(to_host(blob.stored)) for blob in bottom]
        boxes, labels, confidences = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        counts = confidences >= self.param.confidence_threshold
        self.put_detections(top, boxes, labels, confidences, counts, self.param.nms_threshold)

    def _grid(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The boxes (N, P, 4), labels and confidences (N, P) of a grid's bottom (C, H, W, N)."""
        param, (channels, height, width, images) = self.param, stored.shape
        x = stored.reshape(param.num_box, channels // param.num_box, height, width, images).swapaxes(0, 1)
        s = np.empty(x[:5].shape, x.dtype)
        sigmoid(x[:5], out=s)
        anchors = self.anchors_of(height, width)
        boxes = yolo.grid_boxes(s[0], s[1], x[2], x[3], anchors)
        classes = np.exp(x[5:] - x[5:].max(axis=0))
        confidences = s[4] * (1 / classes.sum(axis=0))  # the best class has exp(0)
        return yolo.by_image(boxes), yolo.by_image(x[5:].argmax(axis=0)), yolo.by_image(confidences)

    def anchors_of(self, height: int, width: int) -> list[tuple[float, float]]:
        """Width and height of the anchors in a grid of this size, in fractions of the image."""
        biases = self.param.biases
        return [(biases[2 * n] / width, biases[2 * n + 1] / height) for n in range(self.param.num_box)]
