"""What DetectNet does to a picture and its boxes to learn from them: colours, mirror, size, angle, place.

In this order: hue and saturation, minus the mean, mirrored, resized (bicubic), rotated about the middle (bilinear),
cropped. What lies beyond the picture's border is 0, after the mean has been subtracted.

A picture is an array (H, W, 3), blue first, of numbers from 0 to 255. A box is (x, y, width, height) in pixels.
Sizes are (width, height). The conventions are OpenCV's, by way of NVIDIA/caffe's detectnet_transform_layer.cpp; but
to rotate OpenCV rounds positions to 1/32 of a pixel, which is not done here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicaffe.ops.rounding import round_half_away
from minicaffe.spec.fields import Float, Int, Message

Size = tuple[int, int]
TINY = np.finfo(np.float32).eps
STEEPNESS = -0.75  # of the bicubic kernel: OpenCV's


class DetectNetAugmentationParam(Message):
    """How likely each change is at TRAIN, and how large at the most; at TEST there is none.

    ``shift_x``, ``shift_y``: how many pixels a random crop may reach beyond the picture, both sides together.
    ``desaturation_max``: the share of colour that may go. Angles and hues are in degrees.
    """

    crop_prob = Float(1.0, min=0, max=1)
    shift_x = Int(0, min=0)
    shift_y = Int(0, min=0)
    scale_prob = Float(0.33, min=0, max=1)
    scale_min = Float(0.7, above=0)
    scale_max = Float(1.0, above=0)
    flip_prob = Float(0.33, min=0, max=1)
    rotation_prob = Float(0.33, min=0, max=1)
    max_rotate_degree = Float(1.0)
    hue_rotation_prob = Float(0.33, min=0, max=1)
    hue_rotation = Float(15.0)
    desaturation_prob = Float(0.33, min=0, max=1)
    desaturation_max = Float(0.5)


@dataclass(frozen=True)
class Augmentation:
    """What is done to one picture: its size before it is rotated, and the corner of the crop after that."""

    size: Size
    corner: tuple[int, int] = (0, 0)
    hue: float = 0.0
    saturation: float = 1.0
    mirror: bool = False
    angle: float = 0.0


def draw(param: DetectNetAugmentationParam, size: Size, crop: Size, rng: np.random.Generator) -> Augmentation:
    """A random Augmentation of a picture of this size, of which a crop of that size is taken."""
    hue, saturation, angle = 0.0, 1.0, 0.0
    if rng.random() < param.hue_rotation_prob:
        hue = min(max((rng.random() - 0.5) * 2 * param.hue_rotation, -180), 180)
    if rng.random() < param.desaturation_prob:
        saturation = 1 - rng.random() * param.desaturation_max
    mirror = rng.random() < param.flip_prob
    if rng.random() < param.scale_prob:
        scale = param.scale_min + (param.scale_max - param.scale_min) * rng.random()
        size = _rounded(size[0] * scale), _rounded(size[1] * scale)
    if rng.random() < param.rotation_prob:
        angle = (rng.random() - 0.5) * 2 * param.max_rotate_degree
    where, shift = (0.5, 0.5), (0, 0)
    if rng.random() < param.crop_prob:
        where, shift = (rng.random(), rng.random()), (param.shift_x, param.shift_y)
    whole = rotated_size(size, angle) if abs(angle) > TINY else size
    x, y = (_rounded(where[i] * (whole[i] - crop[i] + shift[i]) - shift[i] // 2) for i in (0, 1))
    return Augmentation(size, (x, y), hue, saturation, mirror, angle)


def augment_picture(
    picture: np.ndarray, chosen: Augmentation, crop: Size, mean: np.ndarray | None
) -> np.ndarray:
    """The crop, float32; ``mean``: (H, W, 3) or (3,), or None."""
    picture = picture.astype(np.float32)
    if abs(chosen.hue) > TINY or chosen.saturation < 1 - 1 / 255:
        picture = recolored(picture, chosen.hue, chosen.saturation)
    if mean is not None:
        picture = picture - mean
    if chosen.mirror:
        picture = picture[:, ::-1]
    if picture.shape[1::-1] != chosen.size:
        picture = resized(picture, chosen.size)
    if abs(chosen.angle) > TINY:
        picture = rotated(picture, chosen.angle)
    return cropped(picture, chosen.corner, crop)


def augment_boxes(boxes: np.ndarray, chosen: Augmentation, size: Size) -> np.ndarray:
    """Where boxes (B, 4), float32, of a picture of this size lie in the crop. They keep their shape if rotated.

    A mirrored box is one pixel further left than its picture: its right edge counts as a pixel of its own.
    """
    boxes = boxes.copy()
    if chosen.mirror:
        boxes[:, 0] = size[0] - boxes[:, 0] - boxes[:, 2] - 1
    boxes *= np.tile(np.array(chosen.size, np.float32) / np.array(size, np.float32), 2)
    if abs(chosen.angle) > TINY:
        turn, shift = _rotation(chosen.size, chosen.angle)
        half = boxes[:, 2:] / 2
        boxes[:, :2] = (boxes[:, :2] + half) @ turn.T.astype(np.float32) + shift.astype(np.float32) - half
    boxes[:, :2] -= chosen.corner
    return boxes


def recolored(picture: np.ndarray, hue: float, saturation: float) -> np.ndarray:
    """Hues turned by degrees, and saturations multiplied; values, the largest of the three colours, are kept."""
    blue, green, red = np.moveaxis(picture / np.float32(255), 2, 0)
    value = np.maximum(np.maximum(blue, green), red)
    spread = value - np.minimum(np.minimum(blue, green), red)
    sector = 60 / (spread + TINY)
    degrees = np.where(
        value == red,
        (green - blue) * sector,
        np.where(value == green, (blue - red) * sector + 120, (red - green) * sector + 240),
    )
    spread = spread / (np.abs(value) + TINY) * np.float32(saturation) * value
    place = ((degrees + np.float32(hue)) / 60)[..., None] + np.array(
        [1, 3, 5], np.float32
    )  # of blue, green and red
    place %= 6
    share = np.clip(np.minimum(place, 4 - place), 0, 1)
    colored: np.ndarray = (value[..., None] - spread[..., None] * share) * np.float32(255)
    return colored


def resized(picture: np.ndarray, size: Size) -> np.ndarray:
    """Bicubic, from 4 × 4 pixels even if the picture shrinks; beyond the border its pixels are repeated."""
    for axis, new in ((1, size[0]), (0, size[1])):
        taps, weights = _cubic_taps(picture.shape[axis], new)
        shape = [4, *([1] * picture.ndim)]
        shape[1 + axis] = new
        parts = picture.take(taps, axis=axis)  # its axis is now two: (4, new)
        picture = (np.moveaxis(parts, axis, 0) * weights.reshape(shape)).sum(axis=0)
    return picture


def _cubic_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``new`` pixels, the four old ones around its position, and their weights: (4, new)."""
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    x, a = position - first.astype(np.float32), np.float32(STEEPNESS)
    before = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
    left = ((a + 2) * x - (a + 3)) * x * x + 1
    right = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
    weights = np.stack([before, left, right, 1 - before - left - right])
    return np.clip(first + np.arange(-1, 3)[:, None], 0, old - 1), weights


