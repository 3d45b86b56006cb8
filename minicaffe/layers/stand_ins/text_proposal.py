"""CTPN's ``ProposalLayer`` (``layers.text_proposal_layer``): slices of lines of text, from a map of scores.

    h = exp(o_h) · h_a    c = o_y · h_a + c_a    y1, y2 = c − h / 2, c + h / 2    x1, x2: those of the anchor

Shapes, for one image and A = 10 anchors at each of H × W cells: probabilities (1, 2·A, H, W), those of no text
first; offsets (1, 2·A, H, W), o_y and o_h of an anchor one after the other; the image's height and width (1, 2 or
more) -> boxes (H·W·A, 4), row after row of cells; probabilities of text (H·W·A, 1). Boxes are cut off at the
image's borders; none is left out, which CTPN's own scripts do. There is no gradient.

An anchor is 16 pixels wide and h_a high, from 11 to 282, around the middle of its cell; c_a is its centre. Its
corners are whole numbers, cut off towards 0.

A Python layer of CTPN (Tian et al. 2016, arXiv 1609.03605; tianzhi0549/CTPN), which is written in Python 2.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.device.array import to_host
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.ops.detection import anchors
from minicaffe.spec.fields import Int, Message

HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)
WIDTH = 16


class TextProposalSettings(Message):
    """What ``param_str`` has: ``feat_stride``, the pixels from one cell to the next."""

    feat_stride = Int(required=True, min=1)


@stand_in("layers.text_proposal_layer", "ProposalLayer")
class TextProposalLayer(StandIn):
    """What CTPN's deploy net ends with."""

    bottoms = (3, 3)
    tops = (2, 2)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        self.stride = self.read(TextProposalSettings).feat_stride

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        scores, offsets, size = (blob.shape for blob in bottom)
        if len(scores) != 4 or scores[:2] != (1, 2 * len(HEIGHTS)) or offsets != scores:
            raise self.shape_error(
                f"bottoms have shapes {scores} and {offsets}; expected both (1, {2 * len(HEIGHTS)}, H, W)"
            )
        if len(size) < 2 or size[0] != 1 or size[1] < 2:
            raise self.shape_error(
                f"the image's size has shape {size}; expected (1, 2 or more): height, width, …"
            )
        amount = len(HEIGHTS) * scores[2] * scores[3]
        top[0].reshape(amount, 4)
        top[1].reshape(amount, 1)
        self.anchors = anchors.at_each_cell(anchors_of_a_cell(), *scores[2:], self.stride)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        scores, offsets, size = (to_host(blob.data) for blob in bottom)
        offset = offsets.transpose(0, 2, 3, 1).reshape(-1, 2)
        x1, y1, x2, y2 = self.anchors.T
        height = y2 - y1 + 1
        centre = offset[:, 0] * height + (y1 + y2) / 2
        with np.errstate(over="ignore"):
            half = np.exp(offset[:, 1]) * height / 2
        boxes = anchors.clip(np.stack([x1, centre - half, x2, centre + half], axis=1), *size.reshape(-1)[:2])
        text = scores[:, len(HEIGHTS) :].transpose(0, 2, 3, 1).reshape(-1, 1)
        for blob, values in zip(top, (boxes, text), strict=True):
            blob.data[...] = self.setting.device.put(np.ascontiguousarray(values))


def anchors_of_a_cell() -> np.ndarray:
    """The anchors of the first cell (10, 4)."""
    centre = (WIDTH - 1) / 2
    halves = np.array([[WIDTH // 2, height // 2] for height in HEIGHTS])
    corners = np.concatenate([centre - halves, centre + halves], axis=1)
    whole: np.ndarray = np.trunc(corners)
    return whole
