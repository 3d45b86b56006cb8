"""``resize_param``: the size to which SSD's Caffe brings each image, and what becomes of the boxes on it.

    WARP                     height × width, whatever the image's own proportions
    FIT_SMALL_SIZE           proportions kept; as small as an image can be that covers height × width
    FIT_LARGE_SIZE_AND_PAD   proportions kept; as large as fits into height × width, the rest is padding

Sizes and boxes are computed in float32, as in ``im_transforms.cpp`` of weiliu89/caffe, branch ssd. The padding is
a whole number of pixels for the image, and is not for its boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicaffe.data.augmentation.interpolation import INTERPOLATIONS
from minicaffe.errors import DataError
from minicaffe.spec.fields import Enum, Float, Int, Message

MODES = ("WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD")
PADDINGS = {
    "CONSTANT": "constant",
    "MIRRORED": "reflect",
    "REPEAT_NEAREST": "edge",
}  # as numpy.pad calls them


class ResizeParam(Message):
    """SSD's ResizeParameter. Of several ``interp_mode`` one is drawn for each image.

    ``prob`` is of use where there are several ``resize_param``. ``height_scale`` and ``width_scale``: in the mode
    FIT_SMALL_SIZE boxes are given in units of these many pixels, not of the image's size.
    """

    prob = Float(1.0, min=0, max=1)
    resize_mode = Enum(*MODES, default="WARP")
    height = Int(0, min=0)
    width = Int(0, min=0)
    height_scale = Int(0, min=0)
    width_scale = Int(0, min=0)
    pad_mode = Enum(*PADDINGS, default="CONSTANT")
    pad_value = Float(repeated=True)
    interp_mode = Enum(*INTERPOLATIONS, repeated=True)

    def check(self) -> None:
        for name in ("height", "width"):
            if self.has(name) and not getattr(self, name):
                raise self.error(name, "0 is out of range; it must be at least 1, in pixels")
            if not getattr(self, name):
                raise self.error(name, f"required, but not given; add '{name}: …', in pixels")


class Resizing:
    """Resizes images, uint8 (H, W, K), and the boxes on them, as a ``resize_param`` says."""

    def __init__(self, param: ResizeParam) -> None:
        self.param = param
        self.height, self.width = np.float32(param.height), np.float32(param.width)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image becomes. Raises DataError if nothing of it would be left."""
        if self.param.resize_mode != "FIT_SMALL_SIZE":
            return self.param.height, self.param.width
        aspect = _aspect(height, width)
        if aspect < self.width / self.height:
            return _whole(self.width / aspect), self.param.width
        return self.param.height, _whole(aspect * self.height)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An image of the new size. Raises DataError if it is too narrow to be resized."""
        param, (height, width) = self.param, pixels.shape[:2]
        modes = param.interp_mode or ["LINEAR"]
        interpolate = INTERPOLATIONS[modes[int(rng.integers(len(modes)))] if len(modes) > 1 else modes[0]]
        if param.resize_mode != "FIT_LARGE_SIZE_AND_PAD":
            return interpolate(pixels, *self.size(height, width))
        aspect = _aspect(height, width)
        if aspect > self.width / self.height:
            inner = (_whole(self.width / aspect), param.width)
        else:
            inner = (param.height, _whole(aspect * self.height))
        return self._padded(interpolate(pixels, *inner))

    def _padded(self, pixels: np.ndarray) -> np.ndarray:
        room = [self.param.height - pixels.shape[0], self.param.width - pixels.shape[1]]
        around = [(both // 2, both - both // 2) for both in room] + [(0, 0)] * (pixels.ndim - 2)
        if self.param.pad_mode != "CONSTANT":
            pad: Callable[..., np.ndarray] = np.pad  # its type for a mode that is not a literal
            return pad(pixels, around, PADDINGS[self.param.pad_mode])
        (top, below), (left, right) = around[:2]
        padded = np.empty((self.param.height, self.param.width, *pixels.shape[2:]), np.uint8)
        padded[...] = self._pad_value(pixels.shape[2])
        padded[top : len(padded) - below, left : padded.shape[1] - right] = pixels
        return padded

    def _pad_value(self, channels: int) -> np.ndarray:
        values = self.param.pad_value or [0.0]
        if len(values) not in (1, channels):
            problem = f"{len(values)} values for {channels} channels; give 1 or {channels}"
            raise self.param.error("pad_value", problem)
        rounded: np.ndarray = np.rint(np.resize(values, channels)).clip(0, 255)
        return rounded.astype(np.uint8)

    def boxes(self, corners: np.ndarray, height: int, width: int) -> np.ndarray:
        """Where boxes (n, 4), float32 in units of the image's sides, lie on the resized image."""
        new_height, new_width = self.height, self.width
        pad_x = pad_y = np.float32(0)
        aspect = _aspect(height, width)
        is_wider = aspect > new_width / new_height
        if self.param.resize_mode == "FIT_LARGE_SIZE_AND_PAD":
            if is_wider:
                pad_y = (new_height - new_width / aspect) / np.float32(2)
            else:
                pad_x = (new_width - aspect * new_height) / np.float32(2)
        elif self.param.resize_mode == "FIT_SMALL_SIZE":
            new_height, new_width = self._covering(aspect)
        x = _along(corners[:, 0::2], width, new_width, pad_x)
        y = _along(corners[:, 1::2], height, new_height, pad_y)
        return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)

    def extrapolated(self, corners: np.ndarray, height: int, width: int, view: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) on the part ``view`` of a resized image, in units of the scales.

        ``height`` and ``width`` are those before resizing. Raises SpecError if the view is smaller than that.
        """
        param = self.param
        if param.resize_mode != "FIT_SMALL_SIZE" or not (param.height_scale and param.width_scale):
            return corners
        new_height, new_width = self._covering(_aspect(height, width))
        seen = new_width * (view[2] - view[0]), new_height * (view[3] - view[1])
        for name, side in zip(("width_scale", "height_scale"), seen, strict=True):
            if side < getattr(param, name):
                raise param.error(
                    name, f"{getattr(param, name)} is more than the {side:g} pixels of an image; reduce it"
                )
        x, y = seen[0] / np.float32(param.width_scale), seen[1] / np.float32(param.height_scale)
        return corners * np.array([x, y, x, y], np.float32)

    def _covering(self, aspect: np.float32) -> tuple[np.float32, np.float32]:
        """Height and width of FIT_SMALL_SIZE, before they become whole."""
        if aspect < self.width / self.height:
            return self.width / aspect, self.width
        return self.height, aspect * self.height


def _aspect(height: int, width: int) -> np.float32:
    return np.float32(width) / np.float32(height)


def _whole(side: np.float32) -> int:
    if side < 1:
        raise DataError("too long and narrow: no pixel would be left of it after resizing; leave it out")
    return int(side)


def _along(ends: np.ndarray, old: int, new: np.float32, pad: np.float32) -> np.ndarray:
    """Begin and end (n, 2) of boxes along one axis, before and after it is resized."""
    before = np.float32(old)
    first, last = (ends[:, i] * before * (new - np.float32(2) * pad) / before for i in (0, 1))
    first = pad + np.maximum(np.float32(0), first)
    last = pad + np.minimum(new, last)
    return np.stack([first, last], axis=1) / new
