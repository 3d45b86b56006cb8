"""py-faster-rcnn's ``AnchorTargetLayer`` (``rpn.anchor_target_layer``): what an RPN is to say of each anchor.

Shapes, for A anchors and one image: scores (1, 2 · A, H, W), true boxes (G, 5) with rows (x1, y1, x2, y2,
label) in pixels, image size (1, 3 or more): height, width, …; further bottoms are not read -> labels (1, 1, A
· H, W), offsets to learn (1, 4 · A, H, W), and their inside and outside weights, of that shape too.

An anchor inside the image is an object (1) if it overlaps a true box most of all anchors, or some box by at
least ``RPN_POSITIVE_OVERLAP``. It is background (0) if it overlaps none by ``RPN_NEGATIVE_OVERLAP`` or more.
Of objects at most ``RPN_FG_FRACTION`` · ``RPN_BATCHSIZE`` count, of both together at most ``RPN_BATCHSIZE``:
others, drawn at random, and all other anchors have label −1. The offsets are those of the box that the anchor
overlaps most. Inside weights are 1 for objects, outside weights 1 / (objects + background) for either.

As in the original, a true box that no anchor in the image overlaps is overlapped most by all of them, by 0: then
every anchor that does not overlap it, however much background it is, is an object.

The random numbers depend on the layer's name and the net's seed. There is no gradient; it works on the host.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.device.array import to_host
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.py_faster_rcnn import (
    AnchorSettings,
    SamplingLayer,
    check_boxes,
    four,
    means_and_stds,
)
from minicaffe.ops.detection import anchors
from minicaffe.spec.fields import Bool, Float, Int

IGNORED = -1


class AnchorTargetSettings(AnchorSettings):
    """Beside the anchors, those of ``cfg.TRAIN``. ``allowed_border``: how many pixels they may leave the image."""

    allowed_border = Float(0.0)
    RPN_POSITIVE_OVERLAP = Float(0.7)
    RPN_NEGATIVE_OVERLAP = Float(0.3)
    RPN_CLOBBER_POSITIVES = Bool(False)
    RPN_FG_FRACTION = Float(0.5, min=0, max=1)
    RPN_BATCHSIZE = Int(256, min=1)
    RPN_BBOX_INSIDE_WEIGHTS = Float(repeated=True)
    RPN_POSITIVE_WEIGHT = Float(-1.0, max=1)
    RPN_NORMALIZE_TARGETS = Bool(False)
    RPN_NORMALIZE_MEANS = Float(repeated=True)
    RPN_NORMALIZE_STDS = Float(repeated=True)


@stand_in("rpn.anchor_target_layer", "AnchorTargetLayer")
class AnchorTargetLayer(SamplingLayer):
    """Between the data and the losses of a net that proposes regions."""

    bottoms = (3, 4)
    tops = (4, 4)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        self.given = given = self.read(AnchorTargetSettings)
        self.anchors = given.anchors()
        self.inside_weights = four(given, "RPN_BBOX_INSIDE_WEIGHTS", [1, 1, 1, 1])
        self.means, self.stds = means_and_stds(given, "RPN_NORMALIZE", given.RPN_NORMALIZE_TARGETS)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        scores, boxes, size = (blob.shape for blob in bottom[:3])
        if len(scores) != 4 or scores[0] != 1:
            raise self.shape_error(f"scores have shape {scores}; expected those of one image, (1, C, H, W)")
        check_boxes(self, boxes)
        if bottom[2].count < 2:
            raise self.shape_error(
                f"the image's size has shape {size}; expected (1, 3): height, width, scale"
            )
        amount = len(self.anchors)
        top[0].reshape(1, 1, amount * scores[2], scores[3])
        for blob in top[1:]:
            blob.reshape(1, 4 * amount, *scores[2:])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        rows, columns = bottom[0].shape[2:]
        boxes, size = (to_host(blob.data).astype(np.float64) for blob in bottom[1:3])
        boxes, (height, width, *_) = boxes.reshape(-1, 5)[:, :4], size.reshape(-1)
        placed = anchors.at_each_cell(self.anchors, rows, columns, self.given.feat_stride)
        border = self.given.allowed_border
        inside = np.flatnonzero(
            (placed[:, :2] >= -border).all(axis=1)
            & (placed[:, 2] < width + border)
            & (placed[:, 3] < height + border)
        )
        chosen = placed[inside]
        overlap = anchors.overlaps(chosen, boxes)
        labels = self._sampled(self._labels(overlap))
        inside_weights, outside_weights = self._weights(labels)
        parts = [labels[:, None], self._offsets(chosen, boxes, overlap), inside_weights, outside_weights]
        for blob, values, nothing in zip(top, parts, (IGNORED, 0, 0, 0), strict=True):
            everywhere = np.full((len(placed), values.shape[1]), nothing, np.float64)
            everywhere[inside] = values
            maps = np.moveaxis(everywhere.reshape(rows, columns, -1), -1, 0)
            blob.data[...] = self.setting.device.put(maps.reshape(blob.shape), self.dtype)

    def _labels(self, overlap: np.ndarray) -> np.ndarray:
        """1, 0 or −1 for each anchor, from its overlap with each true box (K, G)."""
        given, largest = self.given, overlap.max(axis=1, initial=0)
        labels = np.full(len(overlap), IGNORED)
        is_background = largest < given.RPN_NEGATIVE_OVERLAP
        labels[is_background] = 0
        best_of_boxes = overlap.max(axis=0, initial=0)
        labels[(overlap == best_of_boxes).any(axis=1)] = 1
        labels[largest >= given.RPN_POSITIVE_OVERLAP] = 1
        if given.RPN_CLOBBER_POSITIVES:
            labels[is_background] = 0
        return labels

    def _sampled(self, labels: np.ndarray) -> np.ndarray:
        """The labels, but for those of too many anchors."""
        given, generator = self.given, self.next_generator()
        most = int(given.RPN_FG_FRACTION * given.RPN_BATCHSIZE)
        for label in (1, 0):
            found = np.flatnonzero(labels == label)
            if len(found) > most:
                labels[generator.choice(found, len(found) - most, replace=False)] = IGNORED
            most = given.RPN_BATCHSIZE - int((labels == 1).sum())
        return labels

    def _offsets(self, chosen: np.ndarray, boxes: np.ndarray, overlap: np.ndarray) -> np.ndarray:
        """What to learn at each anchor (K, 4)."""
        if not len(boxes):
            return np.zeros((len(chosen), 4))
        found: np.ndarray = (anchors.encode(boxes[overlap.argmax(axis=1)], chosen) - self.means) / self.stds
        return found

    def _weights(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inside and outside weights of each anchor, both (K, 4)."""
        is_object, is_background = ((labels == label)[:, None] for label in (1, 0))
        share = self.given.RPN_POSITIVE_WEIGHT
        of_objects = of_background = 1 / max(1, is_object.sum() + is_background.sum())
        if share > 0:
            of_objects = share / max(1, is_object.sum())
            of_background = (1 - share) / max(1, is_background.sum())
        inside = is_object * self.inside_weights
        return inside, (of_objects * is_object + of_background * is_background) * np.ones(4)
