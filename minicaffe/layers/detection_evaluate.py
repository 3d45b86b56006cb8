"""DetectionEvaluate: which detections are true and which false, by the boxes that the images have.

A detection is true if of all boxes of its image and label it overlaps one most, by ``overlap_threshold`` or more,
and no detection with a higher score has found that box before; else it is false. With
``evaluate_difficult_gt: false`` one that finds a difficult box is neither, and difficult boxes are not to be found.

Shapes: detections (1, 1, D, 7), as DetectionOutput makes them, and boxes (1, 1, R, 8), as AnnotatedData makes them
-> y (1, 1, K + D, 5) with K classes besides the background:

    −1, class, boxes to be found, −1, −1                    a row for each class
    image, label, confidence, is true (1 or 0), is false    a row for each detection, of an image by label

Detections of label −1, as DetectionOutput makes if it finds nothing, have no row. K + D is only known in forward.
Averages of such rows say nothing: ``minicaffe test`` and solvers make the mean average precision of all of them
(``ops/detection/average_precision.py``).

With a ``name_size_file`` (lines of a name, a height and a width, one for each image in the order of the data)
boxes are compared in pixels of the image, which are counted with both ends: a box from 3 to 5 is 3 pixels wide. It
goes on by a line for each image that has detections. ``resize_param`` says how the net's images were made of those.

There is no gradient. It works on the host: on a GPU it waits for its bottoms. The DetectionEvaluateLayer of SSD's
Caffe (Liu et al. 2016, arXiv 1512.02325; weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.data.augmentation.resizing import ResizeParam
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.device.array import to_host
from minicaffe.errors import DataError
from minicaffe.ops.detection import Array
from minicaffe.ops.detection.boxes import overlaps
from minicaffe.ops.detection.detection_rows import DETECTION
from minicaffe.ops.detection.ground_truth import ROW, GroundTruth, ground_truth
from minicaffe.ops.detection.pixel_boxes import in_pixels, pixel_overlaps, scaled_to_pixels, without_padding
from minicaffe.spec.fields import Bool, Float, Int, Message, Nested, String


class DetectionEvaluateParam(Message):
    """``num_classes``: with the background. ``background_label_id``: −1 for none."""

    num_classes = Int(required=True, min=1)
    background_label_id = Int(0, min=-1)
    overlap_threshold = Float(0.5, above=0, max=1)
    evaluate_difficult_gt = Bool(True)
    name_size_file = String("")
    resize_param = Nested(ResizeParam, optional=True)


@register_layer
class DetectionEvaluate(Layer):
    """What the mean average precision of a detector is made of."""

    messages = {"detection_evaluate_param": DetectionEvaluateParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def judges_detections(self, top_index: int) -> bool:
        return True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(DetectionEvaluateParam)
        self.sizes: list[tuple[int, int]] = []
        if self.param.name_size_file:
            folders = lookup_folders(self.setting.folder)
            self.sizes = read_sizes(
                find_path(self.param.name_size_file, folders, "file of names and sizes of images")
            )
        self.line = 0  # of the name_size_file

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for what, blob, each in (("detections", bottom[0], DETECTION), ("boxes", bottom[1], ROW)):
            shape = blob.shape
            if not shape or shape[-1] != each or math.prod(shape[:-2]) != 1:
                raise self.shape_error(f"{what} have shape {shape}; expected (1, 1, R, {each})")
        classes = range(self.param.num_classes)
        self.classes = [c for c in classes if c != self.param.background_label_id]
        top[0].reshape(1, 1, len(self.classes) + bottom[0].count // DETECTION, 5)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        detections = to_host(bottom[0].data).reshape(-1, DETECTION)
        labels = detections[:, 1].astype(np.int64)
        background = self.param.background_label_id
        if background >= 0 and (labels == background).any():
            raise DataError(
                f"{self.spec.where}: a detection of the background, {background}; mend background_label_id"
            )
        truth = self._read_truth(to_host(bottom[1].data).reshape(-1, ROW))
        counts = np.ones(len(truth.labels), bool)
        if not self.param.evaluate_difficult_gt:
            counts = ~truth.is_difficult
        rows: list[Sequence[Any]] = [
            [-1, c, (counts & (truth.labels == c)).sum(), -1, -1] for c in self.classes
        ]
        images = detections[:, 0].astype(np.int64)
        for image in np.unique(images[images != -1]):
            own = truth.of(image)
            for label in np.unique(labels[images == image]):
                if label == -1:
                    continue
                found = detections[(images == image) & (labels == label)]
                wanted = np.arange(own.start, own.stop)[truth.labels[own] == label]
                scores, is_true, is_false = self._judge(
                    found, truth.boxes[wanted], truth.is_difficult[wanted]
                )
                rows += zip(*np.broadcast_arrays(image, label, scores, is_true, is_false), strict=True)
            if self.sizes:
                self.line = (self.line + 1) % len(self.sizes)
        top[0].reshape(1, 1, len(self.classes) + (labels != -1).sum(), 5)
        y = np.zeros(top[0].shape[2:])
        y[: len(rows)] = rows
        top[0].data[0, 0] = self.setting.device.put(y, self.dtype)

    def _read_truth(self, rows: Array) -> GroundTruth:
        """The boxes, up to the first row of image −1."""
        param = self.param
        ends = np.flatnonzero(rows[:, 0] == -1)
        try:
            return ground_truth(
                rows[: ends[0]] if len(ends) else rows, param.num_classes, param.background_label_id
            )
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}; mend the data, or num_classes") from None

    def _judge(self, found: Array, wanted: Array, is_difficult: Array) -> tuple[Array, Array, Array]:
        """Scores of detections (D, 7) of one image and label, and whether each is true, and false: (D,) each."""
        scores, is_true = found[:, 2], np.zeros(len(found), bool)
        if not len(wanted):
            return scores, is_true, ~is_true
        found = found[np.argsort(-scores, kind="stable")]
        overlap = self._overlaps(found[:, None, 3:], wanted)
        nearest = overlap.argmax(axis=1)
        is_near = overlap.max(axis=1) >= self.param.overlap_threshold
        is_left_out = np.zeros(len(found), bool)
        if not self.param.evaluate_difficult_gt:
            is_left_out = is_near & is_difficult[nearest]
        near = np.flatnonzero(is_near & ~is_left_out)
        is_true[near[np.unique(nearest[near], return_index=True)[1]]] = True
        return found[:, 2], is_true, ~(is_true | is_left_out)

    def _overlaps(self, some: Array, others: Array) -> Array:
        """Intersection over union, of fractions of the image or, if its size is known, of its pixels."""
        if not self.sizes:
            return overlaps(some, others)
        size = self.sizes[self.line]
        return pixel_overlaps(self.in_pixels(some, size), self.in_pixels(others, size))

    def in_pixels(self, boxes: Array, size: tuple[int, int]) -> tuple[Array, Array]:
        """Boxes (…, 4), fractions of the net's image, in pixels of the image that it was made of; and their areas.

        ``size`` is that image's height and width. Pixels are counted with both ends, but not those of boxes for
        which ``resize_param`` has a ``height_scale`` and a ``width_scale``.
        """
        resized = self.param.resize_param
        mode = "" if resized is None else resized.resize_mode
        if resized is not None and mode == "FIT_SMALL_SIZE" and resized.height_scale and resized.width_scale:
            return scaled_to_pixels(boxes, (resized.height_scale, resized.width_scale), size)
        if resized is not None and mode == "FIT_LARGE_SIZE_AND_PAD":
            boxes = without_padding(boxes, size, (resized.height, resized.width))
        return in_pixels(boxes, size)


def read_sizes(path: Path) -> list[tuple[int, int]]:
    """Heights and widths from lines of a name, a height and a width. Raises DataError."""
    sizes = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts[1:]):
            raise DataError(
                f"{path}:{number}: expected a name, a height and a width, got '{line.strip():.60}'"
            )
        sizes.append((int(parts[1]), int(parts[2])))
    return sizes
