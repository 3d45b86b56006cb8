"""Batches: source, order and transformer combined into a function of the batch number."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from minicaffe.data.order import AUGMENTATION, Order, random_stream
from minicaffe.data.sources.hdf5 import Hdf5Source
from minicaffe.data.sources.source import Images, Source
from minicaffe.data.transformer import DataTransformer
from minicaffe.errors import DataError, SpecError

Batch = list[np.ndarray]  # one array for each top, batch axis last


class Seeded(Protocol):
    """What depends on a seed: an order of images, or a choice among them."""

    def reseed(self, seed: int) -> None:
        """Use another seed from now on."""


class Batches(Protocol):
    """What a data layer reads: its batches by number."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops."""

    @property
    def order(self) -> Seeded:
        """What chooses the images of each batch."""

    def samples(self, count: int) -> list[np.ndarray]:
        """Some of the data as they are read, about ``count`` images: data that differ mostly differ in these."""

    def __call__(self, batch: int) -> Batch:
        """Make batch number ``batch``. Raises DataError or SpecError."""

    def close(self) -> None:
        """Close files."""


class Ring:
    """Buffers used in turn. A buffer is reused after ``slots`` batches, or replaced if shapes change."""

    def __init__(self, slots: int) -> None:
        self._buffers: deque[np.ndarray] = deque(maxlen=slots)

    def buffer(self, shape: tuple[int, ...]) -> np.ndarray:
        """The float32 buffer for the next batch; it still holds old numbers."""
        is_full = len(self._buffers) == self._buffers.maxlen
        buffer = self._buffers[0] if is_full else None
        if buffer is None or buffer.shape != shape:
            buffer = np.empty(shape, np.float32)
        self._buffers.append(buffer)  # the oldest drops out
        return buffer


class SharedOut:
    """Batches 0, 1, 2, … of one of the ranks that share out those of an order.

        rank        0       1     …    N − 1
        batch 0     0       1     …    N − 1
        batch 1     N     N + 1   …   2·N − 1

    So all ranks together read, batch by batch, what one process with a batch N times as large would: no image
    twice, and all of them begin an epoch at the same time. What is drawn for a batch differs by its number, and so
    by rank.
    """

    def __init__(self, batches: Batches, rank: int, ranks: int) -> None:
        self.batches, self.rank, self.ranks = batches, rank, ranks

    def __call__(self, batch: int) -> Batch:
        """Make this rank's batch number ``batch``. Raises DataError or SpecError."""
        return self.batches(batch * self.ranks + self.rank)


def evenly(rows: int, count: int) -> np.ndarray:
    """``count`` numbers, or fewer, that lie evenly among 0 … ``rows`` − 1."""
    return np.unique(np.arange(count) * rows // count)


class ImageBatches:
    """Batch k of transformed images and, if wanted, labels: [(C, h, w, N), (N,)]."""

    def __init__(
        self, source: Source, transformer: DataTransformer, order: Order, with_labels: bool, slots: int
    ) -> None:
        """``slots``: how many batches may be in use at a time. Raises DataError if labels are missing."""
        self.source = source
        self.transformer = transformer
        self.order = order
        self.with_labels = with_labels
        self._ring = Ring(slots)
        images, labels = source.read(order.first())
        if with_labels and labels is None:
            raise DataError(f"{source.name}: no labels ({source.no_labels}); add them, or have one top only")
        self.image_shape = transformer.output_shape(images[0].shape)
        is_picture = images[0].dtype == np.uint8  # floats have been through unknown steps already
        self.preparation = transformer.preparation(images[0].shape) if is_picture else None
        self.label_shape = labels.shape[1:] if labels is not None else ()

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops: (N, C, h, w), and (N,), or (N, L) if an image has L labels."""
        n = self.order.batch_size
        return [(n, *self.image_shape)] + [(n, *self.label_shape)] * self.with_labels

    def __call__(self, batch: int) -> Batch:
        """Make batch number ``batch``. Raises DataError or SpecError."""
        indices = self.order.indices(batch)
        images, labels = self.source.read(indices)
        shape = self._one_shape(images, indices)
        out = self._ring.buffer((*shape, len(images)))
        self.transformer(images, out, random_stream(self.order.seed, AUGMENTATION, batch))
        return [out] if labels is None or not self.with_labels else [out, np.ascontiguousarray(labels.T)]

    def samples(self, count: int) -> list[np.ndarray]:
        """``count`` images that lie evenly among all, and their labels."""
        images, labels = self.source.read(evenly(self.order.count, count))
        return [*images, *([] if labels is None else [labels])]

    def _one_shape(self, images: Images, indices: np.ndarray) -> tuple[int, ...]:
        """The shape that all images of a batch become. Raises DataError naming one that differs."""
        if isinstance(images, np.ndarray):
            return self.transformer.output_shape(images.shape[1:])
        names = [int(index) for index in indices]
        shapes = [self._shape_of(image, name) for image, name in zip(images, names, strict=True)]
        usual = self.image_shape if self.image_shape in shapes else shapes[0]
        odd = next((n for n, shape in enumerate(shapes) if shape != usual), None)
        if odd is not None:
            size, others = (" × ".join(map(str, shape)) for shape in (images[odd].shape, usual))
            same_channels = shapes[odd][0] == usual[0]
            fix = self.source.one_size if same_channels else "make all of them grey, or all coloured"
            raise DataError(
                f"{self.source.describe(names[odd])}: {size}, but others in its batch are {others}; "
                f"{fix}, or batch_size: 1"
            )
        return usual

    def _shape_of(self, image: np.ndarray, name: int) -> tuple[int, ...]:
        try:
            return self.transformer.output_shape(image.shape)
        except SpecError as error:
            raise DataError(f"{self.source.describe(name)}: {error}") from None

    def close(self) -> None:
        """Close the source."""
        self.source.close()


class DatasetBatches:
    """Batch k of the data sets of HDF5 files, each (…, N)."""

    def __init__(self, source: Hdf5Source, order: Order) -> None:
        self.source = source
        self.order = order

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops: (N, …)."""
        return [(self.order.batch_size, *shape) for shape in self.source.row_shapes]

    def __call__(self, batch: int) -> Batch:
        """Make batch number ``batch``. Raises DataError."""
        return [np.moveaxis(rows, 0, -1) for rows in self.source.read(self.order.indices(batch))]

    def samples(self, count: int) -> list[np.ndarray]:
        """The first rows, ``count`` of them: others may be in files that would have to be read for it."""
        return self.source.read(np.arange(min(count, self.order.count)))

    def close(self) -> None:
        """Close the source."""
        self.source.close()
