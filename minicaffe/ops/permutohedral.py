"""A Gaussian filter over points of d dimensions, by a lattice whose cells are simplices.

    out_i ≈ s · Σ_j exp(−|f_i − f_j|² / 2) · in_j, with a factor s that is nearly the same everywhere

The points f_i are put into the plane Σ = 0 of d + 1 dimensions, where the permutohedral lattice lies. There

1. splat: each point gives its value to the d + 1 corners of its simplex, in shares b_k that sum to 1;
2. blur: along each of the d + 1 axes of the lattice, v ← v + (v of one neighbour + v of the other) / 2;
3. slice: each point takes Σ_k b_k · v of its corners, times 1 / (1 + 2^−d).

A corner that no point has splat to is no part of the lattice: what is blurred there is lost. So a filter of ones is
not constant, and who filters divides by it. The filter is linear, and its transpose blurs the axes in the opposite
order.

Of values of 0 … 1, a filter divided by that of ones is within 0.06 of the mean under the Gaussian, and within 0.006
on average, for the widths that CRF-RNN uses (tests/ops/test_ops_permutohedral.py measures it).

Adams, Baek and Davis 2010 (Fast high-dimensional filtering using the permutohedral lattice), whose scaling of the
points makes the three steps together as wide as a Gaussian of standard deviation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicaffe.device.array import Array, Device, module_of
from minicaffe.errors import DataError

MOST_CODES = 1 << 62  # of lattice points: a code is one number, an int64
FARTHEST = 10_000  # the forks count corners with 16 bits, which are as many


@dataclass(frozen=True)
class Lattice:
    """The corners of P points and their neighbours, for a lattice of M corners in d dimensions.

    ``corners`` (d + 1, P) are numbers below M, ``shares`` (d + 1, P). ``neighbours`` (d + 1, 2, M) are the corners
    before and after each one along each axis; M stands for one that is not there.
    """

    corners: Array
    shares: Array
    neighbours: Array

    def filtered(self, values: Array, *, transposed: bool = False) -> Array:
        """The filter of values (C, P), or its transpose."""
        xp = module_of(values)
        axes, _, size = self.neighbours.shape
        places = self.corners.reshape(-1)
        # a row for each corner, as rows are looked up below; the last stands for corners that are not there
        blurred = xp.zeros((size + 1, len(values)), values.dtype)
        for channel, value in enumerate(values):
            blurred[:size, channel] = xp.bincount(places, (self.shares * value).reshape(-1), size)
        for axis in reversed(range(axes)) if transposed else range(axes):
            before, after = self.neighbours[axis]
            beside = blurred[before]
            beside += blurred[after]
            beside /= 2
            blurred[:size] += beside
        out = xp.zeros(values.shape[::-1], values.dtype)
        for corners, shares in zip(self.corners, self.shares, strict=True):
            out += shares[:, None] * blurred[corners]
        out *= 1 / (1 + 2.0 ** (1 - axes))
        turned: Array = out.T
        return turned


def lattice_of(features: Array, device: Device) -> Lattice:
    """The lattice of points (P, d), which are on the host; the lattice is on ``device``.

    Raises DataError where points are too far apart to be told apart by one number.
    """
    dims, farthest = features.shape[1], float(np.abs(features).max(initial=0))
    if not farthest <= FARTHEST:  # nan too
        raise DataError(
            f"points of a filter are up to {farthest:g} of its widths away; {FARTHEST} are the most"
        )
    corners, shares = _simplices(features)  # (d + 1, P, d) and (d + 1, P)
    lowest = corners.min(axis=(0, 1)) - (dims + 1)
    sizes = corners.max(axis=(0, 1)) + (dims + 2) - lowest
    if np.prod(sizes.astype(float)) > MOST_CODES:
        raise DataError(
            f"points of a filter are up to {farthest:g} of its widths away, in too many directions"
        )
    radix = np.concatenate([[1], np.cumprod(sizes[:-1])]).astype(np.int64)
    codes, places = np.unique((corners - lowest) @ radix, return_inverse=True)
    steps = [
        -radix.sum() + (dims + 1) * by for by in (*radix, 0)
    ]  # along each axis, as a difference of codes
    neighbours = np.array([[_places_of(codes + step * sign, codes) for sign in (1, -1)] for step in steps])
    arrays = (places.reshape(corners.shape[:2]), shares, neighbours)
    return Lattice(*(device.put(np.ascontiguousarray(a)) for a in arrays))


def _simplices(features: Array) -> tuple[Array, Array]:
    """The corners of each point's simplex, without their last coordinate, and the point's shares of them."""
    points, dims = features.shape
    axes = dims + 1
    scales = np.array([axes * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2)) for i in range(dims)])
    scaled = features * scales.astype(features.dtype)
    raised = np.zeros((points, axes), features.dtype)  # in the plane: the sum of a row is 0
    for i in range(dims, 0, -1):
        raised[:, i] = raised[:, 0] - i * scaled[:, i - 1]
        raised[:, 0] += scaled[:, i - 1]
    nearest = np.rint(raised / axes)
    excess = nearest.sum(axis=1).astype(np.int64)  # how far the rounded point is off the plane
    rest = raised - nearest * axes
    # the place of each coordinate when sorted by its rest, the largest first; of equal ones the first comes first
    rank = np.empty((points, axes), np.int64)
    np.put_along_axis(rank, np.argsort(-rest, axis=1, kind="stable"), np.arange(axes)[None], axis=1)
    rank += excess[:, None]
    turns = (rank < 0).astype(np.int64) - (rank >= axes)  # back into the plane, by the nearest ones
    rank += turns * axes
    origin = nearest.astype(np.int64) + turns
    rest = (raised / axes - origin).astype(features.dtype)
    shares = np.zeros((points, axes + 1), features.dtype)
    rows = np.arange(points)
    for i in range(axes):
        shares[rows, dims - rank[:, i]] += rest[:, i]
        shares[rows, dims - rank[:, i] + 1] -= rest[:, i]
    shares[:, 0] += 1 + shares[:, axes]
    steps = np.arange(axes)[
        :, None, None
    ]  # the corner with remainder k is k further, less axes where rank > dims − k
    corners = origin[:, :dims] * axes + steps - axes * (rank[:, :dims] > dims - steps)
    return corners, np.ascontiguousarray(shares[:, :axes].T)


def _places_of(wanted: Array, codes: Array) -> Array:
    """Where numbers stand in a sorted array; its length for those that do not."""
    places = np.searchsorted(codes, wanted)
    found = codes[np.minimum(places, len(codes) - 1)] == wanted
    return np.where(found, places, len(codes))
