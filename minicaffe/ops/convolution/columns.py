"""The data matrix on a GPU: kernels that copy a block of its columns, and that gather gradients out of one."""

from __future__ import annotations

from minicaffe.device.array import Array
from minicaffe.device.kernel import Kernel
from minicaffe.ops.convolution.blocks import Block
from minicaffe.ops.convolution.geometry import Geometry

COPY_COLUMNS = Kernel("copy_columns", """
KERNEL copy_columns(Index count, const T* x, T* columns, Index height, Index width, Index batch,
                    Index kernel_h, Index kernel_w, Index stride_h, Index stride_w,
                    Index dilation_h, Index dilation_w,
                    Index row, Index rows, Index col, Index cols, Index image, Index images)
{
    EACH(i) {  // (c, ki, kj, r, q, n): one thread for each entry of X
        Index n = i % images, rest = i / images;
        Index q = rest % cols;
        rest /= cols;
        Index r = rest % rows;
        rest /= rows;
        Index kj = rest % kernel_w;
        rest /= kernel_w;
        Index ki = rest % kernel_h, c = rest / kernel_h;
        Index h = (row + r) * stride_h + ki * dilation_h, w = (col + q) * stride_w + kj * dilation_w;
        columns[i] = x[((c * height + h) * width + w) * batch + image + n];
    }
}
""")  # fmt: skip

ADD_COLUMNS = Kernel("add_columns", """
KERNEL add_columns(Index count, const T* columns, T* x, Index height, Index width, Index batch,
                   Index kernel_h, Index kernel_w, Index stride_h, Index stride_w, Index pad_h, Index pad_w,
                   Index dilation_h, Index dilation_w,
                   Index row, Index rows, Index col, Index cols, Index image, Index images,
                   Index line, Index lines)
{
    EACH(i) {  // (c, h, w, n): one thread for each pixel of some lines, which gathers its entries of X
        Index n = i % images, rest = i / images;
        Index w = rest % width;
        rest /= width;
        Index h = line + rest % lines, c = rest / lines;
        T sum = 0;
        for (Index ki = 0; ki < kernel_h; ki++) {
            Index above = h + pad_h - ki * dilation_h - row * stride_h, r = above / stride_h;
            if (above < 0 || r * stride_h != above || r >= rows) continue;
            for (Index kj = 0; kj < kernel_w; kj++) {
                Index left = w + pad_w - kj * dilation_w - col * stride_w, q = left / stride_w;
                if (left < 0 || q * stride_w != left || q >= cols) continue;
                sum += columns[((((c * kernel_h + ki) * kernel_w + kj) * rows + r) * cols + q) * images + n];
            }
        }
        x[((c * height + h) * width + w) * batch + image + n] += sum;
    }
}
""")  # fmt: skip


def copy_columns(padded: Array, geometry: Geometry, block: Block, out: Array) -> None:
    """Write a block's columns of X into ``out`` (C, kh, kw, rows, cols, images)."""
    window = geometry.window
    COPY_COLUMNS(
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
    ADD_COLUMNS(
        geometry.channels * lines * width * bounds[-1], columns, x, height, width, geometry.batch, *window.kernel,
        *window.stride, *window.pad, *window.dilation, *bounds, line, lines,
    )  # fmt: skip


def _bounds(block: Block, geometry: Geometry) -> list[int]:
    """Of the block's rows, columns and images: the first, and how many there are."""
    sizes = (*geometry.output, geometry.batch)
    spans = [
        s.indices(size)[:2] for s, size in zip((block.rows, block.cols, block.batch), sizes, strict=True)
    ]
    return [number for start, stop in spans for number in (start, stop - start)]
