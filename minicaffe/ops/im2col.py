"""im2col and col2im on batch-last arrays: a convolution as one matrix product.

Names used in this room: input x (C, H, W, N), filters w (M, C/g, kh, kw) in g groups, output y (M, OH, OW, N),
K = C·kh·kw rows and P = OH·OW·N columns of the data matrix X. Stride s, pad p, dilation d, each for h and w.

    X[(c, i, j), (oh, ow, n)] = x[c, oh·s_h − p_h + i·d_h, ow·s_w − p_w + j·d_w, n],   zero outside the image
    y = w · X

``im2col`` and ``col2im`` build X and its adjoint whole: the reference for ``convolution.py``, which does the
same by blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicaffe.array import Array, module_of


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
