"""BN: each channel normalised to mean 0 and variance 1 over the batch, then scaled and shifted, in one layer.

    y = a · u + b,  u = (x − μ) / √(σ² + ε)        da = Σ dy · u        db = Σ dy
    dx = a · (dy − mean(dy) − u · mean(dy · u)) / √(σ² + ε)

Shapes: x, y (N, C, H, W), stored (C, H, W, N); slope a, bias b, moving mean and moving variance, each (1, C, 1, 1).

At TRAIN μ and σ² are the batch's, and with f = ``momentum``: moving ← f · moving + (1 − f) · the batch's. At TEST,
and if ``frozen``, they are the moving ones; then dx = a · dy / √(σ² + ε), and a and b are not trained.

With ``sync``, a field of ours, the batch is that of all ranks that train together (``over_ranks.py``).

The BNLayer of PSPNet's Caffe (hszhao/PSPNet; yjxiong/caffe). Caffe 1.0 does the same with BatchNorm and Scale.
SegNet's layer of this name is in ``segnet_bn.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.communicator import ALONE
from minicaffe.device.workers import scratch
from minicaffe.errors import WeightError
from minicaffe.layers.in_place import SavedInput
from minicaffe.layers.over_ranks import OverRanks
from minicaffe.ops import channels
from minicaffe.ops.channels import Broadcast
from minicaffe.ops.epilogue import Affine, Map
from minicaffe.ops.normalization import grad_means, moments, normalize_grad
from minicaffe.spec.fields import ENGINE, Bool, Enum, Float, Message, Nested
from minicaffe.spec.net import ParamSpec


class BNParam(Message):
    """``frozen``: use the moving statistics in training too, and train none of the layer's parameters.

    ``sync``: a batch's statistics are those of the batches of all ranks that train together.

    ``scale_filler``, ``shift_filler`` and ``bn_mode`` are those of SegNet's BN.
    """

    slope_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    momentum = Float(0.9, min=0, max=1)
    eps = Float(1e-5, min=0)
    frozen = Bool(False)
    sync = Bool(False)
    engine = ENGINE
    scale_filler = Nested(FillerParam)
    shift_filler = Nested(FillerParam)
    bn_mode = Enum("LEARN", "INFERENCE", default="LEARN")

    def check(self) -> None:
        theirs = [name for name in _OF_PSPNET if self.has(name)]
        if self.is_of_segnet and theirs:
            own = next(name for name in _OF_SEGNET if self.has(name))
            raise self.error(
                theirs[0], f"PSPNet's BN has it, but {own} is a field of SegNet's; keep the fields of one"
            )

    @property
    def is_of_segnet(self) -> bool:
        """Whether a field of SegNet's BN is given."""
        return any(self.has(name) for name in _OF_SEGNET)


_OF_PSPNET = ("slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine")
_OF_SEGNET = ("scale_filler", "shift_filler", "bn_mode")


