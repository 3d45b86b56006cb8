"""The parameters that a report carries: all of them where the net can run in the page, else pictures of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.inspect.report.facts import rounded, statistics
from minicaffe.inspect.report.ladder import evenly
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer, as_bytes
from minicaffe.inspect.report.record import RecordedLayer, Recording
from minicaffe.low_rank.layers import LowRankLayer

EXACT = 64  # numbers: smaller parameters are float32, whatever the net's size
F32, F16 = 500_000, 1_500_000  # parameters of a net, up to which all are carried in that precision
SHARE = 0.45  # of the file, that they may take
KERNELS = 0.15  # of the file, for pictures of kernels
CAPS = [(64, 64), (32, 32), (16, 16), (16, 8), (8, 4), (8, 3)]  # filters × slices of each that are shown
NAMES = {"Convolution": "wb", "InnerProduct": "wb", "Deconvolution": "wb", "DepthwiseConvolution": "wb"}


def precision(recording: Recording, options: Options) -> str | None:
    """How all parameters are carried: "f32", "f16", or None if they are too many."""
    count = sum(param.blob.count for param in recording.net.learnable)
    for dtype, most, size in (("f32", F32, 4), ("f16", F16, 2)):
        if count <= most and count * size * 4 / 3 <= options.budget(SHARE):
            return dtype
    return None


def parameters(
    recording: Recording, packer: Packer, options: Options, maps: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """What the page knows of each layer's parameters.

    ``maps``: of each stage about so many are shown (None: all); filters are those of the same channels.
    """
    dtype, budget = precision(recording, options), options.budget(KERNELS)
    caps = [(min(filters, maps or filters), min(slices, maps or slices)) for filters, slices in CAPS]
    cap = caps[-1]
    if dtype is None:
        costs = ((c, sum(_cost(a, c) for layer in recording.layers for a in layer.params)) for c in caps)
        cap = next((c for c, cost in costs if cost <= budget), cap)
    return {layer.name: [_parameter(layer, i, dtype, cap, packer) for i in range(len(layer.params))]
            for layer in recording.layers}  # fmt: skip


def _parameter(
    layer: RecordedLayer, index: int, dtype: str | None, cap: tuple[int, int], packer: Packer
) -> dict[str, Any]:
    array = layer.params[index]
    letters = _letters(layer)
    shown, note, channels = (array, None, [None, None]) if dtype else capped(array, cap)
    kind = dtype or ("f32" if array.size <= EXACT else "u8")
    if dtype == "f16" and array.size <= 1024:  # biases and statistics cost nothing, and add up
        kind = "f32"
    found = {
        "name": letters[index] if index < len(letters) else str(index),
        "key": f"{layer.name}/{index}",
        "shape": list(array.shape),
        "values": packer.add(shown, kind, f"{layer.name}/weights") if shown.size else None,
        "note": note,
        "channels": channels,
        **statistics(array),
    }
    if layer.param_diffs:
        diff = layer.param_diffs[index]
        found["diff_mean"] = [rounded(np.abs(d).mean(dtype=np.float64)) for d in diff]
        found["norm"] = rounded(np.linalg.norm(array.ravel().astype(np.float64)))
    return found


def _letters(layer: RecordedLayer) -> str:
    """The names of a layer's first parameters in its formula, one letter each; "" for factors."""
    if not isinstance(layer.layer, LowRankLayer):
        return NAMES.get(layer.type, "")
    if layer.layer.low_rank.param.factored:
        return ""
    return "w" if layer.layer.bias_blob is None else "wb"


Channels = list[list[int] | None]


def capped(array: np.ndarray, cap: tuple[int, int]) -> tuple[np.ndarray, str | None, Channels]:
    """Some filters and slices of a parameter, what was left out, and the numbers of both (None: all).

    They are of the same channels as the maps that are shown (``ladder.reduce``).
    """
    filters, slices = cap
    channels: Channels = [None, None]
    if array.size <= EXACT:
        return array, None, channels
    names: tuple[str, ...] = ("numbers",)
    if array.ndim == 4:
        shown, names = array, ("filters", "slices of each")
        for axis, most in enumerate(cap):
            if array.shape[axis] > most:
                channels[axis] = chosen = evenly(array.shape[axis], most)
                shown = shown.take(chosen, axis)
    elif array.ndim == 2:
        shown, names = array[:filters, : 16 * slices], ("rows", "columns")
    else:
        shown = array[: 16 * slices]
    counts = zip(shown.shape, array.shape, names, strict=False)
    cut = [f"{few:,} of {count:,} {name}" for few, count, name in counts if few < count]
    return shown, ", ".join(cut) or None, channels


def _cost(array: np.ndarray, cap: tuple[int, int]) -> float:
    """About the bytes of a parameter's picture in the file: weights hardly compress."""
    shown, *_ = capped(array, cap)
    return shown.size * (4 if array.size <= EXACT else 1) * 4 / 3


def restored(array: np.ndarray) -> np.ndarray:
    """What a page reads of an array of 8 bits."""
    codes, lo, hi = as_bytes(array)
    return np.asarray(lo + codes * ((hi - lo) / 255), np.float32)
