"""Scoring a net on its test data, as ``caffe test`` does."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from minicaffe.array import to_host
from minicaffe.net import Net

logger = logging.getLogger("minicaffe")


def test_net(net: Net, iterations: int) -> dict[str, np.ndarray]:
    """Run ``iterations`` batches; log each batch's outputs and the means; return the means by name."""
    sums: dict[str, Any] = {}
    loss = 0.0
    for batch in range(iterations):
        net.run_forward()
        loss += float(net.loss())
        for name in net.outputs:
            value = to_host(net.blobs[name].data)
            sums[name] = sums.get(name, 0) + value
            if value.size == 1:
                logger.info("Batch %d, %s = %.6g", batch, name, float(value))
    means = {name: total / iterations for name, total in sums.items()}
    logger.info("Loss: %.6g", loss / iterations)
    for name, mean in means.items():
        if mean.size == 1:
            logger.info("%s = %.6g", name, float(mean))
    return means


test_net.__test__ = False  # its name is not a promise for pytest
