"""What AnnotatedData does to an image and its boxes at random before it is resized: distort, expand, and sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.augmentation.boxes import CORNERS, WHOLE, seen_from
from minicaffe.data.augmentation.distortion import distort
from minicaffe.data.augmentation.expansion import expand
from minicaffe.data.augmentation.sampling import BatchSampler, draw_jitter, draw_sample
from minicaffe.data.transformer import TransformParam
from minicaffe.errors import DataError


@dataclass(frozen=True)
class Augmenting:
    """The steps that a spec asks for. ``jitter``: how much smaller a part of an image may be without samplers.

    SSD's Caffe makes each image a JPEG between two steps, and decodes it again; here it stays as it is.
    """

    param: TransformParam
    samplers: Sequence[BatchSampler] = ()
    jitter: float = 0.0

    @property
    def does_anything(self) -> bool:
        """Whether images are changed at all."""
        param = self.param
        return bool(param.distort_param or param.expand_param or self.samplers or self.jitter)

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, keeps_aspect: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (C, H, W), uint8, boxes (n, 7), and the view (4,) that they show. ``keeps_aspect``: jitter must.

        Where an image is expanded, the view is one of the larger image. Raises DataError for an image that is not
        of bytes, or has no colours to distort.
        """
        param = self.param
        if not self.does_anything:
            return image, boxes, WHOLE
        if image.dtype != np.uint8:
            raise DataError("images of floats are not changed at random; write them as bytes")
        if param.distort_param is not None:
            image = distort(param.distort_param, image, rng)
        if param.expand_param is not None:
            larger = expand(param.expand_param, image, param.mean_value, rng)
            if larger is not None:
                image, boxes = larger[0], seen_from(larger[1], boxes, param.emit_constraint)
        if self.samplers:
            view = draw_sample(self.samplers, boxes[:, CORNERS], rng)
        else:
            view = draw_jitter(self.jitter, keeps_aspect, rng) if self.jitter else None
        if view is None:
            return image, boxes, WHOLE
        return cut_out(image, view), seen_from(view, boxes, param.emit_constraint), view


def cut_out(image: np.ndarray, view: np.ndarray) -> np.ndarray:
    """The part of an image (C, H, W) in a view (4,) within it: whole pixels, at least one."""
    height, width = image.shape[1:]
    x_min, y_min, x_max, y_max = view * np.array([width, height, width, height], np.float32)
    x, y = min(int(x_min), width - 1), min(int(y_min), height - 1)
    return image[:, y : y + max(int(y_max - y_min), 1), x : x + max(int(x_max - x_min), 1)]
