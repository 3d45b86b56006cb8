"""What loss layers have in common: a scalar top, a loss weight, and a normalizer."""

from __future__ import annotations

import logging
import math

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer
from minicaffe.device.array import Array
from minicaffe.errors import DataError, listing
from minicaffe.ops.softmax import check_labels
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message

logger = logging.getLogger("minicaffe")


class LossParam(Message):
    """``normalization``: what the sum of losses is divided by. Labels equal to ``ignore_label`` do not count.

    The old field ``normalize`` means VALID if true, BATCH_SIZE if false. PRE_FIXED, R-FCN's, means
    ``pre_fixed_normalizer``.
    """

    ignore_label = Int()
    normalization = Enum("FULL", "VALID", "BATCH_SIZE", "NONE", "PRE_FIXED", default="VALID")
    normalize = Bool(True)
    pre_fixed_normalizer = Float(1.0)

    def mode(self) -> str:
        """The normalization, given by either field."""
        if self.has("normalize") and not self.has("normalization"):
            return "VALID" if self.normalize else "BATCH_SIZE"
        return self.normalization


class LossLayer(Layer):
    """Base of the losses: predictions and labels in, one number out (Caffe's LossLayer)."""

    bottoms = (2, 2)
    is_loss = True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise self.shape_error(
                f"bottoms have batch sizes {bottom[0].shape[:1]} and {bottom[1].shape[:1]}"
            )
        top[0].reshape()

    def check_equal_counts(self, bottom: Blobs) -> None:
        """Raises ShapeError unless both bottoms have the same number of elements."""
        if bottom[0].count != bottom[1].count:
            raise self.shape_error(f"bottoms {bottom[0].shape} and {bottom[1].shape} differ in size")

    def normalizer(
        self, mode: str, batch: int, predictions: int, valid: Array | None = None
    ) -> Array | float:
        """What a sum over ``predictions`` in ``batch`` images is divided by; never less than 1.

        ``valid`` is the number of predictions whose label is not ignored (None: all).
        """
        if mode == "VALID" and valid is not None:
            divisor: Array = self.xp.maximum(valid, 1, dtype=self.dtype)  # stays on the device
            return divisor
        if mode == "PRE_FIXED":
            return max(1.0, self.spec.message(LossParam).pre_fixed_normalizer)
        divisors = {"FULL": predictions, "VALID": predictions, "BATCH_SIZE": batch, "NONE": 1}
        return float(max(1, divisors[mode]))


def check_label_count(layer: Layer, blob: Blob, shape: tuple[int, ...], classes: int) -> None:
    """Raises ShapeError unless the blob has labels for predictions of ``shape``.

    Warns if there are scores for more classes than the images have.
    """
    if blob.count != math.prod(shape):
        raise layer.shape_error(
            f"{blob.count} labels {blob.shape} for {math.prod(shape)} predictions {shape}"
        )
    names = _names_of(layer)
    if names and classes > len(names) and "num_output" not in layer.setting.told:
        layer.setting.told.add("num_output")
        logger.warning(
            "%s: scores of %d classes, but the images are of %d: %s; num_output may be %d",
            *(layer.spec.where, classes, len(names), listing(names), len(names)),
        )


def _names_of(layer: Layer) -> list[str]:
    """The names of the classes that the layer's labels stand for, or []."""
    return layer.setting.label_names.get(layer.spec.bottom[1])


def read_labels(
    layer: Layer, blob: Blob, shape: tuple[int, ...], classes: int, ignore: int | None
) -> tuple[Array, Array | None]:
    """The labels as whole numbers in ``shape``, and a mask of those that count (None: all do).

    Ignored labels are returned as 0. Raises DataError for a label that is not a class.
    """
    labels = blob.data.reshape(shape).astype(np.int64)
    counts = None
    if ignore is not None:
        counts = labels != ignore
        labels = labels * counts
    try:
        check_labels(labels, classes, layer.spec.where)
    except DataError as error:
        names = _names_of(layer)
        raise DataError(
            f"{error}; the images' classes are {listing(names)}" if names else str(error)
        ) from None
    return labels, counts
