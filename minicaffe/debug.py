"""debug_info: the mean magnitude of every blob and gradient as it is computed, as Caffe prints it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from minicaffe.array import Array
from minicaffe.layer import Blobs, Layer

logger = logging.getLogger("minicaffe")


def _mean_magnitude(array: Array) -> float:
    return float(abs(array).mean()) if array.size else 0.0


def show_forward(layer: Layer, top: Blobs) -> None:
    """One line for each top and each parameter of a layer that ran forward."""
    for name, blob in zip(layer.spec.top, top, strict=True):
        logger.info(
            "    [Forward] Layer %s, top blob %s data: %.6g", layer.name, name, _mean_magnitude(blob.stored)
        )
    for i, blob in enumerate(layer.blobs):
        logger.info(
            "    [Forward] Layer %s, param blob %d data: %.6g", layer.name, i, _mean_magnitude(blob.stored)
        )


def show_backward(layer: Layer, propagate_down: Sequence[bool], bottom: Blobs) -> None:
    """One line for each gradient that a layer computed."""
    for name, wanted, blob in zip(layer.spec.bottom, propagate_down, bottom, strict=True):
        if wanted:
            size = _mean_magnitude(blob.stored_diff)
            logger.info("    [Backward] Layer %s, bottom blob %s diff: %.6g", layer.name, name, size)
    for i, (wanted, blob) in enumerate(zip(layer.param_propagate_down, layer.blobs, strict=True)):
        if wanted:
            size = _mean_magnitude(blob.stored_diff)
            logger.info("    [Backward] Layer %s, param blob %d diff: %.6g", layer.name, i, size)
