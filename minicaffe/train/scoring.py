"""Scoring: the mean of a net's outputs over batches of its test data; of detections the mean average precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.device.array import Array, to_host
from minicaffe.errors import named
from minicaffe.ops.detection.average_precision import mean_precision, precision_by_class

logger = logging.getLogger("minicaffe")
MOST_LINES = 100  # numbers of a top that are shown one by one
MOST_CLASSES = 1000  # the same of a top with one axis, as of an accuracy for each class


@dataclass
class Score:
    """The mean of each output, by name, and of the loss. ``not_finite`` names what was nan or infinite first.

    Of an output of judged detections it is the mean average precision, and ``precisions`` has that of each class.
    """

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    loss: float = 0.0
    not_finite: str | None = None
    precisions: dict[str, dict[int, float]] = field(default_factory=dict)


def score(
    net: Net, batches: int, after_batch: Callable[[int], bool], ap_version: str = "Integral"
) -> Score | None:
    """Run ``batches`` batches. ``after_batch(number)`` returns whether to continue; if it does not, return None.

    A batch is weighted by its number of images, so the last may be shorter. ``ap_version``: how the average
    precision of detections is computed (``ops/detection/average_precision.py``). Warns at once of the first batch
    with nan scores or a loss that is not finite.
    """
    means: dict[str, _Mean] = {}
    judged: dict[str, list[np.ndarray]] = {name: [] for name in outputs_of_detections(net)}
    first, not_finite = 0, None
    makers = {name: (layer, i) for layer in net.layers for i, name in enumerate(layer.spec.top)}
    for number in range(batches):
        with net.lock, net.setting.device.entered():
            net.run_forward()
            loss, images = net.loss(), images_of(net)
            first = first or images
            share = images / first  # 1 if batches are of one size: then nothing is rounded
            means.setdefault("", _Mean()).add(loss, share)
            for name in net.outputs:
                if name in judged:
                    judged[name].append(np.array(to_host(net.blobs[name].data).reshape(-1, 5)))
                    continue
                layer, i = makers[name]
                counted = layer.counted_by(i)
                weight = share if counted is None else counted
                means.setdefault(name, _Mean()).add(net.blobs[name].data, weight)
            if not_finite is None:
                not_finite = scores_not_finite(net, loss)
                if not_finite is not None:
                    logger.warning(
                        "Batch %d: %s is not finite, and scores of nan are wrong ones", number, not_finite
                    )
        if not after_batch(number):
            return None
    values = {name: mean.value() for name, mean in means.items()}
    mean_loss = float(values.pop("", 0.0))
    precisions = {
        name: precision_by_class(np.concatenate(rows), ap_version) for name, rows in judged.items() if rows
    }
    values |= {name: np.array(mean_precision(of_classes)) for name, of_classes in precisions.items()}
    outputs = {name: values[name] for name in net.outputs if name in values}
    return Score(outputs, mean_loss, not_finite, precisions)


def outputs_of_detections(net: Net) -> list[str]:
    """The outputs that are rows of judged detections, as DetectionEvaluate makes them."""
    made = [
        name for layer in net.layers for i, name in enumerate(layer.spec.top) if layer.judges_detections(i)
    ]
    return [name for name in net.outputs if name in made]


def names_of_labels(net: Net) -> dict[int, str]:
    """The names for people of labels, from the first label map that a layer of the net has; {} without one."""
    return next(filter(None, (layer.names_of_labels() for layer in net.layers)), {})


def precision_lines(precisions: Mapping[str, Mapping[int, float]], names: Mapping[int, str]) -> Iterator[str]:
    """The lines that SSD's Caffe prints for each class, with its name if it is known."""
    for of_classes in precisions.values():
        for label, value in of_classes.items():
            yield f"class{label}: {value:.6g}{in_brackets(label, names)}"


def in_brackets(label: int, names: Mapping[int, str]) -> str:
    """The name of a label in brackets, after a space; "" for a label without one."""
    return f" ({named(names[label])})" if label in names else ""


