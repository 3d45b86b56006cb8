"""py-faster-rcnn's ``ProposalLayer`` (``rpn.proposal_layer``): Proposal, with the settings of Python layers.

Shapes: those of Proposal, with one image and scores (R, 1).

Regions that are too small are left out, where Proposal gives them score 0. Sides of anchors are rounded as
Python rounds them, halves to the even number. In training, 12000 regions go through non-maximum suppression
and 2000 are left; else 6000 and 300.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.layers.proposal import Proposal, Rules
from minicaffe.layers.py_faster_rcnn import AnchorSettings, PyFasterRcnnLayer, four
from minicaffe.layers.python import stand_in
from minicaffe.ops.detection import anchors
from minicaffe.spec.fields import Bool, Float, Int


class ProposalLayerSettings(AnchorSettings):
    """Beside the anchors, those of ``cfg.TRAIN`` or ``cfg.TEST``, by the phase."""

    RPN_PRE_NMS_TOP_N = Int(min=1)
    RPN_POST_NMS_TOP_N = Int(min=1)
    RPN_NMS_THRESH = Float(0.7, min=0)
    RPN_MIN_SIZE = Float(16.0, min=0)
    RPN_NORMALIZE_TARGETS = Bool(False)
    RPN_NORMALIZE_MEANS = Float(repeated=True)
    RPN_NORMALIZE_STDS = Float(repeated=True)


@stand_in("rpn.proposal_layer", "ProposalLayer")
class ProposalLayer(PyFasterRcnnLayer, Proposal):
    """Between the net that proposes regions and the one that looks at each."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        self.followed = self.rules()

    def rules(self) -> Rules:
        given = self.read(ProposalLayerSettings)
        before, after = (12000, 2000) if self.phase == "TRAIN" else (6000, 300)
        self.means, self.stds = np.zeros(4), np.ones(4)
        if given.RPN_NORMALIZE_TARGETS and self.phase == "TRAIN":
            self.means = four(given, "RPN_NORMALIZE_MEANS", [0, 0, 0, 0])
            self.stds = four(given, "RPN_NORMALIZE_STDS", [0.1, 0.1, 0.2, 0.2])
        return Rules(
            anchors.anchors_of(16, given.ratios or [0.5, 1, 2], given.scales or [8, 16, 32], np.round),
            given.feat_stride,
            given.RPN_PRE_NMS_TOP_N or before,
            given.RPN_POST_NMS_TOP_N or after,
            given.RPN_NMS_THRESH,
            given.RPN_MIN_SIZE,
        )

    def shape_tops(self, top: Blobs, amount: int) -> None:
        top[0].reshape(amount, 5)
        for scores in top[1:]:
            scores.reshape(amount, 1)

    def offsets_of(self, predicted: np.ndarray) -> np.ndarray:
        return (predicted * self.stds + self.means).astype(predicted.dtype)

    def is_large(self, regions: np.ndarray, scales: list[float]) -> np.ndarray:
        return super().is_large(regions, scales[:1])

    def best(self, scores: np.ndarray, is_large: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(-scores, kind="stable")
        return order[is_large[order]], scores
