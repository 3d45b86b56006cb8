"""Rectangles that many others resemble, as OpenCV's ``groupRectangles`` finds them.

Two rectangles are similar if each of their edges is within ε · (the lesser width + the lesser height) / 2 of the
other's. A group is all that similar ones lead to from one to the next; its mean, rounded, stands for it. Groups of
``least`` or fewer are left out, as are those whose mean lies within another's, or ε beyond it, and that are of less
than 3, or of fewer than the other.
"""

from __future__ import annotations

import numpy as np

from minicaffe.ops.detection import Array


def group_rectangles(rectangles: Array, least: int, epsilon: float) -> tuple[Array, Array]:
    """(means (G, 4), sizes of their groups (G,)) of whole numbers x, y, width, height (P, 4), in order.

    With ``least`` 0 each is a group.
    """
    if least <= 0 or not len(rectangles):
        return rectangles, np.ones(len(rectangles), np.int64)
    labels = _groups(_similar(rectangles, epsilon))
    sizes = np.bincount(labels)
    sums = np.stack([np.bincount(labels, weights=side) for side in rectangles.T], axis=1)
    share = np.float32(1) / sizes.astype(np.float32)
    means = np.rint(sums.astype(np.float32) * share[:, None]).astype(np.int64)
    means, sizes = means[sizes > least], sizes[sizes > least]
    keeps = ~_lies_in_another(means, sizes, epsilon)
    return means[keeps], sizes[keeps]


def _edges(rectangles: Array) -> Array:
    """Left, top, right and bottom: (P, 4)."""
    return np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)


def _similar(rectangles: Array, epsilon: float) -> Array:
    """(P, P): whether two rectangles are similar."""
    edges, sides = _edges(rectangles), rectangles[:, 2:]
    distance = epsilon * np.minimum(sides[:, None], sides).sum(axis=2) * 0.5
    found: Array = (np.abs(edges[:, None] - edges) <= distance[:, :, None]).all(axis=2)
    return found


def _groups(similar: Array) -> Array:
    """The group (P,) of each, numbered in the order of their first members."""
    first = np.arange(len(similar))
    while True:
        reached = np.where(similar, first, len(first)).min(axis=1)
        if (reached == first).all():
            return np.unique(first, return_inverse=True)[1]
        first = reached


def _lies_in_another(means: Array, sizes: Array, epsilon: float) -> Array:
    """(G,): whether a mean lies within another's, and has too few members to stay."""
    edges, slack = _edges(means), np.rint(means[:, 2:] * epsilon)
    lies = (edges[:, None, :2] >= edges[:, :2] - slack) & (edges[:, None, 2:] <= edges[:, 2:] + slack)
    is_small = (sizes > sizes[:, None]) | (sizes[:, None] < 3)
    is_other = ~np.eye(len(means), dtype=bool)
    found: Array = np.any(lies.all(axis=2) & is_small & is_other, axis=1)
    return found
