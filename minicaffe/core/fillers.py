"""Fillers: initial values of parameters (Caffe's ``filler.hpp``).

``fan_in`` is count / shape[0] and ``fan_out`` count / shape[1], as Caffe defines them; ``variance_norm``
chooses the n that xavier and msra divide by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.device.array import Array
from minicaffe.spec.fields import Enum, Float, Int, Message, String
from minicaffe.spec.reader import nearest


class FillerParam(Message):
    """``weight_filler: {type: xavier}``; which of the other fields count depends on the type."""

    type = String("constant")
    value = Float(0.0)
    min = Float(0.0)
    max = Float(1.0)
    mean = Float(0.0)
    std = Float(1.0, min=0)
    sparse = Int(-1, min=-1)
    variance_norm = Enum("FAN_IN", "FAN_OUT", "AVERAGE", default="FAN_IN")

    def check(self) -> None:
        if self.type not in FILLERS:
            known = ", ".join(FILLERS)
            raise self.error(
                "type", f"unknown filler '{self.type}'; one of {known}{nearest(self.type, FILLERS)}"
            )
        if self.sparse >= 0 and self.type != "gaussian":
            raise self.error("sparse", f"only the gaussian filler can be sparse, not '{self.type}'")

    @property
    def is_zero(self) -> bool:
        """Whether the blob stays all zeros."""
        return self.type == "constant" and self.value == 0


def _fan(shape: tuple[int, ...], norm: str) -> float:
    shape = shape or (1,)
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]


def _uniform(rng: Any, shape: tuple[int, ...], low: float, high: float) -> Array:
    values: Array = low + (high - low) * rng.random(shape)
    return values


def constant(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Every element is ``value``."""
    values: Array = blob.device.xp.full(blob.shape, param.value)
    return values


def uniform(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Uniform in [min, max)."""
    return _uniform(rng, blob.shape, param.min, param.max)


def gaussian(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Normal with ``mean`` and ``std``; ``sparse`` keeps about that many of the shape[0] values of a column."""
    values: Array = param.mean + param.std * rng.standard_normal(blob.shape)
    if param.sparse >= 0:
        values = values * (rng.random(blob.shape) < param.sparse / (blob.shape or (1,))[0])
    return values


def positive_unitball(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Positive; the values of each index of the first axis sum to 1."""
    slices = (blob.shape or (1,))[0]
    values: Array = rng.random((slices, blob.count // slices))
    values /= values.sum(axis=1, keepdims=True)
    return values.reshape(blob.shape)


def xavier(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Uniform in ±sqrt(3 / n) (Glorot and Bengio 2010; Caffe's n is fan_in)."""
    scale = math.sqrt(3 / _fan(blob.shape, param.variance_norm))
    return _uniform(rng, blob.shape, -scale, scale)


def msra(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """Normal with standard deviation sqrt(2 / n) (He et al. 2015)."""
    values: Array = math.sqrt(2 / _fan(blob.shape, param.variance_norm)) * rng.standard_normal(blob.shape)
    return values


def bilinear(blob: Blob, param: FillerParam, rng: Any) -> Array:
    """The kernel of bilinear upsampling, for a square Deconvolution kernel (Long et al. 2015)."""
    if len(blob.shape) != 4 or blob.shape[2] != blob.shape[3]:
        raise param.error("type", f"bilinear needs a square 4-axis kernel, not {blob.shape}")
    xp, size = blob.device.xp, blob.shape[3]
    half = math.ceil(size / 2)
    centre = (size - 1) / (2 * half)
    ramp = 1 - abs(xp.arange(size) / half - centre)
    values: Array = xp.broadcast_to(ramp[:, None] * ramp, blob.shape)
    return values


FILLERS: dict[str, Callable[[Blob, FillerParam, Any], Array]] = {
    "constant": constant,
    "uniform": uniform,
    "gaussian": gaussian,
    "positive_unitball": positive_unitball,
    "xavier": xavier,
    "msra": msra,
    "bilinear": bilinear,
}


def fill(blob: Blob, param: FillerParam, rng: Any) -> None:
    """Fill the blob's data, in Caffe's shape, as ``param`` says. Raises SpecError if it suits no such shape."""
    if blob.count:
        blob.write(FILLERS[param.type](blob, param, rng))
