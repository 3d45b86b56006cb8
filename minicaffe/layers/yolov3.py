"""Yolov3: the loss of one grid of YOLO v3.

Of a cell and anchor, s_0, s_1, s_4 and s_5 … s_4+K are σ(x_0), …, and s_2 = x_2, s_3 = x_3: a box
(``ops/detection/yolo.py``), the probability of an object, and those of K labels. A truth belongs to the cell
that has its centre, with the anchor in ``biases`` that it overlaps most where both are centred; only if that is
one of ``mask``, here. Each other anchor of ``mask`` with an overlap above ``iou_thresh`` has to find it too. δ,
from which backward starts, is 0 but for

    δ_4 = s_4                                where no truth is found, unless an overlap is above thresh
    δ_4 = (s_4 − 1)                          where one is; · object_scale with use_logic_gradient
    δ_4+k = class_scale · (s_4+k − y_k)      y = ε/2, but 1 − ε/2 for its label (ε: label_smooth_eps)
    δ_i = coord_scale · (2 − w·h) · (s_i − t_i),  i < 4    t: the numbers that would give the true box
    δ_i = −iou_normalizer · overlap's ascent, i < 4        with an iou_loss other than MSE

    loss = Σ δ² / N                                        with MSE
    loss = (Σ_{i ≥ 4} δ² + iou_normalizer · mean(1 − overlap)) / N    with another iou_loss
    dx = loss_weight · δ / N        · s · (1 − s), but for x_2 and x_3, with use_logic_gradient

Shapes: x (N, A · (5 + K), H, W), labels (N, …) of 5 numbers for each truth, (label from 0, x, y, w, h) in
fractions of the image, up to the first with w = 0 -> a scalar.

dx is not the derivative of the loss: with MSE it is that of the cross entropies of all σ and half the squared
distances of the others, times their scales. This is darknet's way (Redmon and Farhadi 2018, arXiv 1804.02767),
here with all numbers of eric612/MobileNet-YOLO: the layer of its master branch. (That of
eric612/Caffe-YOLOv3-Windows has neither ``iou_thresh`` nor ``label_smooth_eps``: 1 and 0.) If several truths
meet in one cell and anchor, the last one has the box with MSE; ascents add up unless ``accumulate`` is false,
and all labels count. How overlaps grow is in ``ops/detection/yolo_overlaps.py``; by x_2 and x_3 it is times
exp(x), and at most ``max_delta``.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.yolo_loss import Score, Truths, YoloLoss
from minicaffe.ops.detection import yolo_overlaps
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message


class Yolov3Param(Message):
    """``num``: the anchors of the grid, A. ``anchors_scale``: pixels of a cell's side; ``biases`` are in pixels.

    ``side`` and ``noobject_scale`` are read, but not used. See above for the others.
    """

    side = Int(13, min=0)
    num_class = Int(20, min=1)
    num = Int(5, min=1)
    object_scale = Float(1.0)
    class_scale = Float(1.0)
    noobject_scale = Float(0.5)
    coord_scale = Float(5.0)
    thresh = Float(0.2)
    anchors_scale = Int(32, min=1)
    biases = Float(above=0, repeated=True)
    mask = Int(min=0, repeated=True)
    use_logic_gradient = Bool(False)
    use_focal_loss = Bool(False)
    iou_loss = Enum("IOU", "GIOU", "MSE", "DIOU", "CIOU", default="MSE")
    iou_normalizer = Float(0.25)
    iou_thresh = Float(0.5)
    max_delta = Float(10.0)
    accumulate = Bool(True)
    label_smooth_eps = Float(0.1)

    def check(self) -> None:
        if len(self.mask) < self.num:
            raise self.error(
                "mask", f"{len(self.mask)} given for {self.num} anchors (num); give one for each"
            )
        if max(self.mask) >= len(self.biases) // 2:
            raise self.error(
                "mask",
                f"{max(self.mask)} is no anchor: {len(self.biases)} biases are {len(self.biases) // 2}",
            )


@register_layer
class Yolov3(YoloLoss):
    """One for each grid; their losses add up."""

    messages = {"yolov3_param": Yolov3Param}
    backward_instead = "that of cross entropies and half the squared distances"
    tells_every = 16

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(Yolov3Param)
        self.reshape_grid(bottom, top, param.num, param.num_class)
        _, _, height, width, _ = self.grid
        self.mask = param.mask[: param.num]
        biases = np.array(param.biases[: len(param.biases) // 2 * 2]).reshape(-1, 2)
        self.anchors = biases / (np.array([width, height]) * param.anchors_scale)  # fractions of the image
        self.overlap = yolo_overlaps.OVERLAPS["IOU" if param.iou_loss == "MSE" else param.iou_loss]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, s, delta, param = bottom[0].stored.reshape(self.grid), self.s, self.delta, self.param
        sigmoid(x, out=s)
        s[:, 2:4] = x[:, 2:4]
        truths = self.read_truths(bottom[1])
        best = self.best_overlap(truths, self.anchors[self.mask], self.overlap)
        delta[...] = 0
        delta[:, 4] = s[:, 4] * (best <= param.thresh)
        with np.errstate(over="ignore", invalid="ignore"):  # of boxes too large for numbers
            score, losses_of_boxes = self._find(truths)
        counting = delta if param.iou_loss == "MSE" else delta[:, 4:]
        loss = (counting * counting).sum() + losses_of_boxes
        images = max(1, self.grid[-1])
        top[0].stored[...] = loss / images
        self.tell(score)
        if param.use_logic_gradient:
            self._take_slopes(x)

    def _assigned(self, truths: Truths) -> list[tuple[int, int]]:
        """(truth, anchor of ``mask``) for each box that has to find a truth, in the order in which they count."""
        centred = np.zeros((4, len(self.anchors), 1))
        centred[2:, :, 0] = self.anchors.T
        box = truths.box.copy()
        box[:2] = 0
        overlaps = self.overlap(centred, box[:, None])  # of each anchor with each truth
        assigned = []
        for m, of_truth in enumerate(overlaps.T):
            best = int(of_truth.argmax()) if of_truth.max() > 0 else -1
            if best in self.mask:
                # from here on its place in the mask stands for the anchor's number, as in the fork: the best anchor
                # counts once more below, unless the two are the same
                best = self.mask.index(best)
                assigned.append((m, best))
            good = np.flatnonzero(of_truth > self.param.iou_thresh) if self.param.iou_thresh < 1 else ()
            assigned += [(m, self.mask.index(int(n))) for n in good if n != best and n in self.mask]
        return assigned

    def _find(self, truths: Truths) -> tuple[Score, float]:
        """Writes δ of the boxes that have to find a truth; returns their score, and the loss of their overlaps."""
        assigned = self._assigned(truths)
        if not assigned:
            return Score(0, 0, 0, 0, 0, 0), 0.0
        param = self.param
        m, a = np.array(assigned).T
        places = np.stack([a, truths.row[m], truths.column[m], truths.image[m]])
        label, truth = truths.label[m], truths.box[:, m]
        anchors = self.anchors[self.mask][a].T
        s, box = self.boxes_at(places, anchors)
        if param.iou_loss == "MSE":
            overlap, loss = yolo_overlaps.iou(box, truth), 0.0
            off = s[:, :4].T - self.targets_at(places, anchors, truth)
            of_box = param.coord_scale * (2 - truth[2] * truth[3]) * off
        else:
            # the fork takes DIoU for IoU here
            kind = "DIOU" if param.iou_loss == "IOU" else param.iou_loss
            overlap = yolo_overlaps.OVERLAPS[kind](box, truth)
            loss = param.iou_normalizer * float(np.mean(1 - overlap))
            of_box = -self._ascents(s, box, truth)

        found, which = np.unique(places, axis=1, return_inverse=True)
        delta = np.zeros((found.shape[1], s.shape[1]))
        for e, cell in enumerate(which.ravel()):  # in their order, which matters where several share a cell
            adds = param.iou_loss != "MSE" and param.accumulate
            delta[cell, :4] = of_box[:, e] + (delta[cell, :4] if adds else 0)
            delta[cell, 4] = (s[e, 4] - 1) * (param.object_scale if param.use_logic_gradient else 1)
            self._add_label(delta[cell, 5:], s[e, 5:], label[e])
        self.put_at(found, delta)
        return Score.of(s, label, overlap), loss

    def _ascents(self, s: np.ndarray, box: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """How overlaps grow (4, E) with x_0 … x_3, as darknet has it: times exp(x) for the sides, and limited."""
        param = self.param
        with_sides = np.concatenate([box[:2], np.where(box[2:] == 0, 1, box[2:])])
        grown = yolo_overlaps.ascent(param.iou_loss, with_sides, truth)
        grown[2:] *= np.exp(s[:, 2:4].T)
        grown *= param.iou_normalizer
        return np.where(np.isfinite(grown), grown, 0).clip(-param.max_delta, param.max_delta)

    def _add_label(self, delta: np.ndarray, p: np.ndarray, label: int) -> None:
        """Writes δ (K,) of a box with this label; if it has others already, only what the label changes."""
        param = self.param
        wanted = np.full(len(p), param.label_smooth_eps / 2)
        wanted[label] = 1 - wanted[label]
        if delta[label] != 0:
            delta[label] = param.class_scale * (p[label] - wanted[label])
        elif param.use_focal_loss:
            found = p[label] + 1e-15
            factor = -0.5 * (1 - found) * (2 * found * np.log(found) + found - 1)
            delta[:] = param.class_scale * factor * (p - (np.arange(len(p)) == label))
        else:
            delta[:] = param.class_scale * (p - wanted)

    def _take_slopes(self, x: Array) -> None:
        """δ times the slopes of the σ. With an overlap's loss the fork takes x_0 and x_1 for their σ."""
        of_centre = self.s[:, :2] if self.param.iou_loss == "MSE" else x[:, :2]
        self.delta[:, :2] *= of_centre * (1 - of_centre)
        self.delta[:, 4:] *= self.s[:, 4:] * (1 - self.s[:, 4:])
