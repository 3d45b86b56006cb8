"""PriorBox: boxes of given sizes and shapes around each cell of a feature map, as fractions of the image.

    centre      ((column + offset) · step_w, (row + offset) · step_h), with steps W / w and H / h by default
    P priors    for each min_size s: a square of side s; if there is a max_size, one of side √(s · max_size);
                and for each aspect_ratio r ≠ 1 (with ``flip`` also 1 / r) a box s · √r wide and s / √r high

Shapes: feature map (N, C, h, w), image (N, C, H, W) -> y (1, 2, h · w · P · 4) with P priors per cell: row 0 the
boxes (x_min, y_min, x_max, y_max), row 1 their variances.

Only the shapes of the bottoms are used; they get no gradient. As in SSD, min_size and max_size are cut to whole
pixels. The PriorBoxLayer of SSD's Caffe (Liu et al. 2016, arXiv 1512.02325; weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Bool, Float, Int, Message


class PriorBoxParam(Message):
    """``img_size``, or ``img_h`` and ``img_w``, is the image's size; ``step``, or both its parts, is the step."""

    min_size = Float(repeated=True, above=0)
    max_size = Float(repeated=True, above=0)
    aspect_ratio = Float(repeated=True, above=0)
    flip = Bool(True)
    clip = Bool(False)
    variance = Float(repeated=True, above=0)
    img_size = Int(min=1)
    img_h = Int(min=1)
    img_w = Int(min=1)
    step = Float(above=0)
    step_h = Float(above=0)
    step_w = Float(above=0)
    offset = Float(0.5)

    def check(self) -> None:
        if not self.min_size:
            raise self.error("min_size", "required, but not given; add 'min_size: …', in pixels")
        if self.max_size and len(self.max_size) != len(self.min_size):
            raise self.error(
                "max_size",
                f"{len(self.max_size)} for {len(self.min_size)} min_size; give one for each, or none",
            )
        if any(most <= least for least, most in zip(self.min_size, self.max_size, strict=False)):
            raise self.error("max_size", f"{self.max_size} must be larger than min_size {self.min_size}")
        if len(self.variance) not in (0, 1, 4):
            raise self.error("variance", f"{len(self.variance)} given; give 4, or one for all")
        for whole, part in (("img_size", "img"), ("step", "step")):
            self._check_parts(whole, f"{part}_h", f"{part}_w")

    def _check_parts(self, whole: str, *parts: str) -> None:
        given = [part for part in parts if self.has(part)]
        if given and self.has(whole):
            raise self.error(whole, f"{given[0]} is given too; keep one of them")
        if len(given) == 1:
            missing = next(part for part in parts if part not in given)
            raise self.error(missing, f"required with {given[0]}; add '{missing}: …'")

    def ratios(self) -> list[float]:
        """The aspect ratios other than 1, without duplicates; 1 / r, which ``flip`` adds, follows r."""
        found = [1.0]
        for ratio in self.aspect_ratio:
            if all(abs(ratio - other) >= 1e-6 for other in found):
                found += [ratio, 1 / ratio] if self.flip else [ratio]
        return [ratio for ratio in found if abs(ratio - 1) >= 1e-6]

    def sizes(self) -> np.ndarray:
        """(P, 2): width and height of each prior, in pixels."""
        sizes = []
        for i, least in enumerate(map(int, self.min_size)):
            squares = [least, math.sqrt(least * int(self.max_size[i]))] if self.max_size else [least]
            sizes += [(side, side) for side in squares]
            sizes += [(least * math.sqrt(ratio), least / math.sqrt(ratio)) for ratio in self.ratios()]
        return np.array(sizes)


@register_layer
class PriorBox(Layer):
    """The boxes that a detector's predictions start from."""

    messages = {"prior_box_param": PriorBoxParam}
    bottoms = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(PriorBoxParam)
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if len(blob.shape) != 4 or 0 in blob.shape[2:]:
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}; expected 4 axes (N, C, H, W)"
                )
        _, _, rows, columns = bottom[0].shape
        _, _, height, width = bottom[1].shape
        image = param.img_h or param.img_size or height, param.img_w or param.img_size or width
        boxes = prior_boxes(param, (rows, columns), image)
        variances = np.broadcast_to(np.array(param.variance or [0.1]), boxes.shape)
        top[0].reshape(1, 2, boxes.size)
        both = np.stack([boxes.reshape(-1), variances.reshape(-1)])
        self.priors = self.setting.device.put(both[..., None], self.dtype)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].stored[...] = self.priors


def prior_boxes(param: PriorBoxParam, cells: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
    """(h, w, P, 4): the boxes for a feature map of ``cells`` (h, w) and an image (H, W)."""
    steps = (
        param.step_h or param.step or image[0] / cells[0],
        param.step_w or param.step or image[1] / cells[1],
    )
    y, x = ((np.arange(count) + param.offset) * step for count, step in zip(cells, steps, strict=True))
    centres = np.stack([np.broadcast_to(x, cells), np.broadcast_to(y[:, None], cells)], axis=-1)[:, :, None]
    half = param.sizes() / 2
    boxes = np.concatenate([centres - half, centres + half], axis=-1) / (*image[::-1], *image[::-1])
    return boxes.clip(0, 1) if param.clip else boxes
