"""What BatchNorm, and Scale and ReLU in place on its top, are together in a training net: a unit.

    y = f(γ · x̂ + β), x̂ = (x − μ) / √(σ² + ε)        the products: ``ops/normalized_units.py``

x̂ is kept once, in BatchNorm: it is what Scale has to save, too. So each can run backward by itself afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.graph import Step
from minicaffe.core.units import Unit, makers
from minicaffe.device.array import on_cpu
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.relu import ReLU
from minicaffe.layers.scale import Scale
from minicaffe.ops.normalization import moments_by_squares
from minicaffe.ops.normalized_units import (
    multiply_rows,
    normalize_scale_rectify,
    normalized_grad,
    rectify_grad_sums,
)


class NormalizedUnit(Unit):
    """BatchNorm, then Scale or ReLU, or both."""

    def __init__(
        self, steps: Sequence[Step], norm: BatchNorm, scale: Scale | None, relu: ReLU | None
    ) -> None:
        super().__init__(steps)
        self.norm, self.scale, self.relu = norm, scale, relu
        self.bottom, self.top = steps[0].bottom[0], steps[0].top[0]

    @property
    def slope(self) -> float | None:
        """That of the ReLU; None: there is none."""
        return None if self.relu is None else self.relu.slope

    def forward(self) -> bool:
        norm, scale = self.norm, self.scale
        x, y = norm.broadcast.rows(self.bottom.stored), norm.broadcast.rows(self.top.stored)
        if not on_cpu(x) or not (scale is None or scale.is_learned_per_channel) or len(self.top.shape) < 2:
            return False
        norm.find_statistics(x, moments_by_squares)
        normalized = norm.room_for_normalized(x)
        gamma, beta = (None, None) if scale is None else scale.coefficients()
        normalize_scale_rectify(x, norm.mean, norm.inverse_std, gamma, beta, self.slope, normalized, y)
        if scale is not None:
            scale.saved_input.take(normalized)
        return True

    def backward(self) -> bool:
        norm, scale, normalized = self.norm, self.scale, self.norm.normalized
        if normalized is None or not (scale is None or scale.saved_input.has_taken(normalized)):
            return False
        rows = norm.broadcast.rows
        y, dy, dx = rows(self.top.stored), rows(self.top.stored_diff), rows(self.bottom.stored_diff)
        inverse_std, gamma = norm.inverse_std, None if scale is None else scale.coefficients()[0]
        whole = inverse_std if gamma is None else gamma * inverse_std
        if self.top is not self.bottom or norm.is_synced:  # others see what Scale makes of the top's diff
            first, rest = gamma, inverse_std
        elif norm.uses_global_stats:
            first, rest = whole, None
        else:
            first, rest = None, whole
        sums = rectify_grad_sums(y, dy, normalized, first, self.slope)
        if scale is not None:
            scale.add_to_diffs(*sums)
        if not norm.uses_global_stats:
            slope, mean = sums / normalized.shape[1] if first is None else sums * first / normalized.shape[1]
            mean, slope = norm.over_ranks.grad_means(mean, slope)
            normalized_grad(normalized, dy, slope, mean, rest, out=dx)
        elif rest is not None:
            multiply_rows(dy, rest, out=dx)
        return True


@makers.of("BatchNorm")
def normalized_unit(steps: Sequence[Step]) -> NormalizedUnit | None:
    """The unit of a BatchNorm and the in-place layers after it; None for one by itself.

    A class of a script's own makes none: nobody knows what it does.
    """
    norm, *others = (step.layer for step in steps)
    if type(norm) is not BatchNorm:
        return None
    scale = next((layer for layer in others[:1] if type(layer) is Scale), None)
    others = others[1:] if scale is not None else others
    relu = next((layer for layer in others[:1] if type(layer) is ReLU), None)
    count = 1 + (scale is not None) + (relu is not None)
    return NormalizedUnit(steps[:count], norm, scale, relu) if count > 1 else None
