"""Factors of the weights as they are now: w ≈ left · right, the best approximation of their rank.

The parameter is w, as in a dense layer. It is factorized again when it has changed, and its gradient is exact: that
of the truncation (``low_rank/truncation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Layer
from minicaffe.device.array import Array
from minicaffe.low_rank.factorization import Svd, gram, randomized, svd
from minicaffe.low_rank.factors import Factors
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import Pair
from minicaffe.low_rank.schemes import Scheme
from minicaffe.low_rank.truncation import Truncation


class TruncatedWeights(Factors):
    """The truncation of blob 0 of a layer. With method RANDOMIZED, singular values beyond the rank are unknown, and
    count as 0 in the gradient."""

    def __init__(self, layer: Layer, scheme: Scheme, param: LowRankParam, rank: int) -> None:
        super().__init__(layer, scheme, rank)
        self.param = param
        self._seen: Array | None = None
        self._truncation: Truncation | None = None

    @property
    def wanted(self) -> Sequence[bool]:
        return [self.layer.param_propagate_down[0]] * 2

    def filters(self, x: Array) -> Pair:
        return self.lasting_filters()

    def lasting_filters(self) -> Pair:
        truncation = self.truncation()
        return self.scheme.filters(truncation.left, truncation.right)

    def truncation(self) -> Truncation:
        """That of the weights as they are, made again if they have changed."""
        w = self.layer.blobs[0].data
        if self._seen is None or not self.layer.xp.array_equal(self._seen, w):
            found = self._factorize(self.dense_weights())
            if self.param.has("energy"):
                self.rank = found.rank_for(self.param.energy)
            self._truncation = Truncation(found, self.rank)
            self._seen = w.copy()
        return self._truncation

    def _factorize(self, matrix: Array) -> Svd:
        if self.param.used_method != "RANDOMIZED":
            return {"SVD": svd, "GRAM": gram}[self.param.used_method](matrix)
        rng = self.layer.setting.device.rng(
            self.layer.seed
        )  # always the same start: a resumed run has it too
        power, more = self.param.power_iterations, self.param.oversampling
        return randomized(matrix, self.rank, rng, power, more)

    def add_grads(self, grads: Pair) -> None:
        dw = self._truncation.gradient(*self.scheme.factors(*grads))
        self.layer.add_weight_grad(self.scheme.weights(dw))
