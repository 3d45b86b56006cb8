"""DetectNetTransformation: pictures and lists of boxes as DetectNet trains on them: changed at random, and a grid.

Shapes: pictures (N, 3, H, W), blue first, from 0 to 255; labels (N, …), for each picture rows of 16 numbers -> the
pictures (N, 3, image_size_y, image_size_x), and the grid (N, 8 + K, image_size_y / stride, image_size_x / stride).

Of the labels the first row has the number of boxes, and 16. The others have a box each: x, y, width, height, angle,
class, and ten numbers that are not used here. K is one more than the largest ``dst`` of an ``object_class``.

What happens to a picture and its boxes is in ``data/augmentation/detectnet.py``: at TRAIN what
``detectnet_augmentation_param`` says, else the picture is only resized. The grid's channels are in
``ops/detection/detectnet_grid.py``. Of ``transform_param`` only ``mean_value`` and ``mean_file`` count.

There is no gradient. It works on the host: on a GPU it waits for its bottoms. The DetectNetTransformationLayer of
NVIDIA/caffe, as it is on a CPU.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.data.augmentation.detectnet import (
    Augmentation,
    DetectNetAugmentationParam,
    augment_boxes,
    augment_picture,
    draw,
    resized,
)
from minicaffe.data.mean import load_mean
from minicaffe.data.order import AUGMENTATION, random_stream
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.data.transformer import TransformParam
from minicaffe.device.array import to_host
from minicaffe.errors import DataError
from minicaffe.ops.detection.detectnet_grid import Grid
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, Nested

ROW = 16  # numbers of a box


class ClassMapping(Message):
    """A class ``src`` of the labels has the grid's channel ``dst`` for its coverage, counted from 0."""

    src = Int(required=True, min=0)
    dst = Int(required=True, min=0)


class DetectNetGroundTruthParam(Message):
    """The fields of ``ops/detection/detectnet_grid.py``, and the size of the pictures that the net sees.

    Without ``object_class``, class 1 has channel 0.
    """

    stride = Int(4, min=1)
    scale_cvg = Float(0.5, above=0)
    gridbox_type = Enum("GRIDBOX_MAX", "GRIDBOX_MIN", default="GRIDBOX_MAX")
    max_cvg_len = Int(50, min=0)
    min_cvg_len = Int(50, min=0)
    coverage_type = Enum("RECTANGULAR", default="RECTANGULAR")
    image_size_x = Int(1248, min=1)
    image_size_y = Int(384, min=1)
    obj_norm = Bool(False)
    crop_bboxes = Bool(True)
    object_class = Nested(ClassMapping, repeated=True)

    def grid(self) -> Grid:
        """How boxes become a grid."""
        is_minimum = self.gridbox_type == "GRIDBOX_MIN"
        return Grid(
            stride=self.stride,
            scale=self.scale_cvg,
            limit=self.min_cvg_len if is_minimum else self.max_cvg_len,
            is_minimum=is_minimum,
            image=(self.image_size_x, self.image_size_y),
            is_normed=self.obj_norm,
            cuts_boxes=self.crop_bboxes,
            classes={each.src: each.dst for each in self.object_class} or {1: 0},
        )


@register_layer
class DetectNetTransformation(Layer):
    """Between the Data layers of DetectNet, one of pictures and one of boxes, and its losses."""

    messages = {
        "detectnet_groundtruth_param": DetectNetGroundTruthParam,
        "detectnet_augmentation_param": DetectNetAugmentationParam,
        "transform_param": TransformParam,
    }
    bottoms = (2, 2)
    tops = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.grid = self.spec.message(DetectNetGroundTruthParam).grid()
        transform = self.spec.message(TransformParam)
        transform.check_without_resizing()
        self.mean_given: np.ndarray | None = None  # (H, W, 3) or (3,)
        if transform.mean_file:
            found = find_path(transform.mean_file, lookup_folders(self.setting.folder), "mean file")
            self.mean_given = load_mean(found).transpose(1, 2, 0)
            if self.mean_given.shape[2] != 3:
                raise transform.error("mean_file", f"{self.mean_given.shape[2]} channels; expected 3")
        elif transform.mean_value:
            if len(transform.mean_value) not in (1, 3):
                problem = f"{len(transform.mean_value)} values for 3 channels; give 1 or 3"
                raise transform.error("mean_value", problem)
            self.mean_given = np.resize(np.array(transform.mean_value, np.float32), 3)
        self.batch = 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, labels = bottom[0].shape, bottom[1].shape
        if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:]:
            raise self.shape_error(f"pictures have shape {shape}; expected (N, 3, H, W)")
        if labels[:1] != shape[:1] or math.prod(labels[1:]) < ROW:
            raise self.shape_error(
                f"labels have shape {labels}; expected {ROW} numbers or more for each of {shape[0]} pictures"
            )
        self.size = shape[3], shape[2]
        width, height = self.grid.image
        top[0].reshape(shape[0], 3, height, width)
        top[1].reshape(shape[0], *self.grid.shape)
        self.mean = self.mean_given  # as it was read: one that has been resized before has lost something
        if self.mean is not None and self.mean.ndim == 3 and self.mean.shape[1::-1] != self.size:
            self.mean = resized(self.mean, self.size)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        pictures, labels = to_host(bottom[0].data), to_host(bottom[1].data)
        rng = random_stream(self.seed, AUGMENTATION, self.batch)
        self.batch += 1
        made = np.empty(top[0].shape, np.float32)
        grids = np.empty(top[1].shape, np.float32)
        for n, picture in enumerate(pictures):
            chosen, rows = self._choose(rng), self._rows(labels[n].reshape(-1))
            changed = augment_picture(picture.transpose(1, 2, 0), chosen, self.grid.image, self.mean)
            made[n] = changed.transpose(2, 0, 1)
            boxes = augment_boxes(rows[:, :4].astype(np.float32), chosen, self.size)
            self.grid.fill(boxes, rows[:, 5], grids[n])
        top[0].data[...] = self.setting.device.put(made, self.dtype)
        top[1].data[...] = self.setting.device.put(grids, self.dtype)

    def _choose(self, rng: np.random.Generator) -> Augmentation:
        if self.phase != "TRAIN":
            return Augmentation(self.grid.image)
        return draw(self.spec.message(DetectNetAugmentationParam), self.size, self.grid.image, rng)

    def _rows(self, numbers: np.ndarray) -> np.ndarray:
        """The boxes (B, 16) in a picture's labels. Raises DataError if they are written otherwise."""
        (count, length), most = numbers[:2], len(numbers) // ROW - 1
        if (count and length != ROW) or not 0 <= count <= most:
            problem = f"labels that begin with {count:g}, {length:g}"
            raise DataError(f"{self.spec.where}: {problem}; expected 0 to {most} boxes, and {ROW}")
        rows = numbers[ROW : ROW * (1 + int(count))].reshape(-1, ROW)
        if not np.isfinite(rows[:, :6]).all():
            raise DataError(f"{self.spec.where}: labels with nan or infinite numbers; make them again")
        return rows

    def state(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def restore(self, state: dict[str, Any]) -> None:
        self.batch = self.count_in(state, "batch")
