"""DataTransformer: raw images -> the batch that a net sees, as Caffe's DataTransformer does it.

    out = (crop(pad(resize(x))) - mean) * scale, mirrored or not

A mean image is cropped and mirrored along with the pixels, that is, it is subtracted before the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minicaffe.data.augmentation.boxes import EmitConstraint
from minicaffe.data.augmentation.distortion import DistortionParam
from minicaffe.data.augmentation.expansion import ExpansionParam
from minicaffe.data.augmentation.noise import NoiseParam, add_noise
from minicaffe.data.augmentation.resizing import ResizeParam, Resizing
from minicaffe.data.mean import load_mean
from minicaffe.data.preparation import Preparation
from minicaffe.data.sources.source import Images, find_path, lookup_folders
from minicaffe.errors import DataError
from minicaffe.spec.fields import Bool, Float, Int, Message, Nested, String

ONLY_BOXES = (
    "distort_param",
    "expand_param",
    "emit_constraint",
)  # what only AnnotatedData does, as in SSD's Caffe


class TransformParam(Message):
    """Caffe's TransformationParameter, SSD's fields, and ``pad``: rows and columns of zeros around an image.

    ``crop_h`` and ``crop_w`` are for crops that are not square. Of several ``resize_param``, which MobileNet-YOLO's
    Caffe allows, AnnotatedData draws one. What is in ``ONLY_BOXES`` is for AnnotatedData alone.

    With a crop back to the old size, ``pad: 2`` shifts images by up to two pixels in training. A padded pixel
    is 0 before the mean is subtracted, so it becomes -mean_value; a mean image is padded too, and there it is 0.
    """

    scale = Float(1.0)
    mirror = Bool(False)
    crop_size = Int(0, min=0)
    crop_h = Int(0, min=0)
    crop_w = Int(0, min=0)
    mean_file = String("")
    mean_value = Float(repeated=True)
    force_color = Bool(False)
    force_gray = Bool(False)
    pad = Int(0, min=0)
    resize_param = Nested(ResizeParam, repeated=True)
    noise_param = Nested(NoiseParam, optional=True)
    distort_param = Nested(DistortionParam, optional=True)
    expand_param = Nested(ExpansionParam, optional=True)
    emit_constraint = Nested(EmitConstraint, optional=True)

    def check(self) -> None:
        if self.mean_file and self.mean_value:
            raise self.error("mean_file", "mean_value is given too; keep one of them")
        if self.force_color and self.force_gray:
            raise self.error("force_gray", "force_color is given too; keep one of them")
        if self.expand_param and self.mean_file:
            raise self.error(
                "expand_param", "needs the colour around an image: give mean_value, not mean_file"
            )
        if bool(self.crop_h) != bool(self.crop_w):
            missing = "crop_w" if self.crop_h else "crop_h"
            raise self.error(missing, "crop_h and crop_w must be given together; give both, or crop_size")

    def check_without_boxes(self) -> None:
        """Raise SpecError for what only AnnotatedData can do, and for several sizes of images."""
        for name in ONLY_BOXES:
            if self.has(name):
                raise self.error(name, "only AnnotatedData layers have it; remove it")
        if len(self.resize_param) > 1:
            raise self.error("resize_param", "only AnnotatedData layers may have several; keep one")

    def check_without_resizing(self) -> None:
        """Raise SpecError for what a layer of windows or arrays does not do to them."""
        self.check_without_boxes()
        for name in ("resize_param", "noise_param", "crop_h", "crop_w"):
            if self.has(name):
                raise self.error(name, "this layer does not have it; remove it")

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width of the crop."""
        if self.crop_size:
            return self.crop_size, self.crop_size
        return (self.crop_h, self.crop_w) if self.crop_h else None

    @property
    def color(self) -> bool | None:
        """How to decode encoded images, as in ``decode_image``."""
        return True if self.force_color else False if self.force_gray else None


