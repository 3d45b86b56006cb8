"""Images that a report takes the inputs of layers from: the training data, or else the test data, or its pictures.

A few hundred are enough, as each gives a layer many columns of its data matrix. How many they are follows from the
work, not from the time that it takes, so that the same report has the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.batches import Batch, draw
from minicaffe.compress.workbench import shuffled
from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError
from minicaffe.inspect.confusion import Answers
from minicaffe.inspect.report.even_data import even_data
from minicaffe.inspect.report.pictures import Picture, has_data
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.spec.net import NetSpec

logger = logging.getLogger("minicaffe")
BATCHES = 64  # at most: a net that has one image in a batch


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Batches of ``count`` images in all; ``what`` they are, in the plural.

    Of ``rows`` images, if that is known: fewer of them come more than once, cropped or mirrored in another way.
    """

    batches: list[Batch]
    count: int
    what: str
    rows: int | None = None

    @property
    def text(self) -> str:
        """How many of what: "512 training images"."""
        if self.rows is not None and self.rows < self.count:
            return f"{self.rows:,} {self.what}, drawn {self.count:,} times"
        return f"{self.count:,} {self.what}"


def seen_images(net: Net, pictures: Sequence[Picture], most: int) -> SeenImages:
    """About ``most`` images for a net, which keeps its place in its data.

    Data whose files are missing are passed over: test data take the place of training data, then ``pictures`` do.
    """
    if has_data(net):
        for take, what in ((_training_batches, "training images"), (_test_batches, "test images")):
            try:
                batches, rows = take(net, most)
                return SeenImages(batches, sum(map(_size, batches)), what, rows)
            except MinicaffeError as error:
                logger.info("Low rank: no %s (%s)", what, error)
    chosen = pictures[:most]
    put = net.setting.device.put
    joined = {
        name: put(np.concatenate([p.arrays[name] for p in chosen]), net.setting.dtype)
        for name in chosen[0].arrays
    }
    return SeenImages(
        [joined], len(chosen), "picture of this report" if len(chosen) == 1 else "pictures of this report"
    )


def _training_batches(net: Net, most: int) -> tuple[list[Batch], int | None]:
    spec = _data_layers(net.spec)
    stages = [name for name in net.state.stage if name not in spec.state.stage]
    with closing(
        Net(spec, phase="train", level=net.state.level, stages=stages, seed=0, trusted=net.trusted)
    ) as source:
        return _draw(source, most), _rows(source)


def _test_batches(net: Net, most: int) -> tuple[list[Batch], int | None]:
    with even_data(net, most):
        return _draw(net, most), _rows(net)


def _rows(net: Net) -> int | None:
    """The number of images that a net's data have; None if that is not known."""
    layers = [layer for layer in net.layers if isinstance(layer, BatchSourceLayer) and layer.rows]
    return min((layer.rows for layer in layers), default=None)


def _data_layers(spec: NetSpec) -> NetSpec:
    """A net of the data layers alone, in random order: all that is needed to read images."""
    spec = shuffled(spec)
    spec.layer = [layer for layer in spec.layer if layer.brings_data]
    spec.layers = [layer for layer in spec.layers if layer.brings_data]
    return spec


def _draw(net: Net, most: int) -> list[Batch]:
    """Batches until there are ``most`` images; what is more in the last is cut off."""
    batches: list[Batch] = []
    count = 0
    while count < most and len(batches) < BATCHES:
        (batch,) = draw(net, 1)
        size = _size(batch)
        if count + size > most and all(a.ndim and len(a) == size for a in batch.values()):
            batch = {name: array[: most - count] for name, array in batch.items()}
        batches.append(batch)
        count += size
    return batches


def _size(batch: Batch) -> int:
    return max((len(array) for array in batch.values() if array.ndim), default=1)


def test_images(net: Net, answers: Answers, blob: str, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """``most`` test images (n, C, H, W) as the blob has them, evenly from the data, and their labels (n,).

    None where the blob has no pictures, or the labels are not read from the data.
    """
    if len(net.blobs[blob].shape) != 4:
        return None
    label_blob = _read_as(net, answers.labels)
    images, labels = [], []
    with even_data(net, most) as chosen:
        for batch in _draw(net, most if chosen is None else len(chosen)):
            if label_blob not in batch or blob not in batch:
                return None
            images.append(to_host(batch[blob]))
            labels.append(to_host(batch[label_blob]).reshape(-1))
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def _read_as(net: Net, blob: Blob) -> str:
    """The name of a blob, or of the one that it is a copy of, which a Split layer makes."""
    for step in net.steps:
        if step.layer.type == "Split" and any(top is blob for top in step.top):
            return _read_as(net, step.bottom[0])
    return next(name for name, found in net.blobs.items() if found is blob)


test_images.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
