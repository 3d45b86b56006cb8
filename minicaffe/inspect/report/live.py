"""Whether the net can run in the page, and what it needs there: an order of layers, and filters of low-rank layers.

The engine in the page has these types. A net that has another one on the way to its answer, or is too large, is
shown as it was recorded.
"""

from __future__ import annotations

from typing import Any

from minicaffe.errors import MinicaffeError
from minicaffe.inspect.report.facts import window_of
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import RecordedLayer, Recording
from minicaffe.inspect.report.weights import F16, precision
from minicaffe.train.preview import count_multiply_adds, count_parameters

MOST_WORK = 200_000_000  # multiply-adds for one picture
TYPES = {
    "Convolution", "InnerProduct", "Pooling", "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Power", "LRN",
    "BatchNorm", "Scale", "Bias", "Eltwise", "Concat", "Slice", "Flatten", "Reshape", "Dropout", "Split", "Softmax",
}  # fmt: skip


def live(recording: Recording, packer: Packer) -> dict[str, Any]:
    """``on``, ``why`` not, ``dtype`` of weights, ``order`` (names of layers), ``filters`` of low-rank layers."""
    order = way_to_answer(recording)
    why = obstacle(recording, order)
    if why is not None:
        return {"on": False, "why": why, "dtype": None, "order": [], "filters": {}}
    dtype = precision(recording)
    filters = {
        layer.name: [
            {"w": packer.add(w, dtype or "f16", f"{layer.name}/weights"), "kernel": list(window.kernel),
             "stride": list(window.stride), "pad": list(window.pad), "dilation": list(window.dilation)}
            for w, window in layer.layer.low_rank.fixed_convolutions()
        ]
        for layer in order
        if hasattr(layer.layer, "low_rank")
    }  # fmt: skip
    return {
        "on": True,
        "why": None,
        "dtype": dtype,
        "order": [layer.name for layer in order],
        "filters": filters,
    }


def way_to_answer(recording: Recording) -> list[RecordedLayer]:
    """The layers that compute something on the way from the picture to the answer, in their order."""
    if recording.answer is None:
        return []
    needed = {recording.answer}
    order = []
    for layer in reversed(recording.layers):
        if needed & set(layer.tops) and layer.bottoms:
            order.append(layer)
            needed |= set(layer.bottoms)
    return order[::-1]


def obstacle(recording: Recording, order: list[RecordedLayer]) -> str | None:
    """Why the net cannot run in the page, in words; None if it can."""
    if recording.answer is None:
        return "the net has no classes"
    if len(recording.images[0].arrays[recording.input].shape) != 4:
        return "its input is no picture"
    for layer in order:
        problem = _problem(layer)
        if problem:
            return f"layer '{layer.name}' is {problem}"
    count, work = count_parameters(recording.net)[0], count_multiply_adds(recording.net)
    if count > F16:
        return f"{count:,} parameters are more than {F16:,}"
    if work > MOST_WORK:
        return f"{work:,} multiply-adds for an image are more than {MOST_WORK:,}"
    return None


def _problem(layer: RecordedLayer) -> str | None:
    """What the engine does not have of a layer."""
    if layer.type not in TYPES:
        return f"of type {layer.type}, which the page cannot compute"
    if layer.type == "Convolution" and (len(layer.bottoms) > 1 or window_of(layer.layer) is None):
        return "a convolution of several bottoms, or not of pictures"
    if layer.type in ("Scale", "Bias") and len(layer.bottoms) > 1:
        return f"a {layer.type} of two bottoms"
    if layer.type == "Pooling" and layer.layer.param.pool == "STOCHASTIC":  # type: ignore[attr-defined]
        return "a stochastic pooling"
    low = getattr(layer.layer, "low_rank", None)
    if low is not None:
        try:
            low.fixed_convolutions()
        except MinicaffeError:
            return "of low rank with a basis of each batch"
        if getattr(layer.layer, "group", 1) > 1:
            return "of low rank in groups"
    return None
