"""The lines of poolings: the way to the maximum, and equal parts of a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.inspect.report.walk.line import Line, Spot, Term, lines, sum_of
from minicaffe.inspect.report.walk.windows import window_pixels, windows_at
from minicaffe.layers.pooling import PoolingParam
from minicaffe.ops.convolution.geometry import Window


@lines.of("Pooling")
def pooling(spot: Spot) -> Line | None:
    """MAX: the gradient goes to the maximum of the window; AVE: equal parts go to all pixels in it."""
    param, window, dy = spot.layer.spec.message(PoolingParam), getattr(spot.layer, "window", None), spot.dy[0]
    if not isinstance(window, Window) or dy is None or param.pool not in ("MAX", "AVE"):
        return None
    return _max_pooling(spot, window, dy) if param.pool == "MAX" else _average_pooling(spot, window, dy)


def _max_pooling(spot: Spot, window: Window, dy: np.ndarray) -> Line | None:
    c, oy, ox = spot.at
    winner = _maximum(spot.x[0][c], window, (oy, ox))
    if winner is None:
        return None
    outputs = [
        (y, x)
        for _, y in windows_at(window, 0, winner[0], dy.shape[1])
        for _, x in windows_at(window, 1, winner[1], dy.shape[2])
        if _maximum(spot.x[0][c], window, (y, x)) == winner
    ]
    terms = [Term(f"output ({y}, {x})", (float(dy[c, y, x]),), (y, x) == (oy, ox)) for y, x in outputs]
    value = float(spot.x[0][(c, *winner)])
    size = "×".join(map(str, window.kernel))
    note = (
        f"x = {value:.4g} at ({winner[0]}, {winner[1]}) is the largest of its {size} window, so the gradient goes "
        "to it alone; the others in the window get 0."
    )
    return sum_of((c, *winner), "dL/dx = dL/dy if x is the maximum of its window, else 0", terms, note)


def _maximum(image: np.ndarray, window: Window, output: tuple[int, int]) -> tuple[int, int] | None:
    """Where the first maximum of a window lies; None for a window that is outside the image."""
    rows, columns = (window_pixels(window, axis, output[axis], image.shape[axis]) for axis in (0, 1))
    if not rows or not columns:
        return None
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    row, column = divmod(int(part.argmax()), part.shape[1])
    return rows[0] + row, columns[0] + column


def _average_pooling(spot: Spot, window: Window, dy: np.ndarray) -> Line:
    shape = spot.x[0].shape
    mask = np.zeros(shape, bool)
    rows, columns = (window_pixels(window, axis, spot.at[1 + axis], shape[1 + axis]) for axis in (0, 1))
    mask[spot.at[0], np.array(rows, int)[:, None], np.array(columns, int)] = True
    c, y, x = at = spot.largest(0, mask)
    terms = []
    for _, oy in windows_at(window, 0, y, dy.shape[1]):
        for _, ox in windows_at(window, 1, x, dy.shape[2]):
            factors = (1 / _area(window, shape[1:], (oy, ox)), float(dy[c, oy, ox]))
            terms.append(Term(f"output ({oy}, {ox})", factors, (c, oy, ox) == spot.at))
    note = "Each pixel of a window has an equal part in its mean, and gets that part of the gradient."
    return sum_of(at, "dL/dx = Σ 1/area · dL/dy, over the windows that x is in", terms, note)


def _area(window: Window, image: Sequence[int], output: tuple[int, int]) -> int:
    """The pixels of a window, cut off where the padded image ends."""
    sides = []
    for axis in (0, 1):
        start = output[axis] * window.stride[axis] - window.pad[axis]
        sides.append(min(start + window.kernel[axis], image[axis] + window.pad[axis]) - start)
    return sides[0] * sides[1]
