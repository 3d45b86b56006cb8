"""What a report says about each layer in words and numbers: its kind, settings, formula, count, window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.errors import listing
from minicaffe.inspect.formula import formula_of
from minicaffe.inspect.receptive_fields import receptive_fields
from minicaffe.inspect.report.blocks import blocks_of
from minicaffe.inspect.report.record import RecordedLayer, Recording
from minicaffe.inspect.report.says import said
from minicaffe.inspect.summary import LayerRow, layer_rows
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.ops.convolution.geometry import ReceptiveField, Window
from minicaffe.spec.fields import Message

KINDS = {
    "Convolution": "conv",
    "Deconvolution": "conv",
    "DepthwiseConvolution": "conv",
    "InnerProduct": "ip",
    "Pooling": "pool",
    "SPP": "pool",
    "ROIPooling": "pool",
    "PSROIPooling": "pool",
    "Input": "data",
    "Softmax": "data",
    "Accuracy": "data",
}
COMMON = (
    "include",
    "exclude",
    "param",
    "loss_weight",
    "propagate_down",
)  # of the fields that all layers have


def kind_of(layer: Layer) -> str:
    """conv, ip, pool, data (which includes what is read out), loss or other: what colours tell apart."""
    if layer.is_loss:
        return "loss"
    return KINDS.get(layer.type, "data" if layer.spec.brings_data else "other")


def told_zeros(net: Net) -> str:
    """What to know of a net that has layers whose weights are all 0, which is how they begin without a filler."""
    weighty = [layer for layer in net.layers if kind_of(layer) in ("conv", "ip") and layer.blobs]
    zeros = [layer.name for layer in weighty if not layer.blobs[0].data.any()]
    if not zeros:
        return ""
    which = "all layers" if len(zeros) == len(weighty) else f"layer {listing(zeros, 3)}"
    return (
        f"The weights of {which} are 0, so nothing of the picture comes through: give the net its weights "
        "(--weights FILE). Without them a layer begins as its weight_filler says, or else with zeros."
    )


def settings_of(layer: Layer) -> list[tuple[str, str]]:
    """The fields that the spec gives the layer, with their values, as a spec writes them."""
    rows = [(name, _text(getattr(layer.spec, name))) for name in COMMON if layer.spec.has(name)]
    for name in layer.messages:
        message = getattr(layer.spec, name, None)
        if message is not None and layer.spec.has(name):
            rows += [
                (field, _text(getattr(message, field))) for field in message.fields if message.has(field)
            ]
    return rows


def _text(value: Any) -> str:
    if isinstance(value, Message):
        given = [f"{name}: {_text(getattr(value, name))}" for name in value.fields if value.has(name)]
        return "{" + ", ".join(given) + "}"
    if isinstance(value, (list, tuple)):
        return _text(value[0]) if len(value) == 1 else "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def window_of(layer: Layer) -> Window | None:
    """The window that slides over the layer's bottom, if there is one, of two spatial axes."""
    window = getattr(layer, "window", None)
    return window if isinstance(window, Window) and len(window.kernel) == 2 else None


def count_text(step: Step) -> str:
    """The layer's multiply-adds, spelled out: "50 · 20·5·5 · 8·8 = 1,600,000 multiply-adds"; "" for none."""
    layer, count = step.layer, step.multiply_adds
    if not count:
        return ""
    total = f"{count:,} multiply-adds"
    if not layer.blobs:
        return total
    dense = count
    stages = [(layer.blobs[0].shape, step.top[0].shape[2:])]
    if isinstance(layer, LowRankLayer):
        dense = sum(product.geometry.multiply_adds for product in layer.low_rank.dense)
        stages = [(g.weight_shape, g.output) for g in layer.low_rank.product(0).geometries]
    if sum(math.prod(weights) * math.prod(size) for weights, size in stages) != count:
        return total
    spelled = " + ".join(itertools.starmap(_product, stages))
    return f"{spelled} = {total}" + (f"; dense it would be {dense:,}" if dense != count else "")


