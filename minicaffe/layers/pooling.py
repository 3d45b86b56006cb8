"""Pooling: the maximum, the average, or a randomly sampled pixel of each window.

    MAX          y = max x           dx = dy at the first maximum of each window
    AVE          y = Σ x / area      dx = dy / area; area: the window clipped to the padded image
    STOCHASTIC   y = x sampled with probability x / Σ x at TRAIN, Σ x² / Σ x at TEST

Shapes: x (N, C, H, W), stored (C, H, W, N); y (N, C, OH, OW), stored (C, OH, OW, N), with
OH = ceil((H + 2·pad − kernel) / stride) + 1. A last window that would start in the padding after the image is
dropped.

Caffe's PoolingLayer; STOCHASTIC: Zeiler and Fergus 2013 (arXiv 1301.3557).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls
from minicaffe.errors import TrainingError
from minicaffe.ops import pooling
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.epilogue import Epilogue
from minicaffe.spec.fields import ENGINE, Bool, Enum, Int, Message

logger = logging.getLogger("minicaffe")


class PoolingParam(Message):
    """Sizes are one field for both axes, or a pair with ``_h`` and ``_w``.

    ``global_pooling`` takes the whole image; ``ceil_mode: false`` is what forks call ``round_mode: FLOOR``.
    """

    pool = Enum("MAX", "AVE", "STOCHASTIC", default="MAX")
    pad = Int(0, min=0)
    pad_h = Int(0, min=0)
    pad_w = Int(0, min=0)
    kernel_size = Int(min=1)
    kernel_h = Int(min=1)
    kernel_w = Int(min=1)
    stride = Int(1, min=1)
    stride_h = Int(min=1)
    stride_w = Int(min=1)
    engine = ENGINE
    global_pooling = Bool(False)
    round_mode = Enum("CEIL", "FLOOR", default="CEIL")
    ceil_mode = Bool(True)

    def check(self) -> None:
        for whole, part in (("kernel_size", "kernel"), ("stride", "stride"), ("pad", "pad")):
            if self.has(whole) and (self.has(f"{part}_h") or self.has(f"{part}_w")):
                raise self.error(whole, f"give either {whole}, or {part}_h and {part}_w, not both")
        for name in ("kernel_size", "kernel_h", "kernel_w"):
            if self.global_pooling and self.has(name):
                raise self.error(name, "global_pooling takes the whole image; leave the kernel size out")
        if self.global_pooling and self._pair("pad", "pad") != (0, 0):
            raise self.error("pad", "global_pooling takes the whole image; leave pad out")
        if self.global_pooling and self._pair("stride", "stride") != (1, 1):
            raise self.error("stride", "global_pooling takes the whole image; leave stride out")
        if self.has("ceil_mode") and self.has("round_mode"):
            raise self.error("ceil_mode", "round_mode is given too; keep round_mode")
        if not (
            self.global_pooling or self.has("kernel_size") or (self.has("kernel_h") and self.has("kernel_w"))
        ):
            raise self.error(
                "kernel_size", "required, but not given; add 'kernel_size: …', or kernel_h and kernel_w"
            )

    def window(self, image: tuple[int, int]) -> Window:
        """The window for an (H, W) image."""
        if self.global_pooling:
            return Window(image)
        return Window(
            self._pair("kernel_size", "kernel"), self._pair("stride", "stride"), self._pair("pad", "pad")
        )

    @property
    def rounds_up(self) -> bool:
        """Whether a window that reaches beyond the image counts."""
        return self.round_mode == "CEIL" and self.ceil_mode

    def _pair(self, whole: str, part: str) -> tuple[int, int]:
        names = (f"{part}_h", f"{part}_w")
        return tuple(getattr(self, name if self.has(name) else whole) for name in names)


@register_layer
class Pooling(Layer):
    """Pooling over windows; for MAX, a second top takes the index h·W + w of each maximum."""

    messages = {"pooling_param": PoolingParam}
    tops = (1, 2)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(PoolingParam)
        self.has_warned = False
        if len(top) == 2 and self.param.pool != "MAX":
            raise self.spec.error("top", "a second top (the indices of the maxima) is for MAX pooling only")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.shape_error(f"bottom has shape {shape}; expected 4 axes (N, C, H, W)")
        self.window = window = self.param.window(shape[2:])
        if any(pad >= kernel for pad, kernel in zip(window.pad, window.kernel, strict=True) if pad):
            raise self.param.error("pad", f"{window.pad} must be smaller than the kernel {window.kernel}")
        size = pooling.output_size(shape[2:], window, round_up=self.param.rounds_up)
        if min(size) < 1:
            raise self.shape_error(f"a window of {window.kernel} does not fit in a bottom of shape {shape}")
        self._warn_of_blind_windows(shape[2:], size)
        for blob in top:
            blob.reshape(*shape[:2], *size)
        self.picked = self.new_array(top[0].stored_shape, pooling.position_type(window))
        self.picked_is_known = False

    def _warn_of_blind_windows(self, image: tuple[int, int], size: Sequence[int]) -> None:
        """If the stride is larger than the kernel, rounding up may add windows that see nothing of the image."""
        window = self.window
        starts = [
            (n - 1) * stride - pad for n, stride, pad in zip(size, window.stride, window.pad, strict=True)
        ]
        if not self.has_warned and any(start >= length for start, length in zip(starts, image, strict=True)):
            self.has_warned = True
            logger.warning(
                "%s: the last windows lie entirely outside the image, and give what they do in Caffe "
                "(MAX: -3.4e38); 'round_mode: FLOOR' leaves them out",
                self.spec.where,
            )

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].stored, top[0].stored
        if self.param.pool == "AVE":
            pooling.ave_pool(x, self.window, y)
        elif self.param.pool == "MAX":
            self.picked_is_known = self.phase == "TRAIN" or len(top) == 2
            pooling.max_pool(x, self.window, y, self.picked if self.picked_is_known else None)
        elif self.phase == "TRAIN":
            threshold = self.rng.random(y.shape, dtype=y.dtype)
            pooling.sample_pool(x, self.window, threshold, y, self.picked)
        else:
            pooling.expected_pool(x, self.window, y)
        if len(top) == 2:
            pooling.flat_positions(self.picked, self.window, x.shape[2], top[1].stored)

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        x, y = bottom[0].stored, top[0].stored
        if self.param.pool == "AVE":
            return pooling.ave_pool_calls(x, self.window, y)
        if self.param.pool == "STOCHASTIC" or self.phase == "TRAIN" or len(top) == 2:
            return None
        return [partial(setattr, self, "picked_is_known", False), *pooling.max_pool_calls(x, self.window, y)]

    @property
    def map_settings(self) -> tuple[object, ...]:
        return self.param.pool, self.window

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dy, dx = top[0].stored_diff, bottom[0].stored_diff
        if self.param.pool == "AVE":
            pooling.ave_pool_grad(dy, self.window, dx)
            return
        if self.param.pool == "MAX":
            self._find_picked(bottom[0].stored)
        elif self.phase == "TEST":
            raise TrainingError(f"{self.spec.where}: STOCHASTIC pooling has no gradient in the test phase")
        pooling.max_pool_grad(dy, self.picked, self.window, dx)

    def _find_picked(self, x: Array) -> None:
        """A forward in the test phase does not record the positions, since few nets run backward there."""
        if not self.picked_is_known:
            pooling.max_pool(x, self.window, self.new_array(self.picked.shape), self.picked)
            self.picked_is_known = True
