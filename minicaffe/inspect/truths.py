"""The boxes that images have, made up for a net without data: for the losses of detectors, which random numbers,
or zeros, do not suit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.inspect.confusion import made_by
from minicaffe.layers.detection_evaluate import DetectionEvaluateParam
from minicaffe.layers.multibox_loss import MultiBoxLossParam
from minicaffe.layers.region_loss import RegionLossParam
from minicaffe.layers.yolov3 import Yolov3Param
from minicaffe.ops.detection.ground_truth import ROW
from minicaffe.testing import Shape

READERS = {"MultiBoxLoss": 3, "DetectionEvaluate": 1, "RegionLoss": 1, "Yolov3": 1}  # by which bottom
SIDES = 0.2, 0.6  # of a box, as shares of the image


def reads_truths(layer: Layer, bottom: int) -> bool:
    """Whether a layer reads its bottom of this number as boxes that the images have."""
    return READERS.get(layer.type) == bottom


def make_truths(layer: Layer, images: int, shape: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Boxes with labels in the rows that a layer reads: of ``shape``, for a batch of ``images``."""
    if layer.type in ("RegionLoss", "Yolov3"):
        return _of_yolo(layer, shape, rng)
    param = (
        layer.spec.message(MultiBoxLossParam)
        if layer.type == "MultiBoxLoss"
        else layer.spec.message(DetectionEvaluateParam)
    )
    labels = [c for c in range(param.num_classes) if c != param.background_label_id]
    rows = np.zeros((int(np.prod(shape)) // ROW, ROW))
    rows[:, 0] = np.sort(np.arange(len(rows)) % max(1, images))
    rows[:, 1] = rng.choice(labels or [0], len(rows))
    sides = rng.uniform(*SIDES, (len(rows), 2))
    rows[:, 3:5] = rng.random((len(rows), 2)) * (1 - sides)
    rows[:, 5:7] = rows[:, 3:5] + sides
    return rows.reshape(shape)


def truths_of(images: int, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows of a batch that was made smaller, of SSD's kind: those of other images become none."""
    rows = numbers.copy()
    rows[..., 0][rows[..., 0] >= images] = -1
    return rows


def fill_truths(net: Net) -> None:
    """Write boxes into those inputs of a net that are zeros, and that layers read as boxes."""
    rng = np.random.default_rng(0)
    for step in net.steps:
        for i, below in enumerate(step.layer.spec.bottom):
            name, _ = made_by(net, below)
            if reads_truths(step.layer, i) and name in net.inputs:
                blob = net.blobs[name]
                if blob.count and not np.any(to_host(blob.data)):
                    made = make_truths(step.layer, step.bottom[0].num, blob.shape, rng)
                    blob.data[...] = net.setting.device.put(made, blob.dtype)


def _of_yolo(layer: Layer, shape: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rows (label, x, y, w, h), one box for each image and then none."""
    param = (
        layer.spec.message(RegionLossParam) if layer.type == "RegionLoss" else layer.spec.message(Yolov3Param)
    )
    rows = np.zeros((shape[0], int(np.prod(shape[1:])) // 5, 5))
    rows[:, :1, 0] = rng.integers(0, param.num_class, (shape[0], 1))
    rows[:, :1, 1:3] = rng.uniform(0.1, 0.9, (shape[0], 1, 2))
    rows[:, :1, 3:] = rng.uniform(*SIDES, (shape[0], 1, 2))
    return rows.reshape(shape)
