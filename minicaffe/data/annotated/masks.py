"""Masks beside the boxes, as MobileNet-YOLO's Caffe trains on both: for each class a plane of 0 … 1.

The mask of an image is an image file of bytes in its Datum. A label map says what a byte means: the class of byte k
is the ``label_id`` of the k-th item, 0 for none. With a single class, bytes above 100 belong to it. The part of the
mask that is trained on is resized linearly, as OpenCV does it, and mirrored with its image.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.data.resize import resize
from minicaffe.errors import DataError, one_line

THRESHOLD = 100


@dataclass(frozen=True)
class Masks:
    """How masks become planes. ``classes``: the class of each byte from 0 on; empty for a single one.

    ``size``: (height, width); None: that of the image divided by ``scale``.
    """

    classes: Sequence[int] = ()
    scale: int = 8
    size: tuple[int, int] | None = None

    def shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """The shape (K, h, w) of the planes of an image (C, H, W)."""
        _, height, width = image_shape
        return (max(self.classes, default=1), *(self.size or (height // self.scale, width // self.scale)))

    def write(self, mask: np.ndarray, flip: bool, out: np.ndarray) -> None:
        """Write the planes of a mask (H, W), uint8, into ``out``, (K, h, w)."""
        for number, plane in enumerate(out, 1):
            part = mask if not self.classes else self._table(number).take(mask)
            resized = resize(part, *plane.shape)
            if not self.classes:
                resized = np.where(resized > THRESHOLD, np.uint8(255), np.uint8(0))
            plane[...] = (resized[:, ::-1] if flip else resized) * np.float32(1 / 255)

    def _table(self, number: int) -> np.ndarray:
        """255 for the bytes of a class: what each of 256 becomes."""
        table = np.zeros(256, np.uint8)
        members = np.flatnonzero(np.array(self.classes[:256]) == number)
        table[members] = 255
        return table


def decode_mask(data: bytes) -> np.ndarray:
    """The mask (H, W), uint8, in the bytes of an image file. Raises DataError."""
    if not data:
        raise DataError("no mask beside the image; use two tops, or write the data base with masks")
    try:
        mask: np.ndarray = decode_image(io.BytesIO(data), color=False)[0]
        return mask
    except BAD_IMAGE as error:
        raise DataError(f"its mask cannot be decoded ({one_line(error)})") from None
