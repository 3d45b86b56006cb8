"""The lines of inner products and convolutions: sums of weights times gradients."""

from __future__ import annotations

import numpy as np

from minicaffe.errors import SpecError
from minicaffe.inspect.report.matrices import weights_of
from minicaffe.inspect.report.walk.line import Line, Spot, Term, lines, sum_of
from minicaffe.inspect.report.walk.windows import window_pixels, windows_at
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.matrix_product import MatrixProduct


@lines.of("InnerProduct")
def inner_product(spot: Spot) -> Line | None:
    """dL/dx = Σ over units of w · dL/dy."""
    dy, layer = spot.dy[0], spot.layer
    assert isinstance(layer, MatrixProduct)
    w = _weights(layer)
    if dy is None or layer.axis != 1 or w is None:
        return None
    at = spot.largest(0, None)
    column = w[:, int(np.ravel_multi_index(at, spot.x[0].shape))]
    terms = [
        Term(f"unit {m}", (float(column[m]), float(dy[m])), m == spot.at[0])
        for m in np.flatnonzero(dy).tolist()
    ]
    silent = dy.size - len(terms)
    note = (
        f"x goes into all {dy.size} units of {layer.name}, so their gradients add up, each times its weight."
    )
    note += f" {silent} of them have gradient 0." if silent else ""
    return sum_of(at, "dL/dx = Σ w · dL/dy, over the units", terms, note)


@lines.of("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def convolution(spot: Spot) -> Line | None:
    """dL/dx = Σ over the filters and the windows that x lies in of w · dL/dy."""
    layer, b = spot.layer, spot.top  # each bottom has a top
    assert isinstance(layer, Convolution)
    x, dy, window = spot.x[b], spot.dy[b], layer.window
    w = _weights(layer)
    if dy is None or layer.axis != 1 or layer.spatial_axes != 2 or w is None:
        return None
    filters, channels = layer.num_output // layer.group, layer.channels // layer.group
    w = w.reshape(layer.num_output, channels, *window.kernel)
    g = spot.at[0] // filters
    rows, columns = (window_pixels(window, axis, spot.at[1 + axis], x.shape[1 + axis]) for axis in (0, 1))
    if not rows or not columns:  # the window lies in the padding
        return None
    mask = np.zeros(x.shape, bool)
    mask[g * channels : (g + 1) * channels, np.array(rows)[:, None], np.array(columns)] = True
    c, *pixel = at = spot.largest(b, mask)
    terms = []
    for i, oy in windows_at(window, 0, pixel[0], dy.shape[1]):
        for j, ox in windows_at(window, 1, pixel[1], dy.shape[2]):
            for f in range(g * filters, (g + 1) * filters):
                factors = (float(w[f, c - g * channels, i, j]), float(dy[f, oy, ox]))
                name = f"filter {f}, w({i}, {j}), output ({oy}, {ox})"
                terms.append(Term(name, factors, (f, oy, ox) == spot.at))
    note = (
        f"x lies in {len(terms) // filters} windows, each time under another weight, and each window feeds "
        f"{filters} filters: {len(terms):,} products. This is one number of col2im(Wᵀ · dL/dY)."
    )
    return sum_of(at, "dL/dx = Σ w · dL/dy, over the filters and the windows that x is in", terms, note, b)


def _weights(layer: MatrixProduct) -> np.ndarray | None:
    """W (M, K/g); None where every batch has factors of its own."""
    try:
        return weights_of(layer)
    except SpecError:
        return None
