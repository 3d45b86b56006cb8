"""py-faster-rcnn's ``ProposalTargetLayer`` (``rpn.proposal_target_layer``): regions to learn from, and what to
say.

Shapes, for K classes and one image: regions (R, 5), true boxes (G, 5) with rows (x1, y1, x2, y2, label) in
pixels -> chosen regions (S, 5, 1, 1), their labels (S, 1, 1, 1), offsets to learn (S, 4 · K, 1, 1), and their
inside and outside weights, of that shape too. (The axes of length 1 are py-R-FCN's.)

The true boxes are regions too. Of those that overlap one by at least ``FG_THRESH`` up to ``FG_FRACTION`` ·
``BATCH_SIZE`` are drawn at random, with the label of the box that they overlap most; then of those whose
largest overlap is in [``BG_THRESH_LO``, ``BG_THRESH_HI``) up to ``BATCH_SIZE`` in all, with label 0. −1 as
``BATCH_SIZE`` means all. Of an object's offsets only those of its class are not 0, and have inside weights of
1; where K is 2 (``AGNOSTIC``), those of class 1.

Offsets have ``BBOX_NORMALIZE_MEANS`` subtracted, and are divided by ``BBOX_NORMALIZE_STDS``, unless
``BBOX_NORMALIZE_TARGETS_PRECOMPUTED`` is false. The defaults are those of py-faster-rcnn's
``experiments/cfgs/faster_rcnn_end2end.yml``.

S is only known in forward. The random numbers depend on the layer's name and the net's seed. There is no
gradient; it works on the host.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.device.array import to_host
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.py_faster_rcnn import SamplingLayer, check_boxes, four, means_and_stds
from minicaffe.ops.detection import anchors
from minicaffe.spec.fields import Bool, Float, Int, Message


class ProposalTargetSettings(Message):
    """Beside the number of classes, those of ``cfg.TRAIN``."""

    num_classes = Int(required=True, min=2)
    BATCH_SIZE = Int(128, min=-1)
    FG_FRACTION = Float(0.25, min=0, max=1)
    FG_THRESH = Float(0.5)
    BG_THRESH_HI = Float(0.5)
    BG_THRESH_LO = Float(0.0)
    BBOX_INSIDE_WEIGHTS = Float(repeated=True)
    BBOX_NORMALIZE_TARGETS_PRECOMPUTED = Bool(True)
    BBOX_NORMALIZE_MEANS = Float(repeated=True)
    BBOX_NORMALIZE_STDS = Float(repeated=True)
    AGNOSTIC = Bool(False)


@stand_in("rpn.proposal_target_layer", "ProposalTargetLayer")
class ProposalTargetLayer(SamplingLayer):
    """Between the net that proposes regions and the one that learns to look at each."""

    bottoms = (2, 2)
    tops = (5, 5)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        self.given = given = self.read(ProposalTargetSettings)
        self.inside_weights = four(given, "BBOX_INSIDE_WEIGHTS", [1, 1, 1, 1])
        self.means, self.stds = means_and_stds(
            given, "BBOX_NORMALIZE", given.BBOX_NORMALIZE_TARGETS_PRECOMPUTED
        )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        regions, boxes = (blob.shape for blob in bottom)
        if regions[1:2] != (5,) or any(axis != 1 for axis in regions[2:]):
            raise self.shape_error(f"regions have shape {regions}; expected (R, 5): image, x1, y1, x2, y2")
        check_boxes(self, boxes)
        candidates = regions[0] + boxes[0]
        wanted = self.given.BATCH_SIZE
        self._shape_tops(top, candidates if wanted < 0 else min(wanted, candidates))

    def _shape_tops(self, top: Blobs, amount: int) -> None:
        for blob, size in zip(top, (5, 1, *[4 * self.given.num_classes] * 3), strict=True):
            blob.reshape(amount, size, 1, 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        regions, boxes = (to_host(blob.data).astype(np.float64).reshape(-1, 5) for blob in bottom)
        boxes, classes = boxes[:, :4], boxes[:, 4]
        regions = np.concatenate([regions, np.pad(boxes, [(0, 0), (1, 0)])])
        overlap = anchors.overlaps(regions[:, 1:], boxes)
        objects, background = self._sampled(overlap.max(axis=1, initial=0))
        chosen = np.concatenate([objects, background])
        labels, offsets = np.zeros(len(chosen)), np.zeros((len(chosen), 4))
        if len(boxes):
            nearest = overlap[chosen].argmax(axis=1)
            labels[: len(objects)] = classes[nearest[: len(objects)]]
            offsets = (anchors.encode(boxes[nearest], regions[chosen, 1:]) - self.means) / self.stds
        targets, inside = self._by_class(labels, offsets)
        self._shape_tops(top, len(chosen))
        parts = regions[chosen], labels, targets, inside, inside > 0
        for blob, values in zip(top, parts, strict=True):
            blob.data[...] = self.setting.device.put(values.reshape(blob.shape), self.dtype)

    def _sampled(self, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The indices of regions to learn from, from the largest overlap of each (R,): objects, and background."""
        given, generator = self.given, self.next_generator()
        wanted = len(largest) if given.BATCH_SIZE < 0 else given.BATCH_SIZE
        objects = np.flatnonzero(largest >= given.FG_THRESH)
        is_background = (largest < given.BG_THRESH_HI) & (largest >= given.BG_THRESH_LO)
        most = len(objects) if given.BATCH_SIZE < 0 else int(np.round(given.FG_FRACTION * wanted))
        objects = generator.permutation(objects)[:most]
        background = generator.permutation(np.flatnonzero(is_background))[: wanted - len(objects)]
        return objects, background

    def _by_class(self, labels: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Offsets (S, 4) at the places of their classes, and inside weights: both (S, K, 4)."""
        classes = self.given.num_classes
        place = np.minimum(labels, 1) if self.given.AGNOSTIC or classes == 2 else labels
        at_place = (np.arange(classes) == place[:, None]) & (labels > 0)[:, None]
        inside = at_place[..., None] * self.inside_weights
        return np.where(at_place[..., None], offsets[:, None], 0), inside
