"""The pictures that a report shows a net: from its own data layers, from files, or what its inputs hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.classify.classifier import Classifier
from minicaffe.classify.images import load_image
from minicaffe.compress.batches import draw
from minicaffe.core.net import Net
from minicaffe.data.preparation import Preparation
from minicaffe.device.array import to_host
from minicaffe.errors import DataError
from minicaffe.inspect.report.even_data import even_data
from minicaffe.inspect.report.pixels import as_pixels

logger = logging.getLogger("minicaffe")


@dataclass(frozen=True, eq=False)
class Picture:
    """One item that a net is shown. ``arrays`` are what its input blobs take, by name, in Caffe's shapes (1, …).

    ``thumbnail`` is the picture as a person sees it, uint8 (H, W, 3), or None for what is no picture.
    """

    name: str
    label: int | None
    arrays: dict[str, np.ndarray]
    thumbnail: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """The items, the blob that holds the picture, how it was prepared (None: not known), and names of classes."""

    items: list[Picture]
    input: str
    preparation: Preparation | None
    classes: tuple[str, ...]


def has_data(net: Net) -> bool:
    """Whether the net has data layers."""
    return any(layer.spec.brings_data for layer in net.layers)


def from_data(net: Net, count: int) -> Pictures:
    """``count`` items of a net's data layers, or all if fewer, evenly from the data: so of several classes."""
    sources = [layer for layer in net.layers if layer.spec.brings_data]
    first = next((blob for layer in sources for blob in layer.spec.top), "")
    with even_data(net, count) as numbers:
        items = _drawn(net, first, range(count) if numbers is None else numbers)
    return Pictures(items, first, net.preparation, _names(net))


def _drawn(net: Net, first: str, numbers: range | np.ndarray) -> list[Picture]:
    """The items with these numbers, which come next. A batch that is no row of items is one item."""
    items: list[Picture] = []
    while len(items) < len(numbers):
        (batch,) = draw(net, 1)
        arrays = {name: np.array(to_host(array), np.float32) for name, array in batch.items()}
        size = len(arrays[first]) if arrays[first].ndim else 0
        if not size or any(not a.ndim or len(a) != size for a in arrays.values()):
            return [_item(net, "the batch", arrays, first)]
        for i, number in enumerate(numbers[len(items) : len(items) + size]):
            one = {name: array[i : i + 1] for name, array in arrays.items()}
            items.append(_item(net, f"test image {number}", one, first))
    return items


def from_images(classifier: Classifier, images: Sequence[Any], labels: Sequence[int | None]) -> Pictures:
    """Files, or arrays (H, W, K) as ``load_image`` reads them, prepared as ``classifier`` does.

    Raises DataError or ShapeError for what is no image that the net takes, and DataError for what is no label.
    """
    net, name = classifier.net, classifier.input
    color = net.blobs[name].channels == 3
    _check_count(labels, len(images))
    items = []
    for i, image in enumerate(images):
        is_file = isinstance(image, (str, Path))
        pixels = load_image(image, color) if is_file else np.asarray(image, np.float32)
        array = classifier.prepare([pixels])
        label = _given(labels, i)
        title = Path(image).name if is_file else f"image {i}"
        items.append(_item(net, title, {name: array}, name, label, classifier.preparation))
    return Pictures(items, name, classifier.preparation, classifier.class_names)


def from_inputs(net: Net, labels: Sequence[int | None], count: int) -> Pictures:
    """The first ``count`` items of what the net's inputs hold now.

    Raises DataError where that is all zeros, and for what is no label.
    """
    arrays = {name: np.array(to_host(net.blobs[name].data), np.float32) for name in net.inputs}
    if not any(array.any() for array in arrays.values()):
        raise DataError(
            f"net '{net.name}': nothing to show it: it has no data layers and its inputs are zeros; give images, "
            "or the net with its data (train.yaml)"
        )
    first = net.inputs[0]
    sizes = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(sizes) == 1 and 0 not in sizes and len(arrays) == 1:
        parts = [{first: arrays[first][i : i + 1]} for i in range(min(count, len(arrays[first])))]
    else:
        parts = [arrays]
    _check_count(labels, len(arrays[first]) if len(arrays) == 1 and arrays[first].ndim else 1)
    items = [_item(net, f"input {i}", part, first, _given(labels, i)) for i, part in enumerate(parts)]
    return Pictures(items, first, net.preparation, _names(net))


def _check_count(labels: Sequence[int | None], count: int) -> None:
    if len(labels) > count:
        raise DataError(
            f"{len(labels)} labels for {count} image{'s' * (count > 1)}; give one for each, or None"
        )


def _given(labels: Sequence[int | None], i: int) -> int | None:
    """The label that was given for image i, if any. One below 0 would count from the last class."""
    label = labels[i] if i < len(labels) else None
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or label < 0:
        raise DataError(f"label {label!r} of image {i}: give the number of a class, from 0 on, or None")
    return int(label)


def _names(net: Net) -> tuple[str, ...]:
    return tuple(net.class_names) or (net.preparation.class_names if net.preparation else ())


def _item(
    net: Net,
    name: str,
    arrays: dict[str, np.ndarray],
    first: str,
    label: int | None = None,
    preparation: Preparation | None = None,
) -> Picture:
    if label is None:
        label = _label(net, arrays)
    return Picture(name, label, arrays, _thumbnail(arrays[first], preparation or net.preparation))


def _label(net: Net, arrays: dict[str, np.ndarray]) -> int | None:
    """The class of an item: the one whole number that a data layer's last top has."""
    for layer in net.layers:
        if layer.spec.brings_data and len(layer.spec.top) > 1:
            value = arrays[layer.spec.top[-1]]
            if value.size == 1 and value.item() == round(value.item()) >= 0:
                return int(value.item())
    return None


def _thumbnail(array: np.ndarray, preparation: Preparation | None) -> np.ndarray | None:
    """The picture (1, C, H, W) as uint8 (H, W, 3); None for other shapes."""
    if array.ndim != 4 or len(array) != 1 or array.shape[1] not in (1, 3) or array[0, 0].size < 4:
        return None
    pixels: np.ndarray = as_pixels(array, preparation)[0]
    return pixels
