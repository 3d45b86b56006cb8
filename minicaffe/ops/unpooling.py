"""Unpooling on batch-last arrays: x (C, H, W, N) and the places of its pixels -> y (C, UH, UW, N), else 0.

    y[c, mask[c, h, w, n], n] = x[c, h, w, n]        dx[c, h, w, n] = dy[c, mask[c, h, w, n], n]

A place is h · UW + w, within the channel of an image: what Pooling's second top has (``pooling.flat_positions``).
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import Array, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import channelwise
from minicaffe.errors import DataError

KERNELS = kernels_beside(__file__)


def unpool(x: Array, mask: Array, out: Array) -> None:
    """Write y. Raises DataError for a place that y does not have (on a GPU it is left out)."""
    if not on_cpu(x):
        out.fill(0)
        KERNELS["unpool"](x.size, x, mask, out, *_sizes(x, out))
        return
    places = out.shape[1] * out.shape[2]
    if mask.size and not (mask.min() >= 0 and mask.max() < places):
        raise DataError(
            f"the mask has places from {mask.min():g} to {mask.max():g}, but a top of {out.shape[1:3]} has only "
            f"0 to {places - 1}"
        )

    def put(x: Array, mask: Array, y: Array) -> None:
        y.fill(0)
        y.reshape(-1)[_indices(mask, places)] = x

    channelwise(put, x, mask, out)


def unpool_grad(dy: Array, mask: Array, out: Array) -> None:
    """Write dx."""
    if not on_cpu(dy):
        KERNELS["unpool_grad"](out.size, dy, mask, out, *_sizes(out, dy))
        return
    places = dy.shape[1] * dy.shape[2]

    def take(mask: Array, dy: Array, dx: Array) -> None:
        np.take(dy.reshape(-1), _indices(mask, places), out=dx, mode="clip")  # "raise" would copy dx

    channelwise(take, mask, dy, out)


def _indices(mask: Array, places: int) -> Array:
    """The places as indices into all of y."""
    channels, *_, batch = mask.shape
    found = mask.astype(np.int64)
    found += places * np.arange(channels)[:, None, None, None]
    found *= batch
    found += np.arange(batch)
    return found


def _sizes(x: Array, y: Array) -> tuple[int, ...]:
    """The sizes that the kernels take: the pixels of a channel of x and of y, and the batch."""
    return x.shape[1] * x.shape[2], y.shape[1] * y.shape[2], x.shape[3]