class _Mean:
    """A weighted mean over batches. If the shape of a top changes, its own mean is averaged instead."""

    def __init__(self) -> None:
        self._sum: Any = None
        self._weight: Any = 0

    def add(self, x: Array, weight: Any) -> None:
        """Add a batch ``x`` with its weight, a number or an array of the same shape."""
        if self._sum is not None and self._sum.shape != x.shape:
            self._sum, x = _mean_number(self._sum), _mean_number(x)
        self._sum = x * weight if self._sum is None else self._sum + x * weight
        self._weight = self._weight + weight

    def value(self) -> np.ndarray:
        """The mean; 0 if the weights are 0."""
        total, weight = to_host(self._sum), to_host(self._weight)
        mean: np.ndarray = total / (np.maximum(weight, 1) if weight.ndim else weight)
        return mean


def _mean_number(x: Array) -> Array:
    number: Array = x.mean() if x.size else x.sum()
    return number


def images_of(net: Net) -> int:
    """The number of images in a batch: the first axis of the net's first blob, at least 1."""
    first = next((blob for step in net.steps for blob in step.top), None)
    return max(1, first.num) if first is not None else 1


def output_lines(net: Net, values: Mapping[str, np.ndarray], phase: str) -> Iterator[str]:
    """The lines that Caffe prints for a net's outputs: one for each number, or one for a whole large output."""
    weights = loss_weights(net)
    number = 0
    for name, array in values.items():
        if is_large(array):
            yield f"    {phase} net output #{number}: {name} = {summary_of(array)}"
            number += array.size
            continue
        for value in np.ravel(array):
            weight = weights.get(name, 0)
            loss = f" (* {weight:g} = {weight * value:.6g} loss)" if weight else ""
            yield f"    {phase} net output #{number}: {name} = {value:.6g}{loss}"
            number += 1


def loss_weights(net: Net) -> dict[str, float]:
    """The weights of the outputs that are losses, by name."""
    return {
        name: weight
        for layer in net.layers
        for name, weight in zip(layer.spec.top, layer.spec.loss_weight, strict=True)
        if weight and name in net.outputs
    }


def is_large(array: np.ndarray) -> bool:
    """Whether there are too many numbers to show each of them."""
    return array.size > (MOST_CLASSES if array.ndim == 1 else MOST_LINES)


def summary_of(array: np.ndarray) -> str:
    """The shape and the mean of an output, instead of its numbers."""
    return f"{' × '.join(map(str, array.shape))} numbers, mean {array.mean():.6g}"


def scores_not_finite(net: Net, loss: Array) -> str | None:
    """If scores are nan or the loss is not finite: what was nan or infinite first in forward order. Else None.

    Scores are the outputs and the bottoms of the layers that make them, and of losses.
    """
    xp = net.setting.device.xp
    outputs = set(net.outputs)
    scores = {
        id(blob): blob
        for step in net.steps
        if step.layer.is_loss or outputs & set(step.layer.spec.top)
        for blob in (*step.bottom, *step.top)
    }
    bad = ~xp.isfinite(loss)
    for blob in scores.values():
        bad = bad | xp.isnan(blob.stored).any()
    return (first_not_finite(net) or "the loss") if bool(bad) else None


def first_not_finite(net: Net) -> str | None:
    """What is nan or infinite first, in forward order: ``"blob 'ip1'"`` or ``"parameter 0 of layer 'ip1'"``.

    Parameters come before the tops of their layer. None if all numbers of the net are finite.
    """
    with net.setting.device.entered():
        for step in net.steps:
            for i, blob in enumerate(step.layer.blobs):
                if not is_finite(net, blob):
                    return f"parameter {i} of layer '{step.layer.name}'"
            for name, blob in zip(step.layer.spec.top, step.top, strict=True):
                if not is_finite(net, blob):
                    return f"blob '{name}'"
    return None


def is_finite(net: Net, blob: Blob) -> bool:
    """Whether all numbers of a blob are finite. Waits for the device."""
    return bool(net.setting.device.xp.isfinite(blob.stored).all())
