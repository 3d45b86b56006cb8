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
from minicaffe.spec.fields import Bool, Enum, Int, Message

logger = logging.getLogger("minicaffe")


class LossParam(Message):
    """``normalization`` says what the sum of losses is divided by; labels equal to ``ignore_label`` do not count.

    The older ``normalize: true`` means VALID, ``normalize: false`` BATCH_SIZE.
    """

    ignore_label = Int()
    normalization = Enum("FULL", "VALID", "BATCH_SIZE", "NONE", default="VALID")
    normalize = Bool(True)

    def mode(self) -> str:
        """The normalization, also where it is given in the older way."""
        if self.has("normalize") and not self.has("normalization"):
            return "VALID" if self.normalize else "BATCH_SIZE"
        return self.normalization


class LossLayer(Layer):
    """Base of the losses: predictions and labels in, one number out (Caffe's LossLayer)."""

    bottoms = (2, 2)
    is_loss = True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1]:
            raise self.shape_error(f"bottoms have batches of {bottom[0].shape[:1]} and {bottom[1].shape[:1]}")
        top[0].reshape()

    def check_equal_counts(self, bottom: Blobs) -> None:
        """Raises ShapeError unless both bottoms have the same number of elements."""
        if bottom[0].count != bottom[1].count:
            raise self.shape_error(f"bottoms {bottom[0].shape} and {bottom[1].shape} differ in size")

    def normalizer(self, mode: str, batch: int, places: int, valid: Array | None = None) -> Array | float:
        """What a sum over ``places`` predictions in ``batch`` images is divided by; never less than 1.

        ``valid`` is the number that did not have the ignored label (None: nothing is ignored).
        """
        if mode == "VALID" and valid is not None:
            divisor: Array = self.xp.maximum(valid, 1, dtype=self.dtype)  # stays on the device
            return divisor
        return float(max(1, {"FULL": places, "VALID": places, "BATCH_SIZE": batch, "NONE": 1}[mode]))


def check_label_count(layer: Layer, blob: Blob, places: tuple[int, ...], classes: int) -> None:
    """Raises ShapeError unless there is a label for each place. Warns of scores of classes without a name."""
    if blob.count != math.prod(places):
        raise layer.shape_error(
            f"{blob.count} labels {blob.shape} for {math.prod(places)} predictions {places}"
        )
    names = _names_of(layer)
    if names and classes > len(names) and "num_output" not in layer.setting.told:
        layer.setting.told.add("num_output")
        logger.warning(
            "%s: scores of %d classes, but the images are of %d: %s; num_output may be %d",
            *(layer.spec.where, classes, len(names), listing(names), len(names)),
        )


def _names_of(layer: Layer) -> list[str]:
    """What the labels of a layer stand for, or []."""
    return layer.setting.label_names.get(layer.spec.bottom[1])


def read_labels(
    layer: Layer, blob: Blob, places: tuple[int, ...], classes: int, ignore: int | None
) -> tuple[Array, Array | None]:
    """The labels as whole numbers, of the shape ``places``, and a mask of those that count (None: all do).

    Ignored labels read as 0. Raises DataError for one that is no class.
    """
    labels = blob.data.reshape(places).astype(np.int64)
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
