"""The data matrix on a GPU: kernels that copy a block of its columns, and add a block's gradients to the pixels."""

from __future__ import annotations

from minicaffe.device.array import Array
from minicaffe.device.kernel import kernels_beside
from minicaffe.ops.convolution.blocks import Block
from minicaffe.ops.convolution.geometry import Geometry

KERNELS = kernels_beside(__file__)


def copy_columns(padded: Array, geometry: Geometry, block: Block, out: Array) -> None:
    """Write a block's columns of X into ``out`` (C, kh, kw, rows, cols, images)."""
    window = geometry.window
    KERNELS["copy_columns"](
        out.size, padded, out, *geometry.padded, geometry.batch, *window.kernel, *window.stride, *window.dilation,
        *_bounds(block, geometry),
    )  # fmt: skip


def add_columns(columns: Array, geometry: Geometry, block: Block, x: Array) -> None:
    """Add a block's columns to the pixels of x (C, H, W, N) that they came from."""
    window, (height, width) = geometry.window, geometry.image
    bounds = _bounds(block, geometry)
    row, rows = bounds[:2]
    first = row * window.stride[0] - window.pad[0]  # the lines of x that the windows reach
    last = first + (rows - 1) * window.stride[0] + window.extent[0]
    line = min(max(first, 0), height)
    lines = min(max(last, line), height) - line
    KERNELS["add_columns"](
        geometry.channels * lines * width * bounds[-1], columns, x, height, width, geometry.batch, *window.kernel,
        *window.stride, *window.dilation, *window.pad, *bounds, line, lines,
    )  # fmt: skip


def _bounds(block: Block, geometry: Geometry) -> list[int]:
    """The block's first row and number of rows; the same for its columns and images."""
    sizes = (*geometry.output, geometry.batch)
    spans = [
        s.indices(size)[:2] for s, size in zip((block.rows, block.cols, block.batch), sizes, strict=True)
    ]
    return [number for start, stop in spans for number in (start, stop - start)]
