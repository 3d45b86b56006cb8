"""BatchNorm, Scale and ReLU over one another: all three in two passes over memory forward, and two backward.

    x̂ = (x − μ) · s        y = f(γ · x̂ + β)        f(z) = max(z, 0) + slope · min(z, 0)

    g = dy · f′(z)         dβ = Σ g        dγ = Σ g · x̂        dz = γ · g
    dx = s · (dz − mean(dz) − x̂ · mean(dz · x̂)), where μ and s are those of the rows of x; else s · dz

By themselves the layers take nine passes forward and eleven backward, and keep x and x̂. Here x̂ is kept: it stands
in both gradients, and could not be found from y where γ is 0. f′ is found from y.

Rows are those of ``channels.py``: x, x̂, y (R, I, 1); μ, s, γ, β (R, 1, 1), γ and β None for 1 and 0. A ``slope`` of
None is no ReLU: f(z) = z. On a CPU, block by block.
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import scratch
from minicaffe.ops.channels import RowLoops, in_blocks, product_sums, row_sums
from minicaffe.ops.rectify import relu, relu_grad


def normalize_scale_rectify(
    x: Array,
    mean: Array,
    inverse_std: Array,
    scale: Array | None,
    shift: Array | None,
    slope: float | None,
    normalized: Array,
    out: Array,
) -> None:
    """Write x̂ into ``normalized`` and y into ``out``, which may be x."""

    def block(
        x: Array,
        mean: Array,
        inverse_std: Array,
        scale: Array | None,
        shift: Array | None,
        normalized: Array,
        y: Array,
    ) -> None:
        xp = module_of(x)
        with RowLoops(x):
            xp.subtract(x, mean, out=normalized)
            normalized *= inverse_std
            if scale is not None:
                xp.multiply(normalized, scale, out=y)
            if shift is not None:
                y += shift
        if slope is not None:
            relu(normalized if scale is None else y, slope, out=y)

    in_blocks(block, x, mean, inverse_std, scale, shift, normalized, out)


def rectify_grad_sums(
    y: Array, dy: Array, normalized: Array, factor: Array | None, slope: float | None
) -> Array:
    """Overwrite dy with g, or with factor · g; return Σ g · x̂ and Σ g of each row, (2, R, 1, 1)."""

    def block(dy: Array, y: Array, normalized: Array, factor: Array | None) -> tuple[Array, Array]:
        if slope is not None:
            relu_grad(y, dy, slope, out=dy)
        sums = product_sums(normalized, dy), dy.sum(axis=1)
        if factor is not None:
            multiply_block(dy, factor, dy)
        return sums

    return row_sums(block, 2, dy, y, normalized, factor)


def normalized_grad(
    normalized: Array, dy: Array, slope: Array, mean: Array, factor: Array, out: Array
) -> None:
    """out = factor · (dy − mean − x̂ · slope); out may be dy."""

    def block(dy: Array, normalized: Array, slope: Array, mean: Array, factor: Array, dx: Array) -> None:
        xp = module_of(dy)
        term = scratch(dy, dy.shape)
        with RowLoops(dy):
            xp.multiply(normalized, slope, out=term)
            term += mean
            xp.subtract(dy, term, out=dx)
            dx *= factor

    in_blocks(block, dy, normalized, slope, mean, factor, out)


def multiply_rows(x: Array, factor: Array, out: Array) -> None:
    """out = factor · x; out may be x."""
    in_blocks(multiply_block, x, factor, out)


def multiply_block(x: Array, factor: Array, out: Array) -> None:
    """As ``multiply_rows``, on this thread."""
    with RowLoops(x):
        module_of(x).multiply(x, factor, out=out)