def rotated_size(size: Size, angle: float) -> Size:
    """The size of the whole picture after it is rotated."""
    corners = _corners(np.array([int(side / 2) for side in size]), size, angle)
    width, height = np.ceil(corners.max(axis=0)) - np.floor(corners.min(axis=0)) + 1
    return int(width), int(height)


def rotated(picture: np.ndarray, angle: float) -> np.ndarray:
    """The whole picture, rotated by degrees; 0 where not all four pixels around a position are in it."""
    height, width = picture.shape[:2]
    turn, shift = _rotation((width, height), angle)
    new_width, new_height = rotated_size((width, height), angle)
    places = np.stack(np.meshgrid(np.arange(new_width), np.arange(new_height)), axis=2)
    x, y = np.moveaxis(
        (places - shift) @ turn, 2, 0
    )  # turned back: the inverse of a rotation is its transpose
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (left >= 0) & (left < width - 1) & (top >= 0) & (top < height - 1)
    x, y, left, top = x[inside], y[inside], left[inside], top[inside]
    right_share, bottom_share = ((x - left)[:, None], (y - top)[:, None])
    upper = picture[top, left] * (1 - right_share) + picture[top, left + 1] * right_share
    lower = picture[top + 1, left] * (1 - right_share) + picture[top + 1, left + 1] * right_share
    turned = np.zeros((new_height, new_width, *picture.shape[2:]), np.float32)
    turned[inside] = upper * (1 - bottom_share) + lower * bottom_share
    return turned


def _rotation(size: Size, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """(turn, shift): a point p of a picture is at turn · p + shift of the rotated one."""
    middle = np.array(size) / 2
    turn = _turn(angle)
    first = np.floor(_corners(middle, size, angle).min(axis=0))
    return turn, middle - first - turn @ middle


def _turn(angle: float) -> np.ndarray:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, -sin], [sin, cos]])


def _corners(middle: np.ndarray, size: Size, angle: float) -> np.ndarray:
    """The corners (4, 2) of a picture that is rotated about its middle, to float32 as OpenCV has them."""
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners: np.ndarray = (middle + (signs * np.array(size) / 2) @ _turn(angle).T).astype(np.float32)
    return corners


def cropped(picture: np.ndarray, corner: tuple[int, int], size: Size) -> np.ndarray:
    """The part of this size whose upper left corner is there, with zeros beyond the picture."""
    part = np.zeros((size[1], size[0], *picture.shape[2:]), np.float32)
    source, target = zip(*(_overlap(corner[i], size[i], picture.shape[1 - i]) for i in (1, 0)), strict=True)
    part[target] = picture[source]
    return part


def _overlap(start: int, length: int, available: int) -> tuple[slice, slice]:
    """What of ``length`` numbers from ``start`` on there is: where it lies, and where it belongs."""
    first, last = min(max(start, 0), available), min(max(start + length, 0), available)
    return slice(first, last), slice(first - start, last - start)


def _rounded(number: float) -> int:
    return int(round_half_away(np.array(number)))
