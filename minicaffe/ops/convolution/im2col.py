"""im2col and col2im on batch-last arrays: a convolution as one matrix product.

Names used in this room: input x (C, H, W, N), filters w (M, C/g, kh, kw) in g groups, output y (M, OH, OW, N),
K = C·kh·kw rows and P = OH·OW·N columns of the data matrix X. Stride s, pad p, dilation d, each for h and w.

    X[(c, i, j), (oh, ow, n)] = x[c, oh·s_h − p_h + i·d_h, ow·s_w − p_w + j·d_w, n],   zero outside the image
    y = w · X

``im2col`` and ``col2im`` build X and its adjoint whole: the reference for ``dense.py``, which does the
same by blocks. For a block of outputs (some rows, columns and images) ``copy_columns`` makes X on a GPU, and
``add_columns`` adds to the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicaffe.device.array import Array, module_of
from minicaffe.device.kernel import Kernel


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image: sizes as (height, width) pairs."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def extent(self) -> tuple[int, int]:
        """The rows and columns that the dilated kernel covers: d·(k − 1) + 1."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def output_size(self, image: tuple[int, int]) -> tuple[int, int]:
        """(OH, OW) for an (H, W) image: floor((H + 2p − extent) / s) + 1; not positive where nothing fits."""
        return tuple(
            (size + 2 * p - e) // s + 1
            for size, p, e, s in zip(image, self.pad, self.extent, self.stride, strict=True)
        )


def windows(x: Array, window: Window, output: tuple[int, int]) -> Array:
    """A view (C, kh, kw, OH, OW, N) of an already padded image x (C, H, W, N): its data matrix, not copied."""
    xp = module_of(x)
    channels, _, _, batch = x.shape
    c, h, w, n = x.strides
    (dh, dw), (sh, sw) = window.dilation, window.stride
    return xp.lib.stride_tricks.as_strided(
        x,
        (channels, *window.kernel, *output, batch),
        (c, dh * h, dw * w, sh * h, sw * w, n),
    )


def pad_image(x: Array, pad: tuple[int, int]) -> Array:
    """x (C, H, W, N) with ``pad`` zero rows and columns on each side."""
    return module_of(x).pad(x, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))


def im2col(x: Array, window: Window) -> Array:
    """The data matrix X (K, P) of x (C, H, W, N)."""
    view = windows(pad_image(x, window.pad), window, window.output_size(x.shape[1:3]))
    return view.reshape(view.shape[0] * view.shape[1] * view.shape[2], -1)


def col2im(columns: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of ``im2col``: each entry of (K, P) is added to the pixel of ``shape`` that it came from."""
    xp = module_of(columns)
    channels, height, width, batch = shape
    (kh, kw), (ph, pw), output = window.kernel, window.pad, window.output_size(shape[1:3])
    padded = xp.zeros((channels, height + 2 * ph, width + 2 * pw, batch), columns.dtype)
    target = windows(padded, window, output)
    columns = columns.reshape(target.shape)
    for i in range(kh):
        for j in range(kw):
            target[:, i, j] += columns[:, i, j]
    return padded[:, ph : ph + height, pw : pw + width]


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

Part = tuple[slice, slice, slice]  # of the outputs: rows, columns, images


def copy_columns(padded: Array, window: Window, output: tuple[int, int], part: Part, out: Array) -> None:
    """Write X's columns of a part of the outputs into ``out`` (C, kh, kw, rows, cols, images). On a GPU."""
    _, height, width, batch = padded.shape
    COPY_COLUMNS(
        out.size, padded, out, height, width, batch, *window.kernel, *window.stride, *window.dilation,
        *_bounds(part, output, batch),
    )  # fmt: skip


def add_columns(columns: Array, window: Window, output: tuple[int, int], part: Part, x: Array) -> None:
    """Add such columns to the pixels of x (C, H, W, N) that they came from. On a GPU."""
    channels, height, width, batch = x.shape
    bounds = _bounds(part, output, batch)
    row, rows = bounds[:2]
    first = row * window.stride[0] - window.pad[0]  # the lines of x that the windows reach
    last = first + (rows - 1) * window.stride[0] + window.extent[0]
    line = min(max(first, 0), height)
    lines = min(max(last, line), height) - line
    ADD_COLUMNS(
        channels * lines * width * bounds[-1], columns, x, height, width, batch, *window.kernel, *window.stride,
        *window.pad, *window.dilation, *bounds, line, lines,
    )  # fmt: skip


def _bounds(part: Part, output: tuple[int, int], batch: int) -> list[int]:
    """First row and number of rows, and so on."""
    spans = [s.indices(size)[:2] for s, size in zip(part, (*output, batch), strict=True)]
    return [number for start, stop in spans for number in (start, stop - start)]
