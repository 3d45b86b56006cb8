"""Max-pooling of regions of interest: x (C, H, W, N), regions (R, 5) -> y (C, PH, PW, R).

A region (image, x1, y1, x2, y2), times a scale and rounded, is a part of one image, corners included, at least one
pixel wide and high, and may reach beyond the image. It is cut into PH × PW bins, whose edges are rounded outward,
so they may overlap:

    rows of bin p: y1 + ⌊p · h / PH⌋ … y1 + ⌈(p + 1) · h / PH⌉ − 1, clipped to the image;   columns alike

y is the maximum in the bin, or 0 if the bin is outside the image; its position, h · W + w or −1, is kept for
backward.

On a CPU a pixel is a row of C channels, and the k-th pixels of all bins that have so many are taken at once, for k
from 0 on: as many rows are read as the bins have pixels. On a GPU a thread has one output, and backward adds at the
kept positions.
"""

from __future__ import annotations

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.errors import DataError
from minicaffe.ops.rounding import round_half_away

CHUNK_BYTES = 1 << 18  # of maxima, for bins that are compared with their pixels together
KERNELS = kernels_beside(__file__)


def max_roi_pool(x: Array, regions: Array, scale: float, out: Array, argmax: Array) -> None:
    """Write the maxima into ``out`` and their positions into ``argmax`` (int32), both (C, PH, PW, R).

    ``regions`` is (5, R), batch last. Raises DataError for an image number beyond the batch (on a CPU; on a GPU,
    where checking would have to wait for the device, such a region's outputs are 0).
    """
    if not on_cpu(x):
        _, pooled_h, pooled_w, amount = out.shape
        KERNELS["max_roi_pool"](
            out.size, x, regions, out, argmax, *x.shape[1:], pooled_h, pooled_w, amount, float(scale),
            Place=np.int32,
        )  # fmt: skip
        return
    check_images(regions[0], x.shape[3])
    rows, cols = (
        bin_edges(regions[axis], regions[axis + 2], scale, out.shape[3 - axis], x.shape[3 - axis])
        for axis in (2, 1)
    )
    _pool_rows(x, regions[0].astype(np.int64), rows, cols, out, argmax)


def check_images(images: np.ndarray, batch: int) -> None:
    """Raise DataError unless all are numbers of images."""
    if images.size and not (images.min() >= 0 and images.max() < batch):
        raise DataError(f"regions of images {images.min():g} to {images.max():g}, but the batch has {batch}")


def bin_edges(
    first: np.ndarray, last: np.ndarray, scale: float, bins: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (exclusive) of each bin along one axis of ``length`` pixels, each (bins, R).

    In the regions' own number type, as Caffe computes them, so that rounding falls alike.
    """
    scale = first.dtype.type(scale)
    low, high = round_half_away(first * scale), round_half_away(last * scale)
    size = np.maximum(high - low + 1, 1).astype(first.dtype) / first.dtype.type(bins)
    number = np.arange(bins + 1, dtype=first.dtype)[:, None]
    start = np.floor(number[:-1] * size).astype(np.int64) + low
    end = np.ceil(number[1:] * size).astype(np.int64) + low
    return start.clip(0, length), end.clip(0, length)


Edges = tuple[np.ndarray, np.ndarray]


def _pool_rows(
    x: np.ndarray, images: np.ndarray, rows: Edges, cols: Edges, out: np.ndarray, argmax: np.ndarray
) -> None:
    """The maxima of the bins, from their edges (PH, R) and (PW, R) and the regions' images (R,)."""
    channels, _, width, batch = x.shape
    pixels = np.ascontiguousarray(x.reshape(channels, -1).T)  # (H·W·N, C)
    tall, wide = (np.maximum(end - start, 0) for start, end in (rows, cols))
    grid = out.shape[1:]
    area = (tall[:, None] * wide[None]).reshape(-1)
    order = np.argsort(-area, kind="stable")  # large bins first: those that have a k-th pixel lie together
    first, wide, images = (
        np.broadcast_to(values, grid).reshape(-1)[order]
        for values in (rows[0][:, None] * width + cols[0], np.maximum(wide, 1), images)
    )
    area = area[order]
    best, where = np.zeros((area.size, channels), x.dtype), np.full((area.size, channels), -1, argmax.dtype)

    def pool(chunk: slice, worker: int) -> None:
        for k in range(area[chunk.start]):
            own = slice(chunk.start, chunk.start + int(np.count_nonzero(area[chunk] > k)))
            place = first[own] + k // wide[own] * width + k % wide[own]
            values = pixels[place * batch + images[own]]
            greater = values > best[own] if k else np.ones(values.shape, bool)
            np.copyto(best[own], values, where=greater)
            np.copyto(where[own], place[:, None].astype(where.dtype), where=greater)

    step = max(1, CHUNK_BYTES // (x.itemsize * channels))
    chunks = [slice(start, start + step) for start in range(0, area.size, step)]
    workers.share(pool, chunks, workers.worker_count)
    out.reshape(channels, -1)[:, order] = best.T
    argmax.reshape(channels, -1)[:, order] = where.T


def max_roi_pool_grad(dy: Array, argmax: Array, regions: Array, out: Array) -> None:
    """dx (C, H, W, N): each dy is added to the pixel that was the maximum of its bin."""
    xp, (channels, height, width, batch) = module_of(dy), out.shape
    images = xp.clip(regions[0].astype(xp.int64), 0, batch - 1)
    channel = xp.arange(channels).reshape(-1, 1, 1, 1)
    index = (channel * (height * width) + xp.maximum(argmax, 0)) * batch + images
    out.fill(0)
    xp.add.at(out.reshape(-1), index.reshape(-1), (dy * (argmax >= 0)).reshape(-1))
