"""What layers that read priors check of them, as PriorBox makes them: (1, 2, P · 4), boxes and their variances."""

from __future__ import annotations

import math

from minicaffe.core.layer import Layer


def count_of_priors(layer: Layer, shape: tuple[int, ...]) -> int:
    """P, from the shape of the priors. Raises ShapeError at the layer."""
    if len(shape) < 3 or shape[:2] != (1, 2) or math.prod(shape[2:]) % 4:
        raise layer.shape_error(f"priors have shape {shape}; expected (1, 2, P · 4), as PriorBox makes them")
    return math.prod(shape[2:]) // 4


def has_for_each(shape: tuple[int, ...], images: int, each: int) -> bool:
    """Whether a shape has ``each`` numbers for each image."""
    return bool(shape) and shape[0] == images and math.prod(shape[1:]) == each