@register_layer
class BN(Layer):
    """Batch normalisation with a learned scale and shift."""

    messages: ClassVar[dict[str, type[Message]]] = {"bn_param": BNParam}
    in_place = True
    tops = (1, 3)  # a second and a third are SegNet's
    learned = slice(0, 2)  # which of the blobs are a and b

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if len(top) > 1:
            raise self.spec.error("top", "one is enough; SegNet's BN, which has three, says 'bn_mode: LEARN'")
        self.setup_param(bottom)
        self.uses_moving = self.param.frozen or self.phase == "TEST"
        fillers = self.param.slope_filler, self.param.bias_filler
        for filler in (*fillers, FillerParam(), FillerParam(value=float(self.param.frozen))):
            self.add_blob((1, self.channels, 1, 1), filler)
        if self.param.frozen:  # whatever lr_mult the spec has, as in the original
            self.spec.param = [ParamSpec(name=param.name, lr_mult=0.0) for param in self.spec.param]
            self.keep_from_training(*self.blobs)
        self.keep_from_training(*self.blobs[2:])

    def setup_param(self, bottom: Blobs) -> None:
        """Read the message and the number of channels. Raises ShapeError for a bottom without channels."""
        self.param, shape = self.spec.message(BNParam), bottom[0].shape
        self.over_ranks = OverRanks(self.setting.communicator if self.param.sync else ALONE)
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected a batch with channels (N, C, …)")
        self.channels = shape[1]

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if shape[1:2] != (self.channels,):
            raise self.shape_error(
                f"bottom has shape {shape}; expected {self.channels} channels, as at the start"
            )
        top[0].reshape(*shape)
        self.broadcast = Broadcast(shape, 1, 1)
        self.saved_input = SavedInput(bottom, top)

    def coefficients(self, index: int) -> Array:
        """A blob as (C, 1, 1)."""
        return self.blobs[index].data.reshape(-1, 1, 1)

    def slope_and_bias(self) -> tuple[Array, Array]:
        """a and b, (C, 1, 1)."""
        slope, bias = (blob.data.reshape(-1, 1, 1) for blob in self.blobs[self.learned])
        return slope, bias

    def converter(
        self, shapes: list[tuple[int, ...]]
    ) -> Callable[[list[np.ndarray]], list[np.ndarray]] | None:
        if len(shapes) == 2:
            problem = "the weights have two arrays, as SegNet's BN has, but by its spec this is PSPNet's"
            raise WeightError(f"{self.spec.where}: {problem}; add 'bn_mode: INFERENCE', or LEARN")
        return None

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self.broadcast.rows(bottom[0].stored), self.broadcast.rows(top[0].stored)
        if self.uses_moving:
            self.mean, variance = self.coefficients(2).copy(), self.coefficients(3)
        else:
            self.mean, variance, _ = self.batch_moments(x)
            self._track(self.mean, variance)
        self.normalize(x, variance, self.param.eps, y)

    def batch_moments(self, x: Array) -> tuple[Array, Array, Array | float]:
        """μ, σ² and m / (m − 1) of a batch, which is saved for backward if y overwrites it."""
        found = moments(x, copy=self.saved_input.buffer_for(x))
        return self.over_ranks.moments(*found, x.shape[1])

    def normalize(self, x: Array, variance: Array, eps: float, y: Array) -> None:
        """y = a · (x − μ) / √(σ² + ε) + b."""
        self.inverse_std = 1 / self.xp.sqrt(variance + eps)
        slope, bias = self.slope_and_bias()
        channels.in_blocks(self._transform, x, self.mean, self.inverse_std * slope, bias, y)

    def _transform(self, x: Array, mean: Array, factor: Array, bias: Array, y: Array) -> None:
        self.xp.subtract(x, mean, out=y)
        y *= factor
        y += bias

    def scale_and_shift(self) -> tuple[Array, Array] | None:
        """s and t of y = s · x + t, (C,); None where the batch decides."""
        if not self.uses_moving:
            return None
        slope, bias, mean, variance = (blob.values.reshape(-1) for blob in self.blobs)
        scale = slope / self.xp.sqrt(variance + self.param.eps)
        return scale, bias - scale * mean

    def as_map(self) -> Map | None:
        if not self.uses_moving:
            return None
        slope, bias, mean, variance = (blob.values.reshape(-1) for blob in self.blobs)
        return Affine(slope / self.xp.sqrt(variance + self.param.eps), bias, center=mean)

    @property
    def map_settings(self) -> tuple[object, ...]:
        return self.uses_moving, self.param.eps

    def _track(self, mean: Array, variance: Array) -> None:
        """Move the moving statistics towards this batch's."""
        share = 1 - self.param.momentum
        for blob, new in zip(self.blobs[2:], (mean, variance), strict=True):
            blob.data[...] = self.param.momentum * blob.data + share * new.reshape(blob.shape)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy, dx = self.broadcast.rows(top[0].stored_diff), None
        if propagate_down[0]:
            dx = self.broadcast.rows(bottom[0].stored_diff)
        if not self.uses_moving:
            self.batch_grads(bottom, dy, dx)
        elif dx is not None:
            self.multiply(dy, self.inverse_std * self.slope_and_bias()[0], dx)

    def batch_grads(self, bottom: Blobs, dy: Array, dx: Array | None) -> None:
        """da, db and, if asked for, dx, where μ and σ² are the batch's."""
        x = self.saved_input.original(self.broadcast.rows(bottom[0].stored))
        self.add_param_grads(x, dy)
        if dx is not None:
            of_x = self.mean, self.inverse_std
            means = self.over_ranks.grad_means(*grad_means(x, dy, *of_x), self.inverse_std)
            normalize_grad(x, dy, *of_x, out=dx, means=means)
            self.multiply(dx, self.slope_and_bias()[0], dx)

    def multiply(self, dy: Array, factor: Array, dx: Array) -> None:
        """dx = factor · dy, with a factor for each channel."""
        channels.in_blocks(lambda dy, a, dx: self.xp.multiply(dy, a, out=dx), dy, factor, dx)

    def add_param_grads(self, x: Array, dy: Array) -> None:
        """Add da = Σ dy · (x − μ) / √(σ² + ε) and db = Σ dy, where they are wanted."""
        wanted = self.param_propagate_down[self.learned]
        if not any(wanted):
            return

        def products(dy: Array, x: Array, mean: Array) -> list[Array]:
            product = scratch(x, x.shape)
            self.xp.subtract(x, mean, out=product)
            product *= dy
            return [product.sum(axis=1), dy.sum(axis=1)]

        sums = channels.row_sums(products, 2, dy, x, self.mean)
        grads = sums[0] * self.inverse_std, sums[1]
        for blob, grad, is_wanted in zip(self.blobs[self.learned], grads, wanted, strict=True):
            if is_wanted:
                blob.add_to_diff(grad.reshape(blob.shape))
