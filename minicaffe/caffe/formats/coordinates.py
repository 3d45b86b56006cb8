"""How coordinates of one blob of a net map to those of another: to crop and align feature maps.

A map is (axis, a, b): from the axis on, what lies at i in the layer's bottom lies at a · i + b in its top; (None,
1, 0) is the identity of pointwise layers. For windows of effective size k = (kernel − 1) · dilation + 1:

    Convolution, Pooling, Im2col   a = 1 / stride     b = (pad − (k − 1) / 2) / stride
    Deconvolution                  a = stride         b = (k − 1) / 2 − pad
    Crop                           a = 1              b = −offset

What layers and tops are is pycaffe's: a top has its layer as ``fn``, a layer ``type_name``, ``params`` and the tops
that are its ``inputs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

PASS_THROUGH_LAYERS = {
    *("AbsVal", "BNLL", "BatchNorm", "Bias", "Clip", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "MVN"),
    *("PReLU", "Power", "ReLU", "ReLU6", "Scale", "Sigmoid", "Split", "Swish", "TanH", "Threshold"),
}
OLD_FIELDS = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}

Map = tuple[Any, Any, Any]
IDENTITY: Map = (None, 1, 0)


class Function(Protocol):
    """A layer of a net."""

    @property
    def type_name(self) -> str:
        """Its type."""

    @property
    def params(self) -> Mapping[str, Any]:
        """What was set of it."""

    @property
    def inputs(self) -> Sequence[Top]:
        """The blobs that it takes."""


class Top(Protocol):
    """A blob that a layer makes."""

    @property
    def fn(self) -> Function:
        """The layer."""


class UndefinedMapException(Exception):
    """The layer's type has no map of coordinates."""


class AxisMismatchException(Exception):
    """Maps that begin at different axes do not follow each other."""


def coord_map(fn: Function) -> Map:
    """The map of one layer. Raises UndefinedMapException."""
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, size, pad = _window(fn)
        return axis, 1 / stride, (pad - (size - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, size, pad = _window(fn)
        return axis, stride, (size - 1) / 2 - pad
    if fn.type_name == "Crop":
        params = fn.params.get("crop_param", fn.params)
        return params.get("axis", 2) - 1, 1, -_vector(params.get("offset", 0))
    raise UndefinedMapException(f"{fn.type_name} has no map of coordinates")


def _window(fn: Function) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Axis, stride, effective kernel size, and pad."""
    params = fn.params.get("pooling_param" if fn.type_name == "Pooling" else "convolution_param", fn.params)
    assert not OLD_FIELDS & set(params), "sizes with _h and _w are not understood here: give lists"
    size = (_vector(params["kernel_size"]) - 1) * _vector(params.get("dilation", 1)) + 1
    return params.get("axis", 1), _vector(params.get("stride", 1)), size, _vector(params.get("pad", 0))


def _vector(value: Any) -> np.ndarray:
    return np.array(value, ndmin=1)


def compose(base: Map, following: Map) -> Map:
    """The map that is ``base`` after ``following``. Raises AxisMismatchException."""
    (axis1, a1, b1), (axis2, a2, b2) = base, following
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(f"axes {axis1} and {axis2}")
    return axis2 if axis1 is None else axis1, a1 * a2, a1 * b2 + b1


def inverse(map_: Map) -> Map:
    """The map back."""
    axis, a, b = map_
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from ``top_from`` to ``top_to``, through a blob that both come from; else RuntimeError."""
    known: dict[Top, Map] = {}
    _walk(top_from, known, lambda top: False)
    back: dict[Top, Map] = {}
    shared = _walk(top_to, back, known.__contains__)
    if shared is None:
        raise RuntimeError("no map between these tops: are they connected by layers that keep places apart?")
    return compose(back[shared], inverse(known[shared]))


def _walk(top: Top, maps: dict[Top, Map], is_found: Callable[[Top], bool]) -> Top | None:
    """Go from a top down to what it is made from, and note the map from each; stop at one that is looked for."""
    maps[top] = IDENTITY
    waiting = [top]
    while waiting:
        top = waiting.pop()
        if is_found(top):
            return top
        # the second bottom of Crop is only a size
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        try:
            for bottom in bottoms:
                maps[bottom] = compose(maps[top], coord_map(top.fn))
                waiting.append(bottom)
        except UndefinedMapException:
            continue
    return None
