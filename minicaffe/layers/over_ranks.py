"""Statistics over the batches of all ranks, made of those that each rank has of its own batch.

With m_r numbers on rank r, of mean μ_r and variance σ_r²:

    m = Σ m_r        μ = Σ m_r · μ_r / m        σ² = Σ m_r · (σ_r² + μ_r²) / m − μ²

and backward, of g = dy and of g = dy · x̂:

    mean(g) = Σ m_r · mean_r(g) / m

Forward sums 2 · C + 1 numbers over the ranks, and backward 2 · C. The difference is taken in float64. Its rounding,
10⁻¹⁶ · (μ² + σ²), is for x in float32 less than that of x itself.

dx needs no factor for the number of ranks. Rank r computes gradients of its own loss L_r, and that of a parameter
becomes the mean over ranks, which is the gradient of Σ L_r / N. So in between they have to be gradients of Σ L_r.
dy is one, since no other rank's loss depends on this rank's y. Then so is dx, whose means are over all ranks.
"""

from __future__ import annotations

import numpy as np

from minicaffe.device.array import Array, module_of
from minicaffe.device.communicator import Communicator


class OverRanks:
    """What becomes of the statistics of a rank's batch. One process by itself gets them back as they are.

    All are per row: (R, 1, 1).
    """

    def __init__(self, ranks: Communicator) -> None:
        self._ranks = ranks
        self._share: Array | None = None  # m_r / m, (1,), of the latest batch

    @property
    def are_several(self) -> bool:
        """Whether there are other ranks."""
        return self._ranks.size > 1

    def moments(self, mean: Array, variance: Array, count: int) -> tuple[Array, Array, Array | float]:
        """μ, σ² and m / (m − 1), which is 1 for an m of 1, from this rank's, over ``count`` numbers each."""
        if not self.are_several:
            return mean, variance, count / (count - 1) if count > 1 else 1.0
        xp, dtype = module_of(mean), mean.dtype
        sums = xp.empty(2 * mean.size + 1, np.float64)
        first, second = sums[:-1].reshape(2, *mean.shape)
        first[...], second[...], sums[-1] = mean, variance, 1
        second += first * first
        sums *= count
        self._ranks.sum(sums)
        total = sums[-1:]  # an array still: to read the number, the program would wait for the device
        sums[:-1] /= total
        second -= first * first
        xp.maximum(second, 0, out=second)
        self._share = (count / total).astype(dtype)
        return first.astype(dtype), second.astype(dtype), (total / (total - 1)).astype(dtype)

    def grad_means(self, mean_dy: Array, slope: Array, factor: Array | None = None) -> tuple[Array, Array]:
        """mean(dy) and factor · mean(dy · x̂), from this rank's; without a ``factor`` it is 1.

        Ranks send mean(dy · x̂), so some may run a layer by itself, and others in a unit.
        """
        if not self.are_several:
            return mean_dy, slope
        means = module_of(mean_dy).stack([mean_dy, slope if factor is None else slope / factor])
        means *= self._share
        self._ranks.sum(means)
        mean_dy, slope = means
        return mean_dy, slope if factor is None else slope * factor
