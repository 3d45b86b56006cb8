"""Normalisation of rows: their means and variances, and the gradient of rows that are centred and scaled by them.

Rows are those of ``channels.py``: x (R, I, T), with I elements that share a mean; coefficients (R, 1, T).

    μ = Σ x / I    σ² = Σ (x − μ)² / I    y = (x − μ) · s    dx = (dy − mean(dy) − y · mean(dy · y)) · s

On a CPU this is done by blocks that stay in the cache. On a GPU several threads share a row, each adding up every
so-many-th element; a second kernel adds up their sums.
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import scratch
from minicaffe.ops.channels import RowLoops, block_sums, elements_per_block, in_blocks, product_sums, row_sums

ROW_THREADS = 256  # on a GPU, at most this many threads share a row
MOST_CANCELLED = 4  # Σ x² / Σ (x − μ)²: of more, the difference of large numbers has lost its last digits
KERNELS = kernels_beside(__file__)


def moments(x: Array, copy: Array | None = None) -> tuple[Array, Array]:
    """Mean and variance (divided by I) of each row, (R, 1, T); x is also copied into ``copy``, if given.

    Each block is centred on its own mean; the blocks' means and squares are combined without cancellation
    (Chan, Golub and LeVeque 1979).
    """
    if not on_cpu(x):
        return _moments_on_device(x, copy)

    def sums(x: Array, copy: Array | None) -> tuple[Array, Array]:
        if copy is not None:
            copy[...] = x
        return _centred_sums(x, x.sum(axis=1))

    return _combined(x, *block_sums(sums, 2, x, copy))


def moments_by_squares(x: Array) -> tuple[Array, Array]:
    """As ``moments``, on a CPU, but Σ (x − μ)² = Σ x² − I · μ² in each block where too little cancels to matter.

    That is a pass less. It loses two bits at most.
    """

    def sums(x: Array) -> tuple[Array, Array]:
        total, squares = x.sum(axis=1), product_sums(x, x)
        centred = squares - total * total / x.shape[1]
        return (total, centred) if (squares <= MOST_CANCELLED * centred).all() else _centred_sums(x, total)

    return _combined(x, *block_sums(sums, 2, x))


def _combined(x: Array, totals: Array, squares: Array) -> tuple[Array, Array]:
    """Mean and variance of the rows from Σ x and Σ (x − μ)² of each block about its own mean, (R, B, 1)."""
    count, step = x.shape[1], elements_per_block(x)
    mean = totals.sum(axis=1, keepdims=True) / count
    for b in range(totals.shape[1]):
        size = min(step, count - b * step)
        squares[:, b] += size * (totals[:, b] / size - mean[:, 0]) ** 2
    return mean, squares.sum(axis=1, keepdims=True) / count


def _centred_sums(x: Array, total: Array) -> tuple[Array, Array]:
    """Σ x, which is given, and Σ (x − μ)² of each row of a block."""
    centred = scratch(x, x.shape)
    with RowLoops(x):
        module_of(x).subtract(x, (total / x.shape[1])[:, None], out=centred)
    return total, product_sums(centred, centred)


def normalize(x: Array, mean: Array, inverse_std: Array, out: Array) -> None:
    """out = (x − mean) · inverse_std."""
    if not on_cpu(x):
        xp = module_of(x)
        coefficients = xp.ascontiguousarray(mean), xp.ascontiguousarray(inverse_std)
        KERNELS["normalize"](x.size, x, *coefficients, out, *x.shape[1:])
        return

    def block(x: Array, mean: Array, inverse_std: Array, y: Array) -> None:
        with RowLoops(x):
            module_of(x).subtract(x, mean, out=y)
            y *= inverse_std

    in_blocks(block, x, mean, inverse_std, out)


def grad_means(x: Array, dy: Array, mean: Array, inverse_std: Array) -> tuple[Array, Array]:
    """What ``normalize_grad`` needs of all of a row: mean(dy), and inverse_std · mean(dy · y), each (R, 1, T)."""
    if not on_cpu(x):
        return _grad_means_on_device(x, dy, mean, inverse_std)

    def products(dy: Array, x: Array, mean: Array) -> tuple[Array, Array]:
        centred = scratch(x, x.shape)
        with RowLoops(x):
            module_of(x).subtract(x, mean, out=centred)
        return dy.sum(axis=1), product_sums(centred, dy)

    dy_sum, product_sum = row_sums(products, 2, dy, x, mean)
    return dy_sum / x.shape[1], product_sum * inverse_std * inverse_std / x.shape[1]


def normalize_grad(
    x: Array,
    dy: Array,
    mean: Array,
    inverse_std: Array,
    out: Array,
    means: tuple[Array, Array] | None = None,
) -> None:
    """dx of y = (x − mean) · inverse_std, where mean and standard deviation are those of the rows of x.

    dx = (dy − mean(dy) − y · mean(dy · y)) · inverse_std. Where x is a part of the rows, ``means`` are what
    ``grad_means`` would find of the whole.
    """
    mean_dy, slope = grad_means(x, dy, mean, inverse_std) if means is None else means
    if not on_cpu(x):
        KERNELS["normalize_grad"](x.size, x, dy, mean, inverse_std, mean_dy, slope, out, *x.shape[1:])
        return

    def block(dy: Array, x: Array, mean: Array, inverse_std: Array, a: Array, b: Array, dx: Array) -> None:
        along_y = scratch(x, x.shape)
        with RowLoops(x):
            module_of(x).subtract(x, mean, out=along_y)
            along_y *= a
            module_of(x).subtract(dy, along_y, out=dx)
            dx -= b
            dx *= inverse_std

    in_blocks(block, dy, x, mean, inverse_std, slope, mean_dy, out)


def _moments_on_device(x: Array, copy: Array | None) -> tuple[Array, Array]:
    if copy is not None:
        copy[...] = x
    xp, sizes = module_of(x), _sizes(x)
    sums = _room_for_sums(x)
    mean, variance = (xp.zeros((x.shape[0], 1, x.shape[2]), x.dtype) for _ in range(2))
    if not x.size:
        return mean, variance
    for _ in range(2):  # about 0, for the mean; then about the mean, where nothing cancels in the variance
        KERNELS["moment_sums"](sums.size // 2, x, mean, sums, *sizes)
        KERNELS["moments"](mean.size, sums, mean, variance, *sizes)
    return mean, variance


def _grad_means_on_device(x: Array, dy: Array, mean: Array, inverse_std: Array) -> tuple[Array, Array]:
    sums, sizes = _room_for_sums(x), _sizes(x)
    mean_dy, slope = (module_of(x).empty(mean.shape, x.dtype) for _ in range(2))
    KERNELS["normalize_grad_sums"](sums.size // 2, x, dy, mean, sums, *sizes)
    KERNELS["normalize_grad_means"](mean.size, sums, inverse_std, mean_dy, slope, *sizes)
    return mean_dy, slope


def _sizes(x: Array) -> tuple[int, int, int]:
    """The threads of a row, its elements, and how many rows are interleaved."""
    return max(1, min(ROW_THREADS, x.shape[1])), x.shape[1], x.shape[2]


def _room_for_sums(x: Array) -> Array:
    """An array for two sums of each thread."""
    threads, _, side = _sizes(x)
    sums: Array = module_of(x).empty((2, x.shape[0], threads, side), x.dtype)
    return sums
