"""BatchNorm: each channel normalised to mean 0 and variance 1 over the batch. A Scale layer adds scale and shift.

    y = (x − μ) / √(σ² + ε)        dx = (dy − mean(dy) − y · mean(dy · y)) / √(σ² + ε)

Three blobs track the statistics of the batches, with f = ``moving_average_fraction``:

    blob 0 ← f · blob 0 + μ        blob 1 ← f · blob 1 + σ² · m / (m − 1)        blob 2 ← f · blob 2 + 1

Shapes: x, y (N, C, H, W), stored (C, H, W, N); μ, σ² (C,), each over m = N·H·W elements.

With ``sync``, a field of ours, the batch is that of all ranks that train together (``over_ranks.py``). Without it
each rank has statistics of its own, as in Caffe.

With global statistics (the default at TEST) μ = blob 0 / blob 2 and σ² = blob 1 / blob 2, or 0 while blob 2 is 0,
and dx = dy / √(σ² + ε).

Caffe's BatchNormLayer; Ioffe and Szegedy 2015 (arXiv 1502.03167). With a scale and a bias it is NVIDIA's, in
``scaled_batch_norm.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.device.communicator import ALONE
from minicaffe.layers.in_place import SavedInput
from minicaffe.layers.over_ranks import OverRanks
from minicaffe.ops import channels
from minicaffe.ops.channels import Broadcast
from minicaffe.ops.epilogue import Affine, Map
from minicaffe.ops.normalization import grad_means, moments, normalize, normalize_grad
from minicaffe.spec.fields import ENGINE, Bool, Float, Message, Nested


class BatchNormParam(Message):
    """``use_global_stats``: by default false at TRAIN, true at TEST.

    ``sync``: a batch's statistics are those of the batches of all ranks that train together.

    ``scale_bias``, and the fillers that imply it, make it NVIDIA's layer, with five blobs.
    """

    use_global_stats = Bool()
    moving_average_fraction = Float(0.999, min=0, max=1)
    eps = Float(1e-5, min=0)
    sync = Bool(False)
    scale_bias = Bool(False)
    scale_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    engine = ENGINE

    @property
    def has_scale(self) -> bool:
        """Whether the layer scales and shifts, too."""
        return self.scale_bias or self.has("scale_filler") or self.has("bias_filler")


@register_layer
class BatchNorm(Layer):
    """Batch normalisation. Its three blobs are statistics, not weights: no gradient, no decay."""

    messages = {"batch_norm_param": BatchNormParam}
    in_place = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(BatchNormParam)
        self.uses_global_stats = self.phase == "TEST"
        if self.param.use_global_stats is not None:
            self.uses_global_stats = self.param.use_global_stats
        self.over_ranks = OverRanks(self.setting.communicator if self.param.sync else ALONE)
        self.channels = self._channels(bottom[0].shape)
        for shape in [(self.channels,), (self.channels,), (1,)]:
            self.add_blob(shape, FillerParam())
        self.keep_from_training(*self.blobs)

    @property
    def is_synced(self) -> bool:
        """Whether this layer's statistics are made over several ranks."""
        return self.over_ranks.are_several and not self.uses_global_stats

    def _channels(self, shape: tuple[int, ...]) -> int:
        if not shape:
            raise self.shape_error("bottom has no axes; expected (N, C, …)")
        return shape[1] if len(shape) > 1 else 1

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if self._channels(shape) != self.channels:
            raise self.shape_error(
                f"bottom has shape {shape}; expected {self.channels} channels, as at the start"
            )
        top[0].reshape(*shape)
        self.broadcast = Broadcast(shape, 1, 1) if len(shape) > 1 else Broadcast(shape, 0, 0)
        self.saved_input = SavedInput(bottom, top)
        self.normalized: Array | None = None
        self._room: Array | None = None

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self.broadcast.rows(bottom[0].stored), self.broadcast.rows(top[0].stored)
        self.normalized = None
        self.find_statistics(x, lambda x: moments(x, copy=self.saved_input.buffer_for(x)))
        normalize(x, self.mean, self.inverse_std, out=y)

    def find_statistics(self, x: Array, find: Callable[[Array], tuple[Array, Array]]) -> None:
        """Find μ and 1 / √(σ² + ε) for this forward; those of a batch by ``find``, and track them."""
        if self.uses_global_stats:
            self.mean, variance = (self.broadcast.spread(found) for found in self._global_stats())
        else:
            self.mean, variance, correction = self.over_ranks.moments(*find(x), x.shape[1])
            self._track(self.mean, variance * correction)
        self.inverse_std = 1 / self.xp.sqrt(variance + self.param.eps)

    def room_for_normalized(self, x: Array) -> Array:
        """Where a unit keeps x̂ = (x − μ) / √(σ² + ε) for backward, in the shape of x."""
        if self._room is None:
            self._room = module_of(x).empty_like(x)
        self.normalized = self._room
        return self._room

    def as_map(self) -> Map | None:
        if not self.uses_global_stats:
            return None
        mean, variance = self._global_stats()
        inverse_std = 1 / self.xp.sqrt(variance + self.param.eps)
        return Affine(inverse_std, center=mean)

    @property
    def map_settings(self) -> tuple[object, ...]:
        return self.uses_global_stats, self.param.eps

    def _global_stats(self) -> tuple[Array, Array]:
        """The tracked μ and σ², (C,)."""
        mean, variance, total = (blob.values for blob in self.blobs)
        share = (total != 0) / (total + (total == 0))  # 1 / total, or 0 if total is 0
        return mean * share, variance * share

    def _track(self, mean: Array, unbiased: Array) -> None:
        """Add a batch's mean and its σ² · m / (m − 1) to the moving sums."""
        news: list[Any] = [mean.reshape(-1), unbiased.reshape(-1), 1]
        for blob, new in zip(self.blobs, news, strict=True):
            blob.data[...] = self.param.moving_average_fraction * blob.data + new

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = self.broadcast.rows(top[0].stored_diff), self.broadcast.rows(bottom[0].stored_diff)
        if self.uses_global_stats:
            channels.in_blocks(self._divide, dy, self.inverse_std, dx)
            return
        if self.normalized is not None:  # a unit's forward, but not its backward
            zero = self.xp.zeros_like(self.mean)
            self._normalize_grad(self.normalized, dy, zero, zero + 1, dx)
            channels.in_blocks(self._divide, dx, self.inverse_std, dx)
            return
        x = self.saved_input.original(self.broadcast.rows(bottom[0].stored))
        self._normalize_grad(x, dy, self.mean, self.inverse_std, dx)

    def _normalize_grad(self, x: Array, dy: Array, mean: Array, inverse_std: Array, dx: Array) -> None:
        means = self.over_ranks.grad_means(*grad_means(x, dy, mean, inverse_std), inverse_std)
        normalize_grad(x, dy, mean, inverse_std, out=dx, means=means)

    def _divide(self, dy: Array, inverse_std: Array, dx: Array) -> None:
        self.xp.multiply(dy, inverse_std, out=dx)
