"""py-faster-rcnn's ``ProposalLayer`` (``rpn.proposal_layer``): Proposal, with the settings of Python layers.

Shapes: those of Proposal, with one image and scores (R, 1).

Regions that are too small are left out, where Proposal gives them score 0. Sides of anchors are rounded as
Python rounds them, halves to the even number. In training, 12000 regions go through non-maximum suppression
and 2000 are left; else 6000 and 300.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs
from minicaffe.layers.proposal import Proposal
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.layers.stand_ins.py_faster_rcnn import AnchorSettings, means_and_stds
from minicaffe.ops.detection.proposals import Rules
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
class ProposalLayer(StandIn, Proposal):
    """Between the net that proposes regions and the one that looks at each."""

    of_each_score = (1,)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        given, trains = self.read(ProposalLayerSettings), self.phase == "TRAIN"
        before, after = (12000, 2000) if trains else (6000, 300)
        means, stds = means_and_stds(given, "RPN_NORMALIZE", given.RPN_NORMALIZE_TARGETS and trains)
        self.rules = Rules(
            given.anchors(),
            given.feat_stride,
            given.RPN_PRE_NMS_TOP_N or before,
            given.RPN_POST_NMS_TOP_N or after,
            given.RPN_NMS_THRESH,
            given.RPN_MIN_SIZE,
            scales=1,
            drops=True,
            means=means,
            stds=stds,
        )
