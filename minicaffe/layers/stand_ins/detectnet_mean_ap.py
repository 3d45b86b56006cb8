"""DetectNet's ``ScoreDetections`` and ``mAP``: how many boxes were found.

ScoreDetections: lists of true boxes (N, 50, 5) and of found ones (N, 50, 5), as ``detectnet_clustering.py`` makes
them -> (N, 50, 5), rows x1, y1, x2, y2, kind: 1 for a box found that is true, 2 for one that is not, 3 for a true
one that was not found. Each true box, in order, takes the first found one that is free and overlaps it by at least
0.7 (intersection over union).

mAP: such a list -> precision · recall, precision and recall of the batch, in percent. It is no mean average
precision, in spite of its name.

There is no gradient. They work on the host: on a GPU they wait for their bottoms. NVIDIA/caffe, examples/kitti.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.device.array import to_host
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.layers.stand_ins.detectnet_clustering import MOST
from minicaffe.ops.detection.boxes import overlaps

LEAST_OVERLAP = 0.7
HIT, FALSE, MISSED = 1, 2, 3


class _Score(StandIn):
    """What both have in common: lists for bottoms."""

    def check_lists(self, bottom: Blobs) -> None:
        """Raises ShapeError for what are no lists of boxes of the same images."""
        for blob in bottom:
            if len(blob.shape) != 3 or blob.shape[2] != 5 or blob.shape[0] != bottom[0].shape[0]:
                raise self.shape_error(
                    f"a bottom has shape {blob.shape}; expected lists of boxes (N, {MOST}, 5)"
                )


@stand_in("caffe.layers.detectnet.mean_ap", "ScoreDetections")
class ScoreDetections(_Score):
    """Compares boxes found with those that are there."""

    bottoms = (2, 2)
    tops = (1, 1)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.check_lists(bottom)
        top[0].reshape(bottom[0].shape[0], MOST, 5)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        true, found = (to_host(blob.data)[..., :4] for blob in bottom)
        marked = np.zeros(top[0].shape)
        for n, own in enumerate(map(_marked, true, found)):
            marked[n, : len(own)] = own[:MOST]
        top[0].data[...] = self.setting.device.put(marked, self.dtype)


def _marked(true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The rows (…, 5) of one image."""
    true, found = (boxes[boxes.any(axis=1)] for boxes in (true, found))
    is_free, is_missed = np.ones(len(found), bool), np.ones(len(true), bool)
    for i, row in enumerate(overlaps(true[:, None], found)):
        fits = (row >= LEAST_OVERLAP) & is_free
        if fits.any():
            is_free[fits.argmax()] = is_missed[i] = False
    parts = ((found[~is_free], HIT), (found[is_free], FALSE), (true[is_missed], MISSED))
    return np.concatenate([np.pad(boxes, ((0, 0), (0, 1)), constant_values=kind) for boxes, kind in parts])


@stand_in("caffe.layers.detectnet.mean_ap", "mAP")
class MeanAP(_Score):
    """Precision and recall."""

    bottoms = (1, 1)
    tops = (3, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.check_lists(bottom)
        for blob in top:
            blob.reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        kinds = to_host(bottom[0].data)[..., 4]
        hits, false, missed = (int((kinds == kind).sum()) for kind in (HIT, FALSE, MISSED))
        precision, recall = (100 * hits / max(1, hits + others) for others in (false, missed))
        for blob, value in zip(top, (precision * recall / 100, precision, recall), strict=True):
            blob.stored[...] = value
