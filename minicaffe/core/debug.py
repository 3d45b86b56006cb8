"""debug_info: the mean magnitude of every blob and gradient as it is computed, as Caffe prints it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer
from minicaffe.core.learnable_param import LearnableParam
from minicaffe.device.array import Array

logger = logging.getLogger("minicaffe")


def _mean_magnitude(array: Array) -> float:
    return float(abs(array).mean()) if array.size else 0.0


def show_forward(layer: Layer, top: Blobs) -> None:
    """Log a line for each top and each parameter of a layer that ran forward; shared parameters by name."""
    for name, blob in zip(layer.spec.top, top, strict=True):
        logger.info(
            "    [Forward] Layer %s, top blob %s data: %.6g", layer.name, name, _mean_magnitude(blob.stored)
        )
    names = [param.name for param in layer.spec.param]
    for i, blob in enumerate(layer.blobs):
        shared = names[i] if i < len(names) else ""
        logger.info(
            "    [Forward] Layer %s, param blob %s data: %.6g",
            layer.name,
            shared or i,
            _mean_magnitude(blob.stored),
        )


def show_backward(layer: Layer, propagate_down: Sequence[bool], bottom: Blobs) -> None:
    """Log a line for each gradient that a layer computed."""
    for name, wanted, blob in zip(layer.spec.bottom, propagate_down, bottom, strict=True):
        if wanted:
            size = _mean_magnitude(blob.stored_diff)
            logger.info("    [Backward] Layer %s, bottom blob %s diff: %.6g", layer.name, name, size)
    for i, (wanted, blob) in enumerate(zip(layer.param_propagate_down, layer.blobs, strict=True)):
        if wanted:
            size = _mean_magnitude(blob.stored_diff)
            logger.info("    [Backward] Layer %s, param blob %d diff: %.6g", layer.name, i, size)


def show_norms(params: Sequence[LearnableParam]) -> None:
    """Log the norms of all parameters and gradients after a backward pass; shared ones count once."""
    blobs = [param.blob for param in params]
    sizes = [_norms(arrays) for arrays in ([b.stored for b in blobs], [b.stored_diff for b in blobs])]
    logger.info(
        "    [Backward] All net params (data, diff): L1 norm = (%.6g, %.6g); L2 norm = (%.6g, %.6g)",
        *(size[0] for size in sizes),
        *(size[1] for size in sizes),
    )


def _norms(arrays: Sequence[Array]) -> tuple[float, float]:
    squares = sum(float((array**2).sum()) for array in arrays)
    return sum(float(abs(array).sum()) for array in arrays), math.sqrt(squares)
