"""Gradients of low rank: ranks send two thin factors of each gradient, and keep what these leave out for later.

For a matrix with the gradient G_i on rank i of N, its error E_i so far and a basis Q from the last time:

    M_i ← G_i + E_i
    P ← orthonormal(Σ_i M_i · M_iᵀ · M_i · orthonormal(Q))     sent: m · r numbers
    Q ← (1/N) Σ_i M_iᵀ · P                                     sent: n · r numbers
    Ĝ ← P · Qᵀ                           the same on all ranks: what the update uses
    E_i ← M_i − Ĝ                        comes in addition to the next gradient

Ĝ is the mean of M_i, projected on the range of P. Its leading vectors change little from one iteration to the next,
so they are found by few steps of a power iteration from the last Q. PowerSGD (Vogels, Karimireddy and Jaggi 2019,
arXiv 1905.13727, algorithms 1 and 2) takes one step, M_i · Q. Here each rank takes a second one with its own M_i,
which sends nothing, and brings the accuracy nearer to that of whole gradients.

If every rank goes on with the mean of all E_i in place of its own, the mean of M_i stays the same, and so does all
that becomes of it but for a P that is a little different. So a snapshot needs that mean alone.

A convolution's w (M, C, kh, kw) becomes the one of the two matrices of ``low_rank/schemes.py`` whose factors are
smaller. What has no such factors is sent whole: vectors, and matrices that are thin already.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from minicaffe.core.learnable_param import LearnableParam
from minicaffe.device.array import Array
from minicaffe.device.communicator import Communicator, Done, Pending
from minicaffe.low_rank.schemes import ChannelScheme, Scheme, SpatialScheme
from minicaffe.ops.linalg import orthonormal


def scheme_of(shape: tuple[int, ...]) -> Scheme:
    """The matrix that a gradient is seen as: the one with the smaller factors."""
    channel = ChannelScheme(shape, 1)
    if len(shape) != 4:
        return channel
    spatial = SpatialScheme(shape, 1)
    return spatial if sum(spatial.matrix_shape) < sum(channel.matrix_shape) else channel


def is_worth_it(shape: tuple[int, ...], rank: int | None) -> bool:
    """Whether factors of a rank are smaller than the gradient."""
    if rank is None or len(shape) < 2 or not math.prod(shape):
        return False
    m, n = scheme_of(shape).matrix_shape
    return rank * (m + n) < m * n


class _Matrix:
    """The gradient of one parameter as a matrix (m, n), its basis Q (n, r) and its error E (m, n)."""

    def __init__(self, param: LearnableParam, rank: int, seed: int) -> None:
        blob = param.blob
        self.param, self.scheme, self.rank = param, scheme_of(blob.shape), rank
        self.m, self.n = self.scheme.matrix_shape
        xp, rng = blob.device.xp, blob.device.rng(seed ^ zlib.crc32(param.key.encode()))
        self.basis: Array = xp.ascontiguousarray(rng.standard_normal((self.n, rank), dtype=blob.dtype))
        self.error: Array = xp.zeros((self.m, self.n), blob.dtype)
        self.left: Array | None = None

    def project(self, out: Array) -> None:
        """M ← G + E, which takes the place of E; out (m, r) = M · Mᵀ · M · orthonormal(Q)."""
        self.error += self.scheme.matrix(self.param.blob.stored_diff)[0]
        start = self.error @ orthonormal(self.basis)
        self.param.blob.device.xp.matmul(self.error, self.error.T @ start, out=out)

    def find_right(self, left: Array, out: Array) -> None:
        """P from its sum; out (n, r) = Mᵀ · P."""
        self.left = orthonormal(left)
        self.param.blob.device.xp.matmul(self.error.T, self.left, out=out)

    def take(self, right: Array) -> None:
        """Q from its mean; the gradient becomes P · Qᵀ, and what is left of M the error."""
        self.basis[...] = right
        mean = self.left @ self.basis.T
        self.error -= mean
        self.param.blob.stored_diff[...] = self.scheme.weights(mean[None])


class LowRankBucket:
    """Gradients that travel as factors of rank r; ``whole`` are those that travel as they are."""

    def __init__(
        self,
        params: Sequence[LearnableParam],
        whole: Sequence[LearnableParam],
        ranks: Communicator,
        rank: int,
        seed: int,
    ) -> None:
        self.params, self._whole, self._ranks = params, whole, ranks
        left_whole = {param.key for param in whole}
        self._matrices = [_Matrix(p, rank, seed) for p in params if p.key not in left_whole]
        xp, dtype = params[0].blob.device.xp, params[0].blob.dtype
        shapes = [param.blob.stored_shape for param in whole] + [(x.m, rank) for x in self._matrices]
        self._first: Array = xp.empty(sum(map(math.prod, shapes)), dtype)
        self._second: Array = xp.empty(sum(x.n * rank for x in self._matrices), dtype)
        self._parts = parts_of(self._first, shapes)
        self._rights = parts_of(self._second, [(x.n, rank) for x in self._matrices])
        self._pending: Pending = Done()
        self.sent_bytes = int(self._first.nbytes + self._second.nbytes)

    def begin(self) -> None:
        """Start the sums for P, and of what travels whole."""
        count = len(self._whole)
        copy_in(self._whole, self._parts[:count])
        for matrix, part in zip(self._matrices, self._parts[count:], strict=True):
            matrix.project(part)
        self._pending = self._ranks.start_sum(self._first)

    def go_on(self) -> None:
        """Start the sums for Q."""
        self._pending.wait()
        lefts = self._parts[len(self._whole) :]
        for matrix, left, right in zip(self._matrices, lefts, self._rights, strict=True):
            matrix.find_right(left, right)
        self._pending = self._ranks.start_sum(self._second)

    def finish(self) -> None:
        """Wait for these; each gradient becomes the mean, or what the factors hold of it."""
        self._pending.wait()
        share = 1 / self._ranks.size
        self._second *= share
        for matrix, right in zip(self._matrices, self._rights, strict=True):
            matrix.take(right)
        copy_out(self._whole, self._parts[: len(self._whole)], share)

    def arrays(self) -> list[Array]:
        """Bases and errors."""
        return [array for matrix in self._matrices for array in (matrix.basis, matrix.error)]

    def state(self) -> dict[str, list[Array]]:
        """Basis and error of each parameter. Every rank goes on with the mean of all errors. Collective."""
        for matrix in self._matrices:
            self._ranks.sum(matrix.error)
            matrix.error *= 1 / self._ranks.size
        return {matrix.param.key: [matrix.basis, matrix.error] for matrix in self._matrices}

    def restore(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Go on from such a state, for the parameters that it has at this rank."""
        for matrix in self._matrices:
            kept = state.get(matrix.param.key, ())
            mine = [matrix.basis, matrix.error]
            if [x.shape for x in kept] == [x.shape for x in mine]:
                for array, value in zip(mine, kept, strict=True):
                    array[...] = matrix.param.blob.device.put(value, array.dtype)


def parts_of(flat: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Views of a flat array, one after the other, in these shapes."""
    parts, at = [], 0
    for shape in shapes:
        size = math.prod(shape)
        parts.append(flat[at : at + size].reshape(shape))
        at += size
    return parts


def copy_in(params: Sequence[LearnableParam], parts: Sequence[Array]) -> None:
    """Copy gradients into parts of what is sent."""
    for param, part in zip(params, parts, strict=True):
        part[...] = param.blob.stored_diff


def copy_out(params: Sequence[LearnableParam], parts: Sequence[Array], share: float) -> None:
    """Overwrite gradients with a share of what has become of these parts."""
    for param, part in zip(params, parts, strict=True):
        param.blob.device.xp.multiply(part, share, out=param.blob.stored_diff)
