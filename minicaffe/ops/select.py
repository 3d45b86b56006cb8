"""Picking images of a batch by number, the transpose of that, and checking the numbers.

Names: x (…, N), index (J,) whole numbers in [0, N), y (…, J), in batch-last arrays.

    y[…, j] = x[…, index[j]]        dx[…, n] = Σ_j dy[…, j] · (index[j] = n)
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.errors import DataError
from minicaffe.ops.gemm import matmul


def add_images(dy: Array, index: Array, out: Array) -> None:
    """out = dx, by a product with a matrix of ones and zeros; an infinite dy makes all of dx nan."""
    xp, size = module_of(dy), out.shape[-1]
    chosen = (index[:, None] == xp.arange(size)).astype(dy.dtype)
    matmul(dy.reshape(-1, len(index)), chosen, out=out.reshape(-1, size))


def check_indices(index: Array, size: int, where: object, what: str) -> None:
    """Raise DataError unless all are in [0, size). Not checked on a GPU, where it would have to wait for it."""
    if on_cpu(index) and index.size and not (index.min() >= 0 and index.max() < size):
        raise DataError(
            f"{where}: numbers from {index.min()} to {index.max()}, but {what} is {size}; "
            f"they must be 0 to {size - 1}"
        )
