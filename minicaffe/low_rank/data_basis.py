"""An orthonormal basis Q for the columns of a data matrix, so that X ≈ Q·(Qᵀ·X).

X (K × P) is never held: products with it are convolutions over the padded input.

    X·Xᵀ              ``DenseConvolution.gram``, one product per block of columns
    Xᵀ·Q  =: zᵀ       a convolution with Q's vectors as filters
    X·zᵀ              the weight gradient of that convolution

The best Q of r columns are the first eigenvectors of X·Xᵀ (``from_gram``), the left singular vectors of X
(``from_svd``); a subspace iteration Q ← orth(X·(Xᵀ·Q)) comes near them (``from_products``), quickly where it starts
from the basis of a batch before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import Svd, find_range, leading_eigenvectors, svd
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.reference import im2col
from minicaffe.ops.linalg import completed, orthonormal


def from_gram(dense: DenseConvolution, x: Array) -> Svd:
    """All left singular vectors of x's data matrix, by the eigenvectors of X·Xᵀ (g, K/g, K/g)."""
    xp = module_of(x)
    gram = dense.gram(dense.pad(x))
    values, vectors = leading_eigenvectors(gram)
    squares = xp.maximum(values, 0)
    return _basis(vectors.astype(x.dtype), xp.sqrt(squares), squares.sum())


def from_svd(dense: DenseConvolution, x: Array) -> Svd:
    """All left singular vectors of x's data matrix, by the SVD of the matrix itself: it is held whole."""
    geometry = dense.geometry
    columns = im2col(x, geometry.window).reshape(geometry.group, geometry.depth, -1)
    found = svd(columns)
    missing = geometry.depth - found.rank  # with fewer columns than rows: any further vectors do
    if not missing:
        return _basis(found.u, found.s, found.total)
    xp = module_of(x)
    u = completed(found.u)
    u[..., : found.rank] = found.u
    s = xp.concatenate([found.s, xp.zeros((geometry.group, missing), x.dtype)], axis=-1)
    return _basis(u, s, found.total)


def _basis(u: Array, s: Array, total: Array) -> Svd:
    """Left vectors alone: the right ones, which are not wanted, have no entries."""
    return Svd(u, s, u[..., :0, :].swapaxes(-1, -2), total, 0 * total)


def from_products(dense: DenseConvolution, x: Array, start: Array, rank: int, iterations: int) -> Array:
    """The first ``rank`` vectors (g, K/g, r) after so many subspace iterations from a start (g, K/g, l)."""
    geometry = replace(dense.geometry, filters=dense.geometry.group * start.shape[-1])
    stage = DenseConvolution(geometry, dense.dtype, dense.device)
    hidden = module_of(x).empty(geometry.output_shape, x.dtype)

    def apply(q: Array) -> Array:
        padded = stage.forward(x, as_filters(q, dense), hidden)
        return times_hidden(stage, padded, hidden)

    basis = find_range(apply, start, iterations)
    turn = leading_eigenvectors(basis.swapaxes(-1, -2) @ apply(basis), rank)[1]
    return basis @ turn


def times_hidden(stage: DenseConvolution, padded: Array, hidden: Array) -> Array:
    """X·zᵀ (g, K/g, r), for the padded input and z = Qᵀ·X (g·r, OH, OW, N)."""
    geometry = stage.geometry
    grad = module_of(hidden).empty(geometry.weight_shape, hidden.dtype)
    stage.weight_grad(hidden, padded, grad)
    return grad.reshape(geometry.group, -1, geometry.depth).swapaxes(-1, -2)


def as_filters(q: Array, dense: DenseConvolution) -> Array:
    """Q (g, K/g, r) as the filters (g·r, C/g, kh, kw) of a convolution."""
    contiguous = module_of(q).ascontiguousarray(q.swapaxes(-1, -2))
    return contiguous.reshape(-1, *dense.geometry.weight_shape[1:])


def step(stage: DenseConvolution, padded: Array, hidden: Array) -> Array:
    """One subspace iteration from the basis that ``hidden`` was made with: orth(X·zᵀ)."""
    return orthonormal(times_hidden(stage, padded, hidden))


def random_start(dense: DenseConvolution, width: int, rng: Any, dtype: np.dtype) -> Array:
    """Random vectors (g, K/g, width) for a first subspace iteration."""
    return rng.standard_normal((dense.geometry.group, dense.geometry.depth, width), dtype=dtype)
