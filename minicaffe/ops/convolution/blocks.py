"""Cutting the columns of a data matrix into blocks that fit a cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from minicaffe.device.workers import cut


@dataclass(frozen=True)
class Block:
    """Consecutive columns of X: some output rows, output columns and images, of which at most one is cut."""

    rows: slice
    cols: slice
    batch: slice
    columns: slice


def cut_columns(output: tuple[int, ...], batch: int, limit: int, sharers: int = 1) -> Iterator[Block]:
    """Cut the OH·OW·N columns into blocks of at most ``limit`` (at least one image at one position).

    The blocks are for ``sharers`` workers, who take them in turns: where possible, all get the same number.
    """
    height, width = output
    whole = slice(None)
    if not batch:
        return
    if width * batch <= limit:
        for rows in _cut(height, limit // (width * batch), sharers):
            yield Block(rows, whole, whole, slice(rows.start * width * batch, rows.stop * width * batch))
        return
    for r in range(height):
        if batch <= limit:
            for cols in _cut(width, limit // batch, sharers):
                first, last = r * width + cols.start, r * width + cols.stop
                yield Block(slice(r, r + 1), cols, whole, slice(first * batch, last * batch))
            continue
        for c in range(width):
            base = (r * width + c) * batch
            for images in _cut(batch, limit, sharers):
                columns = slice(base + images.start, base + images.stop)
                yield Block(slice(r, r + 1), slice(c, c + 1), images, columns)


def with_ends(block: Block, output: tuple[int, ...]) -> Block:
    """The same block; where it takes all rows or columns, they are numbered."""
    rows, cols = (
        slice(*part.indices(size)[:2]) for part, size in zip((block.rows, block.cols), output, strict=True)
    )
    return replace(block, rows=rows, cols=cols)


def sizes_of(block: Block) -> tuple[int, int, int]:
    """The numbers of rows, columns and images of a block ``with_ends``."""
    rows, cols = (part.stop - part.start for part in (block.rows, block.cols))
    return rows, cols, (block.columns.stop - block.columns.start) // (rows * cols)


def _cut(length: int, most: int, sharers: int) -> list[slice]:
    """Cut a length into nearly equal parts of at most ``most``: as few as the sharers can share evenly."""
    parts = -(-length // most)
    if parts > 1:
        parts = min(length, -(-parts // sharers) * sharers)
    return cut(length, parts)
