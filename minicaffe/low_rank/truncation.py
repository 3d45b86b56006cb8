"""The best approximation of rank r of a matrix, and the gradient of a loss through it.

    T_r(W) = Σ_{i≤r} σ_i u_i v_iᵀ

Its derivative is symmetric. With Ĝ = Uᵀ·G·V for a gradient G of the loss with respect to T_r(W), and i ≤ r < j, the
gradient with respect to W is

    Ĝ_ii'                                               between kept vectors
    (σ_i²·Ĝ_ij + σ_i·σ_j·Ĝ_ji) / (σ_i² − σ_j²)          from kept u_i to discarded v_j, and from v_i to u_j alike
    0                                                   between discarded vectors

(Feppon and Lermusiaux 2018, doi 10.1137/16M1095202). Only the rows and columns of Ĝ with a kept vector are needed,
so the gradients of the two factors suffice: G·rightᵀ and leftᵀ·G. At full rank T_r(W) = W, and the gradient is G.
Where a kept singular value is 0 below full rank, T_r has no derivative: weights that are all 0 do not learn.
"""

from __future__ import annotations

from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.factorization import Svd

SMALLEST_GAP = 1e-4  # of σ_i², relative: T_r jumps where σ_r = σ_{r+1}, and has no gradient there


class Truncation:
    """T_r of a stack of matrices, from an SVD of at least r triplets."""

    def __init__(self, svd: Svd, rank: int) -> None:
        self.svd = svd
        self.kept = svd.truncate(rank)
        m, n = svd.u.shape[-2], svd.vt.shape[-1]
        self.is_full = rank == min(m, n)
        self.left, self.right = self._whole(m, n) if self.is_full else self.kept.factors()

    def _whole(self, m: int, n: int) -> tuple[Array, Array]:
        """W as the product of W and an identity."""
        xp, s = module_of(self.svd.s), self.svd.s
        w = (self.svd.u * s[..., None, :]) @ self.svd.vt
        identity = xp.broadcast_to(xp.eye(min(m, n), dtype=s.dtype), (*s.shape[:-1], min(m, n), min(m, n)))
        return (identity, w) if m <= n else (w, identity)

    def gradient(self, dleft: Array, dright: Array) -> Array:
        """The gradient of W (…, m, n) from those of the factors (…, m, r) and (…, r, n)."""
        if self.is_full:
            return dright if self.left.shape[-2] <= self.right.shape[-1] else dleft
        u, s, vt = self.kept.u, self.kept.s, self.kept.vt
        inverse_root = _inverse(module_of(s).sqrt(s))
        columns = dleft * inverse_root[..., None, :]  # G·V₁
        rows = inverse_root[..., :, None] * dright  # U₁ᵀ·G
        dw = u @ rows + (columns - u @ (u.swapaxes(-1, -2) @ columns)) @ vt
        rank = self.kept.rank
        if rank == self.svd.rank:
            return dw
        others_u, others_vt = self.svd.u[..., rank:], self.svd.vt[..., rank:, :]
        kept, others = s[..., :, None], self.svd.s[..., None, rank:]
        to_v, to_u = rows @ others_vt.swapaxes(-1, -2), columns.swapaxes(-1, -2) @ others_u
        scale = others / self._gaps(kept, others)
        dw += u @ (scale * (others * to_v + kept * to_u)) @ others_vt
        dw += others_u @ (scale * (others * to_u + kept * to_v)).swapaxes(-1, -2) @ vt
        return dw

    @staticmethod
    def _gaps(kept: Array, others: Array) -> Array:
        """σ_i² − σ_j², kept from vanishing."""
        xp = module_of(kept)
        gaps = xp.maximum((kept - others) * (kept + others), SMALLEST_GAP * kept * kept)
        return gaps + (gaps == 0)


def _inverse(s: Array) -> Array:
    """1/s, and 0 where s vanishes beside the largest."""
    xp = module_of(s)
    vanishes = s <= xp.finfo(s.dtype).eps * s[..., :1]
    return xp.where(vanishes, 0, 1 / xp.where(vanishes, 1, s))
