"""``expand_param``: an image somewhere on a larger one of the mean colour, so that objects become smaller.

SSD's "zoom out" (Liu et al. 2016, arXiv 1512.02325; ``data_transformer.cpp`` of weiliu89/caffe, branch ssd).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.spec.fields import Float, Message


class ExpansionParam(Message):
    """SSD's ExpansionParameter: how often, and at most how many times as wide and high."""

    prob = Float(1.0, min=0, max=1)
    max_expand_ratio = Float(1.0)

    def check(self) -> None:
        if self.max_expand_ratio <= 1:
            raise self.error("max_expand_ratio", f"must be more than 1, got {self.max_expand_ratio:g}")


def expand(
    param: ExpansionParam, image: np.ndarray, mean: Sequence[float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """The larger image, from (C, H, W), and the view of it in units of the old one, (4,); None: it stays as it is.

    ``mean``: the colour around it, one number or one for each channel; empty for black.
    """
    if rng.random() > param.prob or abs(param.max_expand_ratio - 1) < 1e-2:
        return None
    channels, height, width = image.shape
    ratio = np.float32(rng.uniform(1, param.max_expand_ratio))
    new_height, new_width = int(np.float32(height) * ratio), int(np.float32(width) * ratio)
    y, x = (int(rng.uniform(0, new - old)) for new, old in ((new_height, height), (new_width, width)))
    colour = np.rint(np.resize(np.array(mean or [0.0]), channels)).clip(0, 255).astype(np.uint8)
    canvas = np.empty((channels, new_height, new_width), np.uint8)
    canvas[...] = colour[:, None, None]
    canvas[:, y : y + height, x : x + width] = image
    view = np.array([-x, -y, new_width - x, new_height - y], np.float32)
    return canvas, view / np.array([width, height, width, height], np.float32)
