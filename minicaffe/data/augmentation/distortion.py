"""``distort_param``: changes brightness, contrast, saturation and hue of an image at random, as SSD trains.

Contrast comes second or last, each half of the time (Howard 2013, arXiv 1312.5402; ``im_transforms.cpp`` of
weiliu89/caffe, branch ssd). Each change has a probability of its own.
"""

from __future__ import annotations

import numpy as np

from minicaffe.data.augmentation.color import from_hsv, to_hsv
from minicaffe.errors import DataError
from minicaffe.spec.fields import Float, Message

LEVELS = np.arange(256, dtype=np.float32)


class DistortionParam(Message):
    """SSD's DistortionParameter: for each change its probability and its range.

    ``brightness_delta`` is in grey levels, ``hue_delta`` in units of two degrees; the others are factors.
    """

    brightness_prob = Float(0.0, min=0, max=1)
    brightness_delta = Float(0.0, min=0)
    contrast_prob = Float(0.0, min=0, max=1)
    contrast_lower = Float(0.0, min=0)
    contrast_upper = Float(0.0, min=0)
    hue_prob = Float(0.0, min=0, max=1)
    hue_delta = Float(0.0, min=0)
    saturation_prob = Float(0.0, min=0, max=1)
    saturation_lower = Float(0.0, min=0)
    saturation_upper = Float(0.0, min=0)
    random_order_prob = Float(0.0, min=0, max=1)

    def check(self) -> None:
        for what in ("contrast", "saturation"):
            if getattr(self, f"{what}_lower") > getattr(self, f"{what}_upper"):
                raise self.error(f"{what}_upper", f"is less than {what}_lower; exchange them")

    @property
    def needs_color(self) -> bool:
        """Whether it may do what grey images do not have."""
        return max(self.hue_prob, self.saturation_prob, self.random_order_prob) > 0


def distort(param: DistortionParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image (C, H, W), uint8, changed at random. Raises DataError for a grey one whose colours should change."""
    if len(image) != 3 and param.needs_color:
        raise DataError(
            "distort_param changes hue and saturation, which a grey image lacks; give force_color"
        )
    contrast_is_last = rng.random() <= 0.5
    image = _brightness(param, image, rng)
    image = image if contrast_is_last else _contrast(param, image, rng)
    image = _hue(param, _saturation(param, image, rng), rng)
    image = _contrast(param, image, rng) if contrast_is_last else image
    if rng.random() < param.random_order_prob:
        image = image[rng.permutation(3)]
    return image


def _brightness(param: DistortionParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= param.brightness_prob:
        return image
    return brightened(image, rng.uniform(-param.brightness_delta, param.brightness_delta))


def _contrast(param: DistortionParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= param.contrast_prob:
        return image
    return contrasted(image, rng.uniform(param.contrast_lower, param.contrast_upper))


def _saturation(param: DistortionParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= param.saturation_prob:
        return image
    return saturated(image, rng.uniform(param.saturation_lower, param.saturation_upper))


def _hue(param: DistortionParam, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= param.hue_prob:
        return image
    return with_hue(image, rng.uniform(-param.hue_delta, param.hue_delta))


def brightened(image: np.ndarray, delta: float) -> np.ndarray:
    """x + ``delta``, of any image of bytes."""
    changed: np.ndarray = _bytes(LEVELS + np.float32(delta))[image]
    return changed


def contrasted(image: np.ndarray, factor: float) -> np.ndarray:
    """x · ``factor``; as it is if the factor is within a thousandth of 1."""
    return _bytes(LEVELS * np.float32(factor))[image] if abs(factor - 1) > 1e-3 else image


def saturated(image: np.ndarray, factor: float) -> np.ndarray:
    """An image (3, H, W) with its saturation times a factor."""
    hsv = to_hsv(image)
    hsv[1] = _bytes(LEVELS * np.float32(factor))[hsv[1]]
    return from_hsv(hsv)


def with_hue(image: np.ndarray, delta: float) -> np.ndarray:
    """An image (3, H, W) with its hue moved by ``delta``, in units of two degrees; at most down to 0, to red."""
    if delta == 0:
        return image
    hsv = to_hsv(image)
    hsv[0] = _bytes(LEVELS + np.float32(delta))[hsv[0]]
    return from_hsv(hsv)


def _bytes(levels: np.ndarray) -> np.ndarray:
    """Levels rounded, and cut off at 0 and 255: what each of 256 becomes."""
    rounded: np.ndarray = np.rint(levels).clip(0, 255).astype(np.uint8)
    return rounded
