"""DetectNet's ``ClusterDetections`` and ``ClusterGroundtruth``: the boxes of a grid as lists.

Shapes: coverage (N, K, H, W) for K classes, boxes (N, 4, H, W) relative to the cells of a grid -> for each class a
top (N, 50, 5) of rows x1, y1, x2, y2, confidence, filled up with zeros.

ClusterDetections takes the boxes of cells whose coverage is at least a threshold, and groups those that are alike
(``ops/detection/grouping.py``); the confidence is the logarithm of a group's size. ClusterGroundtruth takes each
box that a covered cell has, once; its confidence is 0.

``param_str`` is a list: image width, image height, stride, and for ClusterDetections coverage threshold, group
threshold, ε of groups, least height; then the number of classes, 1 if left out. As in the original, numbers are
rounded to 16 bits. Of more than 50 boxes, with which the original fails, the first 50 are listed.

There is no gradient. They work on the host: on a GPU they wait for their bottoms. NVIDIA/caffe, examples/kitti.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minicaffe.core.layer import Blobs
from minicaffe.device.array import to_host
from minicaffe.layers.python import PythonParam, stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.ops.detection.grouping import group_rectangles

MOST = 50  # boxes of an image and class


class _Clustering(StandIn):
    """What both have in common: a grid's boxes in pixels, and a top for each class."""

    bottoms = (2, 2)
    tops = (1, None)
    amount: int  # of numbers in param_str, but for the last

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.spec.message(PythonParam)
        try:
            numbers = [float(text) for text in param.param_str.split(",")]
        except ValueError:
            numbers = []
        if (
            len(numbers) - self.amount not in (0, 1)
            or not all(map(math.isfinite, numbers))
            or min(numbers[:3]) < 1
        ):
            raise param.error(
                "param_str",
                f"'{param.param_str}'; expected {self.amount} numbers, the first three at least 1, and perhaps the "
                "number of classes",
            )
        self.classes = int(numbers[self.amount]) if len(numbers) > self.amount else 1
        width, height, stride = (int(number) for number in numbers[:3])
        self.cells = (height // stride, width // stride)
        self.numbers = numbers
        if 0 in self.cells:
            raise param.error("param_str", f"a stride of {stride} leaves no cell; give a smaller one")
        self.cell_size = np.array([width / self.cells[1], height / self.cells[0]])
        self.check_amount("top", len(top), (self.classes, self.classes))

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        coverage, boxes = (blob.shape for blob in bottom)
        for name, shape, channels in (("coverage", coverage, self.classes), ("boxes", boxes, 4)):
            if len(shape) != 4 or shape[:2] != (coverage[0], channels) or shape[2:] != coverage[2:]:
                raise self.shape_error(
                    f"{name} have shape {shape}; expected (N, {channels}, H, W), with one N, H and W for both"
                )
        for blob in top:
            blob.reshape(coverage[0], MOST, 5)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        coverage, boxes = (to_host(blob.data) for blob in bottom)
        rows, columns = self.cells
        for k, blob in enumerate(top):
            lists = np.zeros(blob.shape)
            for n, found in enumerate(self._found(coverage[:, k, :rows, :columns], boxes)):
                found = np.asarray(found[:MOST], np.float16)
                lists[n, : len(found), : found.shape[1]] = found
            blob.data[...] = self.setting.device.put(lists, self.dtype)

    def _found(self, coverage: np.ndarray, boxes: np.ndarray) -> Iterator[np.ndarray]:
        """For each image, rows of four numbers or five."""
        for covered, own in zip(coverage, boxes, strict=True):
            y, x = np.nonzero(self.counts(covered))
            corner = np.stack([x, y], axis=1) * self.cell_size
            yield self.listed(own[:, y, x].T + np.tile(corner, 2))

    def counts(self, covered: np.ndarray) -> np.ndarray:
        """Which cells count, by their coverage (H, W)."""
        raise NotImplementedError

    def listed(self, boxes: np.ndarray) -> np.ndarray:
        """Rows of boxes (P, 4) in pixels."""
        raise NotImplementedError


@stand_in("caffe.layers.detectnet.clustering", "ClusterDetections")
class ClusterDetections(_Clustering):
    """The last layer of a deployed DetectNet."""

    amount = 7

    def counts(self, covered: np.ndarray) -> np.ndarray:
        found: np.ndarray = covered >= covered.dtype.type(self.numbers[3])
        return found

    def listed(self, boxes: np.ndarray) -> np.ndarray:
        least, epsilon, height = int(self.numbers[4]), self.numbers[5], int(self.numbers[6])
        sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        means, sizes = group_rectangles(np.trunc(sides).astype(np.int64), least, epsilon)
        high = means[:, 3] >= height
        corners = np.concatenate([means[:, :2], means[:, :2] + means[:, 2:]], axis=1)[high]
        return np.concatenate([corners, np.log(sizes[high])[:, None]], axis=1)


@stand_in("caffe.layers.detectnet.clustering", "ClusterGroundtruth")
class ClusterGroundtruth(_Clustering):
    """The boxes that a picture really has."""

    amount = 3

    def counts(self, covered: np.ndarray) -> np.ndarray:
        return covered > 0

    def listed(self, boxes: np.ndarray) -> np.ndarray:
        return boxes[np.sort(np.unique(boxes, axis=0, return_index=True)[1])]
