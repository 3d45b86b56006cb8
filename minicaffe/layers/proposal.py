"""Proposal: the regions of an image that may hold an object, from the scores and offsets of anchors.

Shapes, for A anchors: scores (N, 2 · A, H, W), background first; offsets (N, 4 · A, H, W); image sizes (N, 3
or more) with rows (height, width, scale), or (height, width, scale of the height, of the width, …) -> regions
(R, 5) with rows (image, x1, y1, x2, y2) in pixels, and optionally their scores (R,).

Anchors have ``base_size``² pixels, times each ``scale``², and are each ``ratio`` times as high as wide; they
lie ``feat_stride`` pixels apart. Moved by their offsets, and clipped to the image, those count as scored 0
that are smaller than ``min_size``, times the image's scale. The ``pre_nms_topn`` best go through non-maximum
suppression with the threshold ``nms_thresh``, and of the rest the ``post_nms_topn`` best are the image's
regions.

R is only known in forward. There is no gradient. It works on the host: on a GPU it waits for its bottoms.

The ProposalLayer of PVANet's Caffe (Kim et al. 2016, arXiv 1608.08021; sanghoon/caffe, branch dev_pvanet) and
others, which take one image at a time; the formulas are in ``ops/detection/proposals.py`` and ``anchors.py``.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host
from minicaffe.ops.detection.anchors import anchors_of
from minicaffe.ops.detection.proposals import Rules, propose
from minicaffe.spec.fields import Float, Int, Message


class ProposalParam(Message):
    """``feat_stride``: pixels of the net's input per pixel of the scores. There is an anchor for each ``ratio`` and
    ``scale``."""

    feat_stride = Int(16, min=1)
    base_size = Int(16, min=1)
    min_size = Int(16, min=0)
    ratio = Float(above=0, repeated=True)
    scale = Float(above=0, repeated=True)
    pre_nms_topn = Int(6000, min=1)
    post_nms_topn = Int(300, min=1)
    nms_thresh = Float(0.7, min=0)

    def check(self) -> None:
        for name in ("ratio", "scale"):
            if not getattr(self, name):
                raise self.error(name, "required, but not given; give at least one")


@register_layer
class Proposal(Layer):
    """Between the net that proposes regions and the one that looks at each."""

    messages = {"proposal_param": ProposalParam}
    bottoms = (3, 3)
    tops = (1, 2)
    of_each_score: tuple[int, ...] = ()  # the further axes of the scores

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ProposalParam)
        self.rules = Rules(
            anchors_of(param.base_size, param.ratio, param.scale),
            param.feat_stride,
            param.pre_nms_topn,
            param.post_nms_topn,
            param.nms_thresh,
            param.min_size,
        )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        scores, offsets, sizes = (blob.shape for blob in bottom)
        amount = len(self.rules.anchors)
        for name, shape, channels in (("scores", scores, 2 * amount), ("offsets", offsets, 4 * amount)):
            expected = (*scores[:1], channels, *scores[2:])
            if len(shape) != 4 or shape != expected:
                raise self.shape_error(
                    f"{name} have shape {shape}; expected (N, {channels}, H, W), for {amount} anchors and the "
                    f"scores {scores}"
                )
        if sizes[:1] != scores[:1] or math.prod(sizes[1:]) < 3:
            raise self.shape_error(
                f"image sizes have shape {sizes}; expected ({scores[0]}, 3): height, width, scale"
            )
        self.shape_tops(top, scores[0] * self.rules.after)

    def shape_tops(self, top: Blobs, amount: int) -> None:
        """Set the shapes for an amount of regions."""
        top[0].reshape(amount, 5)
        for scores in top[1:]:
            scores.reshape(amount, *self.of_each_score)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        scores, offsets, sizes = (to_host(blob.data) for blob in bottom)
        found = [propose(self.rules, *of_image) for of_image in zip(scores, offsets, sizes, strict=True)]
        images = np.repeat(np.arange(len(found)), [len(own) for own, _ in found])
        self.shape_tops(top, len(images))
        regions = np.concatenate([own for own, _ in found])
        put = self.setting.device.put
        top[0].data[...] = put(np.concatenate([images[:, None], regions], axis=1), self.dtype)
        for blob in top[1:]:
            blob.data[...] = put(np.concatenate([own for _, own in found]), self.dtype).reshape(blob.shape)
