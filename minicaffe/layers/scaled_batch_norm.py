"""BatchNorm: with ``scale_bias`` also scaled and shifted, in one layer.

    y = a · u + b,  u = (x − μ) / √(σ² + ε)        da = Σ dy · u        db = Σ dy
    dx = a · (dy − mean(dy) − u · mean(dy · u)) / √(σ² + ε)

Shapes: x, y (N, C, H, W), stored (C, H, W, N). Five blobs: the moving mean and variance, (C,); 1, (1,); scale a and
bias b, (C,). So the first three are Caffe's.

At TRAIN μ and σ² are the batch's; with f = ``moving_average_fraction`` and m = N·H·W

    moving ← f · moving + (1 − f) · (μ, σ² · m / (m − 1)),  by the first batch of a run: ← (μ, σ² · m / (m − 1))

At TEST μ and σ² are the moving ones, and dx = a · dy / √(σ² + ε). ``use_global_stats`` has no effect, and ε is at
least 10⁻⁵, as in the original. Weights in the older order of DIGITS (scale, bias, mean, variance, one number) are
put into this one.

The BatchNormLayer of NVIDIA's Caffe (NVIDIA/caffe 0.16 and 0.17), as it is with cuDNN. A layer is this one if its
spec has ``scale_bias: true``, ``scale_filler`` or ``bias_filler``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, register_fork
from minicaffe.device.array import Array
from minicaffe.device.communicator import ALONE
from minicaffe.layers.batch_norm import BatchNormParam
from minicaffe.layers.bn import BN
from minicaffe.layers.over_ranks import OverRanks
from minicaffe.ops.epilogue import Affine, Map

LEAST_EPS = 1e-5
DIGITS_ORDER = (2, 3, 4, 0, 1)  # where the blobs are in weights of DIGITS' old format


@register_fork("BatchNorm", lambda spec: spec.message(BatchNormParam).has_scale)
class ScaledBatchNorm(BN):
    """BatchNorm and Scale in one."""

    messages = {"batch_norm_param": BatchNormParam}
    tops = (1, 1)
    learned = slice(3, 5)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(BatchNormParam), bottom[0].shape
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected a batch with channels (N, C, …)")
        self.channels, self.fraction = shape[1], param.moving_average_fraction
        self.eps = max(param.eps, LEAST_EPS)
        self.uses_moving = self.phase == "TEST"
        self.over_ranks = OverRanks(self.setting.communicator if param.sync else ALONE)
        self.batches = 0  # of this run
        scale = param.scale_filler if param.has("scale_filler") else FillerParam(value=1.0)
        fillers = FillerParam(), FillerParam(), FillerParam(value=1.0), scale, param.bias_filler
        for i, filler in enumerate(fillers):
            self.add_blob((1,) if i == 2 else (self.channels,), filler)
        self.keep_from_training(*self.blobs[:3])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self.broadcast.rows(bottom[0].stored), self.broadcast.rows(top[0].stored)
        if self.uses_moving:
            self._save(x)
            self.mean, variance = self.coefficients(0).copy(), self.coefficients(1)
        else:
            self.mean, variance, correction = self.batch_moments(x)
            self._track(self.mean, variance * correction)
        self.normalize(x, variance, self.eps, y)

    def _save(self, x: Array) -> None:
        if any(self.param_propagate_down[self.learned]):
            self.saved_input.save(x)

    def _track(self, mean: Array, variance: Array) -> None:
        kept = self.fraction if self.batches else 0.0
        self.batches += 1
        for blob, new in zip(self.blobs[:2], (mean, variance), strict=True):
            blob.data[...] = kept * blob.data + (1 - kept) * new.reshape(blob.shape)

    def state(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def restore(self, state: dict[str, Any]) -> None:
        self.batches = self.count_in(state, "batches")

    def scale_and_shift(self) -> tuple[Array, Array] | None:
        """s and t of y = s · x + t at TEST, (C,); None at TRAIN."""
        if not self.uses_moving:
            return None
        mean, variance, _, slope, bias = (blob.values for blob in self.blobs)
        scale = slope / self.xp.sqrt(variance + self.eps)
        return scale, bias - scale * mean

    def as_map(self) -> Map | None:
        if not self.uses_moving:
            return None
        mean, variance, _, slope, bias = (blob.values for blob in self.blobs)
        return Affine(slope / self.xp.sqrt(variance + self.eps), bias, center=mean)

    @property
    def map_settings(self) -> tuple[object, ...]:
        return self.uses_moving, self.eps

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = self.broadcast.rows(top[0].stored_diff)
        dx = self.broadcast.rows(bottom[0].stored_diff) if propagate_down[0] else None
        if not self.uses_moving:
            self.batch_grads(bottom, dy, dx)
            return
        self.add_param_grads(self.saved_input.original(self.broadcast.rows(bottom[0].stored)), dy)
        if dx is not None:
            self.multiply(dy, self.inverse_std * self.slope_and_bias()[0], dx)

    def converter(
        self, shapes: list[tuple[int, ...]]
    ) -> Callable[[list[np.ndarray]], list[np.ndarray]] | None:
        if len(shapes) != 5 or np.prod(shapes[4]) != 1 or self.channels == 1:
            return None

        def in_order(arrays: list[np.ndarray]) -> list[np.ndarray]:
            blobs = [arrays[i].reshape(-1) for i in DIGITS_ORDER]
            blobs[2] = np.ones_like(blobs[2])
            return blobs

        return in_order
