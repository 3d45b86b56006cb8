"""RegionLoss: the loss of one grid of YOLO v2.

Of a cell and anchor, σ(x_0), σ(x_1), x_2 and x_3 make a box (``ops/detection/yolo.py``), o = σ(x_4) is the
probability of an object, and p = softmax(x_5 … x_4+K) are those of K labels. A truth belongs to the cell that
has its centre, with the anchor that it overlaps most where both are centred, or, without ``bias_match``, with
the box of that cell that it overlaps most so. δ, from which backward starts, is 0 but for

    δ_4 = noobject_scale · o · o · (1 − o)               where no truth is found, unless an overlap is above thresh
    δ_4 = object_scale · (o − t) · o · (1 − o)           where one is; t: its overlap with rescore, else 1
    δ_{5+k} = class_scale · (p_k − 1 if k is the label, else p_k),  k = 0 … K − 1
    δ_i = c · (σ(x_i) − t_i) · σ(x_i) · (1 − σ(x_i)),  i < 2    t: the numbers that would give the true box
    δ_i = c · (x_i − t_i),  i = 2, 3                     c = coord_scale; without rescore · (2 − w·h)

    loss = Σ δ² / N        dx = loss_weight · δ / N

Shapes: x (N, A · (5 + K), H, W), labels (N, …) of 5 numbers for each truth, (label from 0, x, y, w, h) in
fractions of the image, up to the first with w = 0 -> a scalar.

dx is not the derivative of the loss, but of half the squared distances of σ(x_0), σ(x_1), x_2, x_3 and o, and
the cross entropies of p, times their scales. This is darknet's way (Redmon and Farhadi 2016, arXiv 1612.08242),
here with all numbers of eric612/MobileNet-YOLO. (In eric612/Caffe-YOLOv3-Windows all boxes are drawn to their
anchors during the first 12800 images, as in darknet; MobileNet-YOLO has left that out.) If several truths meet
in one cell and anchor, the last one has it.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import to_host
from minicaffe.layers.yolo_loss import Score, Truths, YoloLoss
from minicaffe.ops.detection import yolo_overlaps
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.ops.softmax import softmax
from minicaffe.spec.fields import Float, Int, Message, String


class RegionLossParam(Message):
    """``num``: the anchors, A. ``biases``: width and height of each, in cells. See above for the others.

    ``side``, ``softmax``, ``jitter``, ``absolute``, ``random``, ``softmax_tree`` and ``class_map`` are read, but
    have no effect, as in the fork.
    """

    side = Int(13, min=0)
    num_class = Int(20, min=1)
    bias_match = Int(1, min=0)
    coords = Int(4, min=4, max=4)
    num = Int(5, min=1)
    softmax = Int(1, min=0)
    jitter = Float(0.2)
    rescore = Int(1, min=0)
    object_scale = Float(1.0)
    class_scale = Float(1.0)
    noobject_scale = Float(0.5)
    coord_scale = Float(5.0)
    absolute = Int(1, min=0)
    thresh = Float(0.2)
    random = Int(1, min=0)
    biases = Float(above=0, repeated=True)
    softmax_tree = String("")
    class_map = String("")

    def check(self) -> None:
        if len(self.biases) < 2 * self.num:
            raise self.error(
                "biases",
                f"{len(self.biases)} given; expected a width and a height for each of {self.num} anchors (num)",
            )


@register_layer
class RegionLoss(YoloLoss):
    """One for each grid; their losses add up."""

    messages = {"region_loss_param": RegionLossParam}
    backward_instead = "that of cross entropies and half the squared distances"

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(RegionLossParam)
        self.reshape_grid(bottom, top, param.num, param.num_class)
        _, _, height, width, _ = self.grid
        self.probability = self.new_array((param.num_class, param.num, height, width, self.grid[-1]))
        biases = np.array(param.biases[: 2 * param.num]).reshape(-1, 2)
        self.anchors = biases / [width, height]  # fractions of the image

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, s, delta, param = bottom[0].stored.reshape(self.grid), self.s, self.delta, self.param
        for i in (0, 1, 4):
            sigmoid(x[:, i], out=s[:, i])
        s[:, 2:4] = x[:, 2:4]
        softmax(x[:, 5:].swapaxes(0, 1), out=self.probability)
        s[:, 5:] = self.probability.swapaxes(0, 1)
        truths = self.read_truths(bottom[1])
        nothing = self.best_overlap(truths, self.anchors, yolo_overlaps.iou) <= param.thresh
        o = s[:, 4]
        delta[...] = 0
        delta[:, 4] = param.noobject_scale * o * o * (1 - o) * nothing
        with np.errstate(over="ignore", invalid="ignore"):  # of boxes too large for numbers
            score = self._find(truths)
        top[0].stored[...] = (delta * delta).sum() / max(1, self.grid[-1])
        self.tell(score)

    def _find(self, truths: Truths) -> Score:
        """Writes δ of the boxes that have to find a truth, and returns their score."""
        param, label, truth = self.param, truths.label, truths.box
        places = np.stack([self._assigned(truths), truths.row, truths.column, truths.image])
        anchors = self.anchors[places[0]].T
        s, box = self.boxes_at(places, anchors)
        overlap = yolo_overlaps.iou(box, truth)
        delta = np.empty(s.shape)
        delta[:, :4] = s[:, :4] - self.targets_at(places, anchors, truth).T
        delta[:, :2] *= s[:, :2] * (1 - s[:, :2])
        small = 1 if param.rescore else 2 - truth[2] * truth[3]
        delta[:, :4] *= np.multiply(param.coord_scale, small).reshape(-1, 1)
        o, wanted = s[:, 4], overlap if param.rescore else 1
        delta[:, 4] = param.object_scale * (o - wanted) * o * (1 - o)
        delta[:, 5:] = param.class_scale * (s[:, 5:] - (np.arange(param.num_class) == label[:, None]))
        found, last = np.unique(places[:, ::-1], axis=1, return_index=True)
        self.put_at(found, delta[::-1][last])
        return Score.of(s, label, overlap)

    def _assigned(self, truths: Truths) -> np.ndarray:
        """The anchor (M,) with which each truth is to be found."""
        sides = self.anchors[:, :, None]
        if not self.param.bias_match:
            predicted = self.s[:, 2:4, truths.row, truths.column, truths.image]  # (A, 2, M)
            sides = sides * np.exp(to_host(predicted).astype(np.float64))
        shapes = np.broadcast_to(sides.swapaxes(0, 1), (2, self.param.num, len(truths.label)))
        at_origin = np.zeros_like(shapes)
        truth = np.concatenate([np.zeros_like(truths.box[2:]), truths.box[2:]])[:, None]
        anchors: np.ndarray = yolo_overlaps.iou(np.concatenate([at_origin, shapes]), truth).argmax(axis=0)
        return anchors