class DataTransformer:
    """Transforms batches of one phase: random crops at TRAIN, the centre otherwise; mirrors at random."""

    def __init__(self, param: TransformParam, phase: str, folder: str | Path = ".") -> None:
        """``folder`` is the spec's, where ``mean_file`` is looked up first. Raises DataError."""
        self.param = param
        self.crops_at_random = phase == "TRAIN" and param.crop is not None
        self.resizing = Resizing(param.resize_param[0]) if param.resize_param else None
        self.scale = np.float32(param.scale)
        self.mean_image: np.ndarray | None = None
        if param.mean_file:
            found = find_path(param.mean_file, lookup_folders(folder), "mean file")
            self.mean_image = load_mean(found)

    def output_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """The shape (C, h, w) that an image (C, H, W) becomes. Raises SpecError if the image does not fit."""
        return self.cropped_shape(self.resized_shape(image_shape))

    def resized_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """The shape of an image (C, H, W) after ``resize_param``."""
        channels, height, width = image_shape
        return (channels, *(self.resizing.size(height, width) if self.resizing else (height, width)))

    def cropped_shape(self, resized_shape: Sequence[int]) -> tuple[int, int, int]:
        """The shape after all steps but the first. Raises SpecError if the image does not fit."""
        channels, height, width = resized_shape
        self._check(channels, height, width)
        pad = 2 * self.param.pad
        return (channels, *(self.param.crop or (height + pad, width + pad)))

    def preparation(self, image_shape: Sequence[int]) -> Preparation | None:
        """What an image (C, H, W) of bytes goes through at TEST; None if a Preparation cannot express it."""
        if self.param.noise_param:
            return None
        if self.resizing and (
            self.resizing.param.resize_mode != "WARP"
            or self.resizing.param.interp_mode not in ([], ["LINEAR"])
        ):
            return None
        channels, height, width = self.resized_shape(image_shape)
        _, h, w = self.output_shape(image_shape)
        if channels not in (1, 3) or h > height or w > width:  # larger because of padding
            return None
        mean = None
        if self.mean_image is not None:
            y, x = (height - h) // 2, (width - w) // 2
            mean = self.mean_image[:, y : y + h, x : x + w]
        elif self.param.mean_value:
            mean = np.resize(np.array(self.param.mean_value, np.float32), channels)
        return Preparation(
            image_dims=(height, width) if (h, w) != (height, width) else None,
            channel_swap=(2, 1, 0) if channels == 3 else None,
            raw_scale=255.0,
            mean=mean,
            input_scale=None if self.param.scale == 1 else self.param.scale,
            as_bytes=True,
        )

    def _check(self, channels: int, height: int, width: int) -> None:
        param, mean, pad = self.param, self.mean_image, 2 * self.param.pad
        sides = (("crop_h", height), ("crop_w", width)) if param.crop else ()
        for (name, side), wanted in zip(sides, param.crop or (), strict=True):
            if side + pad < wanted:
                size = f"{height} × {width}" + (f" with pad {param.pad}" if pad else "")
                name = "crop_size" if param.crop_size else name
                raise param.error(name, f"{wanted} is more than an image has ({size}); reduce it")
        if mean is not None and mean.shape != (channels, height, width):
            problem = f"its shape {mean.shape} is not the images', {(channels, height, width)}; use another"
            raise param.error("mean_file", problem)
        if len(param.mean_value) not in (0, 1, channels):
            problem = f"{len(param.mean_value)} values for {channels} channels; give 1 or {channels}"
            raise param.error("mean_value", problem)

    def __call__(self, images: Images, out: np.ndarray, rng: np.random.Generator) -> None:
        """Write the batch into ``out``, float32 (C, h, w, N), from ``images``: N of (C, H, W).

        Every random choice is drawn from ``rng``. Raises SpecError or DataError if images do not fit.
        """
        if self.resizing or self.param.noise_param:
            images = [self.resized(image, rng, self.resizing) for image in images]
        self.place(images, out, rng)

    def resized(self, image: np.ndarray, rng: np.random.Generator, resizing: Resizing | None) -> np.ndarray:
        """An image (C, H, W) after ``resize_param`` and ``noise_param``. Raises DataError for one of floats."""
        noise = self.param.noise_param
        if (resizing or noise) and image.dtype != np.uint8:
            name = "resize_param" if resizing else "noise_param"
            raise DataError(f"{name} is for images of bytes, and these are floats; remove it")
        if resizing:
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            image = resizing(pixels, rng).transpose(2, 0, 1)
        return add_noise(noise, image, rng) if noise else image

    def place(
        self, images: Images, out: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Crop, mirror, and write into ``out``; say which are mirrored (N,), and where they are cropped (N, 2)."""
        shapes = [image.shape for image in (images[:1] if isinstance(images, np.ndarray) else images)]
        for shape in dict.fromkeys(shapes):
            self._check_output(shape, out.shape[:3])
        sizes = np.broadcast_to([shape[1:] for shape in shapes], (len(images), 2))
        flips, corners = self._draw(sizes, rng)
        if isinstance(images, np.ndarray):
            self._write(images, flips, corners, out)
            return flips, corners
        for n, image in enumerate(images):
            only = slice(n, n + 1)
            self._write(image[None], flips[only], corners[only], out[..., only])
        return flips, corners

    def _check_output(self, resized_shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        got = self.cropped_shape(resized_shape)
        if got != wanted:
            has, others = (" × ".join(map(str, shape)) for shape in (got, wanted))
            raise DataError(f"images of one batch differ: {has}, but {others} is expected; resize or crop")

    def _draw(self, sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """For images of ``sizes`` (N, 2): whether to mirror, (N,), and the crop's row and column, (N, 2)."""
        flips = rng.integers(2, size=len(sizes)) > 0 if self.param.mirror else np.zeros(len(sizes), bool)
        if self.param.crop is None:
            return flips, np.zeros_like(sizes)
        room = sizes + 2 * self.param.pad - np.array(self.param.crop)
        return flips, rng.integers(room + 1) if self.crops_at_random else room // 2

    def _write(self, images: np.ndarray, flips: np.ndarray, corners: np.ndarray, out: np.ndarray) -> None:
        """Transform images of one size, (n, C, H, W), into ``out``, (C, h, w, n)."""
        size = out.shape[1:3]
        pixels = crop(pad(images, self.param.pad), corners, size)
        if self.mean_image is not None:
            means = np.broadcast_to(self.mean_image, images.shape)
            pixels = pixels - crop(pad(means, self.param.pad), corners, size)
        if flips.any():
            pixels = np.where(flips[:, None, None, None], pixels[..., ::-1], pixels)
        out[...] = pixels.transpose(1, 2, 3, 0)
        if self.param.mean_value:
            out -= np.array(self.param.mean_value, np.float32).reshape(-1, 1, 1, 1)
        if self.scale != 1:
            out *= self.scale


def pad(images: np.ndarray, width: int) -> np.ndarray:
    """Images (n, C, H, W) with ``width`` zeros on each side."""
    if not width:
        return images
    n, channels, height, old_width = images.shape
    padded = np.zeros((n, channels, height + 2 * width, old_width + 2 * width), images.dtype)
    padded[:, :, width:-width, width:-width] = images
    return padded


def crop(images: np.ndarray, corners: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """From each of (n, C, H, W) the window at its row and column, ``corners`` (n, 2): (n, C, h, w)."""
    if images.shape[2:] == tuple(size):
        return images
    windows = sliding_window_view(images, tuple(size), axis=(2, 3))
    return windows[np.arange(len(images)), :, corners[:, 0], corners[:, 1]]
