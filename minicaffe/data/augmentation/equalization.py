"""Grey levels spread over all of 0 … 255, in the whole image or from place to place, as OpenCV does it."""

from __future__ import annotations

import numpy as np

TILES = 8  # in both directions
CLIP_LIMIT = 4  # of SSD's Caffe


def equalized(plane: np.ndarray) -> np.ndarray:
    """A plane (H, W), uint8, in which every level is about as frequent (``equalizeHist``)."""
    counts = np.bincount(plane.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = plane.size - counts[first]
    if not rest:
        return plane
    counts[first] = 0
    levels = np.cumsum(counts).astype(np.float32) * (np.float32(255) / np.float32(rest))
    spread: np.ndarray = _bytes(levels)[plane]
    return spread


def equalized_by_place(plane: np.ndarray) -> np.ndarray:
    """The same for each of 8 × 8 tiles, with limited contrast, mixed between tiles (CLAHE; Zuiderveld 1994)."""
    tables, tile = _tables(plane)
    (top, bottom, down), (left, right, across) = map(_neighbours, plane.shape, tile)
    down, one = down[:, None], np.float32(1)

    def at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found: np.ndarray = tables[rows[:, None], columns, plane].astype(np.float32)
        return found

    upper = at(top, left) * (one - across) + at(top, right) * across
    lower = at(bottom, left) * (one - across) + at(bottom, right) * across
    return _bytes(upper * (one - down) + lower * down)


def _tables(plane: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """What each level becomes in each tile, (8, 8, 256), and the height and width of a tile."""
    rest = [side % TILES for side in plane.shape]
    if any(rest):
        plane = np.pad(plane, [(0, TILES - part) for part in rest], "reflect")
    height, width = (side // TILES for side in plane.shape)
    tiles = plane.reshape(TILES, height, TILES, width).transpose(0, 2, 1, 3).reshape(TILES**2, -1)
    counts = np.stack([np.bincount(tile, minlength=256) for tile in tiles])
    limit = max(int(CLIP_LIMIT * tiles.shape[1] / 256), 1)
    beyond = np.maximum(counts - limit, 0).sum(axis=1)
    counts = np.minimum(counts, limit) + (beyond // 256)[:, None]
    for own, left in zip(counts, beyond % 256, strict=True):
        if left:
            own[np.arange(0, 256, max(256 // left, 1))[:left]] += 1
    levels = np.cumsum(counts, axis=1).astype(np.float32) * (np.float32(255) / np.float32(tiles.shape[1]))
    return _bytes(levels).reshape(TILES, TILES, 256), (height, width)


def _neighbours(side: int, tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``side`` pixels the tiles before and after it, and how near it is to the second, 0 … 1."""
    position = np.arange(side, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    first = np.floor(position)
    number = first.astype(np.int64)
    return np.maximum(number, 0), np.minimum(number + 1, TILES - 1), position - first


def _bytes(levels: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.rint(levels).clip(0, 255).astype(np.uint8)
    return rounded
