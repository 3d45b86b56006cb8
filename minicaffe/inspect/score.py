"""Scoring a net on its test data, as ``caffe test`` does: each batch's outputs, then the means."""

from __future__ import annotations

import logging

from minicaffe.array import to_host
from minicaffe.net import Net
from minicaffe.scoring import Score, score

logger = logging.getLogger("minicaffe")


def show_score(net: Net, batches: int) -> Score:
    """Score a net over ``batches`` batches, and log its single-number outputs and its loss."""

    def show(batch: int) -> bool:
        for name in net.outputs:
            if net.blobs[name].count == 1:
                logger.info("Batch %d, %s = %.6g", batch, name, to_host(net.blobs[name].data).item())
        return True

    result = score(net, batches, show)
    logger.info("Loss: %.6g", result.loss)
    for name, mean in result.outputs.items():
        if mean.size == 1:
            logger.info("%s = %.6g", name, mean.item())
    return result
