"""Which pixels a window covers, and which windows cover a pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.ops.convolution.geometry import Window


def window_pixels(window: Window, axis: int, output: int, length: int) -> list[int]:
    """The pixels of the image, along one axis, in the window of an output."""
    start = output * window.stride[axis] - window.pad[axis]
    pixels = (start + k * window.dilation[axis] for k in range(window.kernel[axis]))
    return [pixel for pixel in pixels if 0 <= pixel < length]


def in_image(window: Window, image: Sequence[int], outputs: Sequence[int]) -> np.ndarray:
    """Of the windows (OH, OW) over an image (H, W): whether they cover a pixel, and do not lie in the padding."""
    rows, columns = (
        np.array([bool(window_pixels(window, axis, i, image[axis])) for i in range(outputs[axis])], bool)
        for axis in (0, 1)
    )
    return np.asarray(rows[:, None] & columns)


def windows_at(window: Window, axis: int, pixel: int, outputs: int) -> list[tuple[int, int]]:
    """The windows that a pixel lies in, along one axis: (place in the kernel, output), the outputs in order."""
    found = []
    for k in reversed(range(window.kernel[axis])):
        start = pixel + window.pad[axis] - k * window.dilation[axis]
        output, rest = divmod(start, window.stride[axis])
        if not rest and 0 <= output < outputs:
            found.append((k, output))
    return found


def largest_in_windows(maps: np.ndarray, window: Window, outputs: Sequence[int]) -> np.ndarray:
    """The largest number in each window of maps (C, H, W) ≥ 0: (C, OH, OW)."""
    last = [(n - 1) * s + e for n, s, e in zip(outputs, window.stride, window.extent, strict=True)]
    after = [max(0, end - p - n) for end, p, n in zip(last, window.pad, maps.shape[1:], strict=True)]
    padded = np.pad(maps, ((0, 0), *zip(window.pad, after, strict=True)))
    found = np.zeros((len(maps), *outputs))
    for position in window.positions():
        rows, columns = window.under(position, tuple(outputs))
        np.maximum(found, padded[:, rows, columns], out=found)
    return found
