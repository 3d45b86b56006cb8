"""What the layers of py-faster-rcnn have in common: their anchors, their offsets, and random draws.

Nets of Faster R-CNN, R-FCN and PVANet name them as ``type: Python`` layers, whose modules are written in
Python 2.

What py-faster-rcnn reads from its configuration (``cfg``) has that one's defaults here, and may be given in
``param_str`` under the same name: ``param_str: "{'feat_stride': 16, 'RPN_POST_NMS_TOP_N': 200}"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.layer import Layer
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.ops.detection.anchors import anchors_of
from minicaffe.spec.fields import Float, Int, Message


class AnchorSettings(Message):
    """``scales`` and ``ratios`` of the anchors; none given: 8, 16, 32 and 0.5, 1, 2."""

    feat_stride = Int(required=True, min=1)
    scales = Float(above=0, repeated=True)
    ratios = Float(above=0, repeated=True)

    def anchors(self) -> np.ndarray:
        """One cell's (A, 4). Their sides are rounded as Python rounds them, halves to the even number."""
        return anchors_of(16, self.ratios or [0.5, 1, 2], self.scales or [8, 16, 32], np.round)


class SamplingLayer(StandIn):
    """Base of those that draw random samples, which depend on the layer's name and the net's seed."""

    drawn = 0

    def next_generator(self) -> np.random.Generator:
        """Random numbers for one forward: others each time, the same ones in each run."""
        self.drawn += 1
        return np.random.default_rng([self.seed, self.drawn])

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = self.count_in(state, "drawn")


def four(settings: Message, name: str, default: Sequence[float]) -> np.ndarray:
    """Four numbers of a field, one for each side of a box. Raises SpecError for another number of them."""
    given = getattr(settings, name)
    if len(given) not in (0, 4):
        raise settings.error(name, f"{len(given)} numbers; give 4")
    return np.array(given or default, np.float64)


def means_and_stds(settings: Message, prefix: str, applies: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is subtracted from offsets, and what they are divided by: the fields ``prefix``_MEANS and _STDS."""
    if not applies:
        return np.zeros(4), np.ones(4)
    return four(settings, f"{prefix}_MEANS", [0, 0, 0, 0]), four(
        settings, f"{prefix}_STDS", [0.1, 0.1, 0.2, 0.2]
    )


def check_boxes(layer: Layer, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless that is the shape of true boxes."""
    if shape[1:2] != (5,) or any(axis != 1 for axis in shape[2:]):
        raise layer.shape_error(f"true boxes have shape {shape}; expected (G, 5): x1, y1, x2, y2, label")
