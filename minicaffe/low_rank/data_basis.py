"""An orthonormal basis Q for the columns of a data matrix, so that X ≈ Q·(Qᵀ·X).

X (K × P) is never held: products with it are convolutions over the padded input.

    X·Xᵀ              ``Convolution2d.gram``, one product per block of columns
    Xᵀ·Q  =: zᵀ       a convolution with Q's vectors as filters
    X·zᵀ              the weight gradient of that convolution

The best Q of r columns are the first eigenvectors of X·Xᵀ (``from_gram``), the left singular vectors of X
(``from_svd``); a subspace iteration Q ← orth(X·(Xᵀ·Q)) comes near them (``from_products``), quickly where it starts
from the basis of a batch before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import Svd, find_range, leading_eigenvectors, svd
from minicaffe.ops.convolution.dense import Convolution2d
from minicaffe.ops.convolution.im2col import im2col
from minicaffe.ops.linalg import completed, orthonormal


def from_gram(dense: Convolution2d, x: Array) -> Svd:
    """All left singular vectors of x's data matrix, by the eigenvectors of X·Xᵀ (g, K/g, K/g)."""
    xp = module_of(x)
    gram = dense.gram(dense.pad(x))
    values, vectors = leading_eigenvectors(gram)
    squares = xp.maximum(values, 0)
    return _basis(vectors.astype(x.dtype), xp.sqrt(squares), squares.sum())


def from_svd(dense: Convolution2d, x: Array) -> Svd:
    """All left singular vectors of x's data matrix, by the SVD of the matrix itself: it is held whole."""
    columns = im2col(x, dense.window).reshape(dense.group, dense.depth, -1)
    found = svd(columns)
    missing = dense.depth - found.rank  # with fewer columns than rows: any further vectors do
    if not missing:
        return _basis(found.u, found.s, found.total)
    xp = module_of(x)
    u = completed(found.u)
    u[..., : found.rank] = found.u
    s = xp.concatenate([found.s, xp.zeros((dense.group, missing), x.dtype)], axis=-1)
    return _basis(u, s, found.total)


def _basis(u: Array, s: Array, total: Array) -> Svd:
    """Left vectors alone: the right ones, which are not wanted, have no entries."""
    return Svd(u, s, u[..., :0, :].swapaxes(-1, -2), total, 0 * total)


def from_products(dense: Convolution2d, x: Array, start: Array, rank: int, iterations: int) -> Array:
    """The first ``rank`` vectors (g, K/g, r) after so many subspace iterations from a start (g, K/g, l)."""
    width = start.shape[-1]
    stage = Convolution2d(
        dense.shape, dense.group * width, dense.window, dense.group, dense.dtype, dense.device
    )
    hidden = module_of(x).empty((stage.filters, *stage.output, stage.batch), x.dtype)

    def apply(q: Array) -> Array:
        padded = stage.forward(x, as_filters(q, dense), hidden)
        return times_hidden(stage, padded, hidden)

    basis = find_range(apply, start, iterations)
    turn = leading_eigenvectors(basis.swapaxes(-1, -2) @ apply(basis), rank)[1]
    return basis @ turn


def times_hidden(stage: Convolution2d, padded: Array, hidden: Array) -> Array:
    """X·zᵀ (g, K/g, r), for the padded input and z = Qᵀ·X (g·r, OH, OW, N)."""
    xp, (height, width) = module_of(hidden), stage.window.kernel
    grad = xp.empty((stage.filters, stage.shape[0] // stage.group, height, width), hidden.dtype)
    stage.weight_grad(hidden, padded, grad)
    return grad.reshape(stage.group, -1, stage.depth).swapaxes(-1, -2)


def as_filters(q: Array, dense: Convolution2d) -> Array:
    """Q (g, K/g, r) as the filters (g·r, C/g, kh, kw) of a convolution."""
    contiguous = module_of(q).ascontiguousarray(q.swapaxes(-1, -2))
    return contiguous.reshape(-1, dense.shape[0] // dense.group, *dense.window.kernel)


def step(stage: Convolution2d, padded: Array, hidden: Array) -> Array:
    """One subspace iteration from the basis that ``hidden`` was made with: orth(X·zᵀ)."""
    return orthonormal(times_hidden(stage, padded, hidden))


def random_start(dense: Convolution2d, width: int, rng: Any, dtype: np.dtype) -> Array:
    """Random vectors (g, K/g, width) for a first subspace iteration."""
    return rng.standard_normal((dense.group, dense.depth, width), dtype=dtype)