def _product(weights: Sequence[int], size: Sequence[int]) -> str:
    """Filters, numbers of each, places: "50 · 20·5·5 · 8·8"; sizes of 1 at the end are left out."""
    while len(weights) > 2 and weights[-1] == 1:
        weights = weights[:-1]
    places = size if math.prod(size) > 1 else ()
    parts = [str(weights[0]), "·".join(map(str, weights[1:])), "·".join(map(str, places))]
    return " · ".join(part for part in parts if part)


def facts(recording: Recording) -> list[dict[str, Any]]:
    """What the page knows of each layer, but for its arrays."""
    rows = layer_rows(recording.net)
    fields = receptive_fields(recording.net)
    blocks = blocks_of(recording, [kind_of(recorded.layer) for recorded in recording.layers])
    return [
        _facts(layer, block, recording.net.steps[layer.step], row, fields[layer.name])
        | said(layer, recording)
        for layer, block, row in zip(recording.layers, blocks, rows, strict=True)
    ]


def _facts(
    recorded: RecordedLayer, block: str, step: Step, row: LayerRow, field: ReceptiveField | None
) -> dict[str, Any]:
    layer = recorded.layer
    window = window_of(layer)
    return {
        "name": layer.name,
        "block": block,
        "type": layer.type,
        "kind": kind_of(layer),
        "step": recorded.step,
        "bottoms": recorded.bottoms,
        "tops": recorded.tops,
        "settings": settings_of(layer),
        "formula": formula_of(layer),
        "parameters": row.params,
        "parameters_dense": row.params_dense,
        "parameters_share": row.params_share,
        "multiply_adds": row.multiply_adds,
        "multiply_adds_share": row.multiply_adds_share,
        "activation_bytes": row.activation_bytes,
        "count_text": count_text(step),
        "window": None if window is None else _sizes(window, "kernel", "stride", "pad", "dilation"),
        "group": int(getattr(layer, "group", 1)),
        "rank": None if row.rank is None else {"r": row.rank, "full": row.full_rank},
        "receptive_field": None if field is None else _sizes(field, "size", "stride", "offset"),
        "note": row.note,
    }


def _sizes(owner: object, *names: str) -> dict[str, list[int]]:
    return {name: list(getattr(owner, name)) for name in names}


BINS = 64


def rounded(x: float | np.floating[Any]) -> float:
    """A number to seven digits, which are about what float32 has."""
    return float(f"{x:.7g}")


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Least, mean, largest, standard deviation, zeros and share ≤ 0 of an array, with a histogram of its numbers.

    Zeros are counted apart: the histogram is of the others.
    """
    flat = np.asarray(values, np.float32).ravel()
    finite = flat[np.isfinite(flat)]
    bad = flat.size - finite.size
    if not finite.size:
        return {"count": int(flat.size), "not_finite": int(bad)}
    lo, hi = rounded(finite.min()), rounded(finite.max())
    others = finite[finite != 0]
    ends = (float(finite.min()), float(finite.max())) if hi > lo else (lo - 0.5, lo + 0.5)
    return {
        "count": int(flat.size),
        "min": lo,
        "mean": rounded(finite.mean(dtype=np.float64)),
        "max": hi,
        "std": rounded(finite.std(dtype=np.float64)),
        "zeros": int(finite.size - others.size),
        "not_positive": int((finite <= 0).sum()),
        "not_finite": int(bad),
        "histogram": {"counts": _histogram(others, ends).tolist(), "lo": lo, "hi": hi},
    }


def _histogram(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """How many values (float32) lie in each of BINS parts between the ends.

    In float64, a part at a time: between close ends float32 has too few numbers, and for far ones no distance.
    """
    counts = np.zeros(BINS, np.int64)
    for start in range(0, len(values), 1 << 20):
        counts += np.histogram(values[start : start + (1 << 20)].astype(np.float64), BINS, ends)[0]
    return counts
