"""``noise_param``: makes images worse, or their colours others, after they are resized, in every phase.

All that is asked for is done to every image, in the order of the functions below, as in ``im_transforms.cpp`` of
weiliu89/caffe, branch ssd. Nothing is drawn at random there but the places of ``saltpepper``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from minicaffe.data.augmentation.color import from_ycrcb, to_grey, to_hsv, to_ycrcb
from minicaffe.data.augmentation.equalization import equalized, equalized_by_place
from minicaffe.errors import DataError
from minicaffe.spec.fields import Bool, Float, Message, Nested

GAUSSIAN = (9, 29, 55, 70, 55, 29, 9)  # of 256: OpenCV's window of 7 with a standard deviation of 1.5
LEVELS = np.arange(256)
COARSE = (LEVELS // 64 * 64 + 32).astype(np.uint8)


class SaltPepperParam(Message):
    """The share of pixels that get a colour, and that: one number, or one for each channel."""

    fraction = Float(0.0, min=0, max=1)
    value = Float(repeated=True)


class NoiseParam(Message):
    """SSD's NoiseParameter. ``prob`` is not used, there or here. ``jpeg`` is a quality; below 0: none.

    ``convert_to_lab`` is refused: SSD's Caffe makes floats of the image then, and reads them as bytes.
    """

    prob = Float(0.0)
    hist_eq = Bool(False)
    inverse = Bool(False)
    decolorize = Bool(False)
    gauss_blur = Bool(False)
    jpeg = Float(-1.0, max=100)
    posterize = Bool(False)
    erode = Bool(False)
    saltpepper = Bool(False)
    saltpepper_param = Nested(SaltPepperParam)
    clahe = Bool(False)
    convert_to_hsv = Bool(False)
    convert_to_lab = Bool(False)

    def check(self) -> None:
        if self.convert_to_lab:
            raise self.error("convert_to_lab", "SSD's Caffe reads its floats as bytes; not here: remove it")
        if self.saltpepper and not self.saltpepper_param.value:
            raise self.error("saltpepper_param", "needs a value, the colour of the grains; add 'value: …'")


def add_noise(param: NoiseParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image (C, H, W), uint8, after all steps. Raises DataError or SpecError if it lacks colours for one."""
    if len(image) != 3 and (param.decolorize or param.convert_to_hsv):
        raise DataError("noise_param changes colours, which a grey image lacks; give force_color")
    if param.decolorize:
        image = np.broadcast_to(to_grey(image), image.shape)
    if param.gauss_blur:
        image = blurred(image)
    if param.hist_eq:
        image = _of_luminance(equalized, image)
    if param.clahe:
        image = _of_luminance(equalized_by_place, image)
    if param.jpeg > 0:
        image = through_jpeg(image, int(param.jpeg))
    if param.erode:
        image = eroded(image)
    if param.posterize:
        image = COARSE[image]
    if param.inverse:
        image = ~image
    if param.saltpepper:
        image = with_grains(param.saltpepper_param, image, rng)
    return to_hsv(image) if param.convert_to_hsv else image


def blurred(image: np.ndarray) -> np.ndarray:
    """Each pixel mixed with its 48 neighbours; images go on mirrored beyond the border."""
    summed = image.astype(np.int32)
    for axis in (1, 2):
        side = image.shape[axis]
        padded = np.pad(summed, [(3 * (a == axis),) * 2 for a in range(3)], "reflect")
        parts = [weight * padded.take(np.arange(k, k + side), axis) for k, weight in enumerate(GAUSSIAN)]
        summed = sum(parts[1:], parts[0])
    mixed: np.ndarray = (summed + (1 << 15)) >> 16
    return mixed.astype(np.uint8)


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image as a JPEG of this quality shows it; in colour, whatever it was."""
    pixels = np.broadcast_to(image, (3, *image.shape[1:]))[::-1].transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)[::-1]


def eroded(image: np.ndarray) -> np.ndarray:
    """Each pixel as dark as the darkest of itself and its four neighbours."""
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1)], constant_values=255)
    shifts = (
        np.s_[:, 1:-1, 1:-1],
        np.s_[:, :-2, 1:-1],
        np.s_[:, 2:, 1:-1],
        np.s_[:, 1:-1, :-2],
        np.s_[:, 1:-1, 2:],
    )
    darkest: np.ndarray = np.minimum.reduce([padded[shift] for shift in shifts])
    return darkest


def with_grains(param: SaltPepperParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A share of the pixels, drawn at random, in one colour. Raises SpecError if that does not fit the image."""
    channels, height, width = image.shape
    if len(param.value) not in (1, channels):
        raise param.error("value", f"{len(param.value)} values for {channels} channels; give 1 or {channels}")
    count = math.floor(param.fraction * height * width)
    columns, rows = rng.integers([[width], [height]], size=(2, count))
    grainy = image.copy()
    grainy[:, rows, columns] = np.array(param.value).astype(np.int64).astype(np.uint8)[:, None]
    return grainy


def _of_luminance(spread: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
    """An image whose luminance alone is changed."""
    if len(image) != 3:
        return np.stack([spread(plane) for plane in image])
    parts = to_ycrcb(image)
    parts[0] = spread(parts[0])
    return from_ycrcb(parts)
