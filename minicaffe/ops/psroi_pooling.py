"""Position-sensitive pooling of regions: x (D · G · G, H, W, N), regions (R, 5) -> y (D, G, G, R), means of bins.

A region (image, x1, y1, x2, y2) is rounded to pixels of the net's input, corners included, and multiplied by a
scale; it is at least 0.1 wide and high, and may reach beyond the image. It is cut into G × G bins, whose edges are
rounded outward, so they may overlap:

    first = round(y1) · scale,  h = max((round(y2) + 1) · scale − first, 0.1)
    rows of bin i: ⌊i · h / G + first⌋ … ⌈(i + 1) · h / G + first⌉ − 1, clipped to the image;   columns alike

Bin (i, j) of output d is the mean of channel (d · G + i) · G + j over the bin, or 0 if the bin is outside the
image.

The sum over a bin is taken from four corners of the channel's integral image, S[h, w] = Σ x above row h and left
of column w, whose numbers are float64, so that their differences are exact enough:

    y = (S[h1, w1] − S[h0, w1] − S[h1, w0] + S[h0, w0]) / area

Backward writes dy / area at the four corners, with the same signs; a sum over all rows and columns before a
pixel then spreads it over the bin. So each region costs the same whatever its size, on a CPU and on a GPU. A
pixel that is nan or infinite spoils all bins after it in its channel, whether they contain it or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.ops.roi_pooling import check_images
from minicaffe.ops.rounding import round_half_away


@dataclass(frozen=True)
class Bins:
    """``corners``: pairs of a sign and flat places in an integral image (H + 1, W + 1, N), each (G, G, R).

    ``share``: 1 / area of each bin, (G, G, R), or 0 where it is empty.
    """

    corners: list[tuple[int, Array]]
    share: Array


def bins_of(regions: Array, scale: float, group: int, shape: tuple[int, ...]) -> Bins:
    """The bins of regions (5, R) on maps of ``shape`` (C, H, W, N).

    Raises DataError for an image number beyond the batch (on a CPU; on a GPU, where checking would have to wait for
    the device, such a region's outputs are 0).
    """
    xp, (height, width, batch) = module_of(regions), shape[1:]
    if on_cpu(regions):
        check_images(regions[0], batch)
    rows = _edges(regions[2], regions[4], scale, group, height)
    cols = _edges(regions[1], regions[3], scale, group, width)
    image = xp.trunc(regions[0]).astype(np.int64)
    area = (rows[1] - rows[0])[:, None] * (cols[1] - cols[0])
    is_there = (area > 0) & (image >= 0) & (image < batch)
    image = xp.clip(image, 0, batch - 1)
    corners = [
        ((-1) ** (i + j), (rows[i][:, None] * (width + 1) + cols[j]) * batch + image)
        for i in (0, 1)
        for j in (0, 1)
    ]
    return Bins(corners, is_there / xp.maximum(area, 1))


def _edges(first: Array, last: Array, scale: float, group: int, length: int) -> tuple[Array, Array]:
    """Start and end (exclusive) of each bin along one axis of ``length`` pixels, each (G, R).

    In the regions' own number type, as the fork computes them, so that rounding falls alike.
    """
    xp, number_type = module_of(first), first.dtype.type
    low = round_half_away(first).astype(first.dtype) * number_type(scale)
    high = (round_half_away(last) + 1).astype(first.dtype) * number_type(scale)
    size = xp.maximum(high - low, number_type(0.1)) / number_type(group)
    number = xp.arange(group + 1, dtype=first.dtype)[:, None]
    start, end = xp.floor(number[:-1] * size + low), xp.ceil(number[1:] * size + low)
    return xp.clip(start, 0, length).astype(np.int64), xp.clip(end, 0, length).astype(np.int64)


def psroi_pool(x: Array, bins: Bins, out: Array) -> None:
    """Write the means of the bins into ``out`` (D, G, G, R)."""
    integral = _integral_image(x).reshape(-1)
    channel = _first_places(x, out)
    total = sum(sign * integral[channel + place] for sign, place in bins.corners)
    out[...] = total * bins.share


def psroi_pool_grad(dy: Array, bins: Bins, out: Array) -> None:
    """dx (C, H, W, N): each dy is spread evenly over the pixels of its bin."""
    xp, (channels, height, width, batch) = module_of(dy), out.shape
    corners = xp.zeros((channels, height + 1, width + 1, batch))
    channel, each = _first_places(out, dy), dy * bins.share
    for sign, place in bins.corners:
        xp.add.at(corners.reshape(-1), (channel + place).reshape(-1), (sign * each).reshape(-1))
    xp.cumsum(corners, axis=1, out=corners)
    xp.cumsum(corners, axis=2, out=corners)
    out[...] = corners[:, :-1, :-1]


def _integral_image(x: Array) -> Array:
    """S (C, H + 1, W + 1, N), float64."""
    xp, (channels, height, width, batch) = module_of(x), x.shape
    integral: Array = xp.zeros((channels, height + 1, width + 1, batch))
    inner = integral[:, 1:, 1:]
    inner[...] = x
    xp.cumsum(inner, axis=1, out=inner)
    xp.cumsum(inner, axis=2, out=inner)
    return integral


def _first_places(x: Array, y: Array) -> Array:
    """Where in the flat integral image of x (C, H, W, N) the channel of each output begins: (D, G, G, 1)."""
    xp, (channels, height, width, batch) = module_of(x), x.shape
    first = xp.arange(channels) * ((height + 1) * (width + 1) * batch)
    places: Array = first.reshape(*y.shape[:3], 1)
    return places
