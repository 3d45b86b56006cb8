"""Where the Crop layers of the first FCNs cut. They had no setting for it: maps of coordinates told them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.caffe.formats.coordinates import AxisMismatchException, coord_map_from_to
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.errors import SpecError
from minicaffe.spec.reader import Where

logger = logging.getLogger("minicaffe")
WINDOWS = ("convolution_param", "pooling_param")
HALVES = {
    "kernel_size": ("kernel_h", "kernel_w"),
    "stride": ("stride_h", "stride_w"),
    "pad": ("pad_h", "pad_w"),
}


@dataclass(eq=False)
class _Layer:
    type_name: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    inputs: list[_Top] = field(default_factory=list)


@dataclass(eq=False)
class _Top:
    fn: _Layer


def write_crop_offsets(layers: list[Tree], crops: list[Tree], where: Where) -> None:
    """Give those layers that are ``crops`` the offset that they had. Raises SpecError where there is none.

    Warns of others that say nothing of where they cut, in a net that would have them cut elsewhere than at 0.
    """
    tops: dict[str, _Top] = {}
    for layer in layers:
        fn = _Layer(layer.text("type"), _params(layer))
        fn.inputs = [tops.setdefault(name, _Top(_Layer())) for name in layer.texts("bottom")]
        place = where.at(line=layer.line, layer=layer.text("name"))
        if any(layer is crop for crop in crops):
            offset = _offset(fn, place)
            layer.child("crop_param").fields["offset"] = [Scalar(str(n), layer.line) for n in offset]
            fn.params = {"crop_param": {"offset": offset}}
        elif layer.text("type") == "Crop" and not layer.trees("crop_param"):
            _warn_of(fn, place)
        tops.update({name: _Top(fn) for name in layer.texts("top")})


def _warn_of(crop: _Layer, where: Where) -> None:
    try:
        offset = _offset(crop, where)
    except SpecError:
        return
    if any(offset):
        numbers = " ".join(f"offset: {n}" for n in offset)
        logger.warning(
            "%s: without crop_param it cuts from the first pixel on, as in Caffe 1.0; in a net of a fork whose "
            "Crop finds its place itself (HED's), give it crop_param { axis: 2 %s }",
            *(where, numbers),
        )


def _params(layer: Tree) -> dict[str, Any]:
    """The settings of windows, and where others cut, as numbers."""
    params: dict[str, Any] = {}
    for name in WINDOWS:
        for tree in layer.trees(name):
            found = {key: _numbers(tree.texts(key)) for key in (*HALVES, "dilation")}
            for key, halves in HALVES.items():
                if any(map(tree.texts, halves)):
                    default = "0" if key == "pad" else "1"
                    found[key] = _numbers([tree.text(half) or default for half in halves])
            params[name] = {key: numbers for key, numbers in found.items() if numbers}
    for tree in layer.trees("crop_param"):
        params["crop_param"] = {"offset": _numbers(tree.texts("offset")) or [0]}
    return params


def _numbers(texts: list[str]) -> list[int]:
    """The numbers, or none where one is no number: the spec says so."""
    return [int(text) for text in texts] if all(len(text) < 10 and text.isdecimal() for text in texts) else []


def _offset(crop: _Layer, where: Where) -> list[int]:
    advice = "give it crop_param { axis: 2 offset: … }"
    if len(crop.inputs) != 2:
        raise SpecError(f"{where}: {len(crop.inputs)} bottoms; a CROP has 2")
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            _, scale, shift = coord_map_from_to(*crop.inputs)
        offset = [round(-float(value)) for value in np.atleast_1d(shift)]
    except (RuntimeError, AxisMismatchException, KeyError, ValueError, ArithmeticError):
        raise SpecError(
            f"{where}: where it cuts does not follow from the layers before it; {advice}"
        ) from None
    if not np.all(np.isclose(scale, 1)) or min(offset) < 0:
        raise SpecError(
            f"{where}: its bottoms are of different scales, or the first one is too small; {advice}"
        )
    return offset
