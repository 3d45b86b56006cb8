"""What data layers that read files have in common: a thread prepares batches ahead, and they are used in order."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from minicaffe.core.layer import Blobs, Layer
from minicaffe.data.batches import Batches, ImageBatches, SharedOut
from minicaffe.data.order import Order
from minicaffe.data.prefetch import DEPTH, Prefetcher, slots_for
from minicaffe.data.preparation import Preparation
from minicaffe.data.sources.source import Source
from minicaffe.data.transformer import DataTransformer, TransformParam
from minicaffe.data.upload import Upload
from minicaffe.errors import DataError, MinicaffeError
from minicaffe.layers.missing_data import Sizes, remedy, sizes_known
from minicaffe.spec.net import LayerSpec

logger = logging.getLogger("minicaffe")


class BatchSourceLayer(Layer):
    """A layer without bottoms whose tops are batches 0, 1, 2, … of ``make_batches(top)``.

    Of several ranks that train together, each reads its share of them. Its state is the number of the next batch
    and a description of the data. Batch k is always the same, whatever was read before.
    """

    bottoms = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, 2)
    depth: int = DEPTH  # batches prepared ahead

    def make_batches(self, top: Blobs) -> Batches:
        """The batches that the layer reads. Raises DataError."""
        raise NotImplementedError

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        try:
            self.batches = self.make_batches(top)
        except DataError as error:
            is_missing = ": no such " in str(error) and str(error).endswith("check the path")
            mend = remedy(self.spec, self.setting, self.sizes_read()) if is_missing else ""
            raise DataError(f"{self.spec.where}: {error}{mend}") from None
        ranks = self.setting.communicator
        own = SharedOut(self.batches, ranks.rank, ranks.size)
        upload = Upload(own, self.setting.device, slots_for(self.depth))
        self.prefetcher = Prefetcher(upload, self.depth)

    def sizes_read(self) -> Sizes:
        """C, H and W of the images that are read, as far as the spec says so."""
        return None, None, None

    def shapes_expected(self, image: tuple[int, int, int]) -> list[tuple[int, ...]] | None:
        """The shapes that the tops would have if the data were there; None if the spec says nothing of them.

        ``image``: C, H and W where the spec does not say them.
        """
        known = sizes_known(self.spec, self.setting, self.sizes_read())
        channels, height, width = (size or other for size, other in zip(known, image, strict=True))
        params = (getattr(self.spec, name) for name in self.spec.message_names)
        batch = next(param.batch_size for param in params if "batch_size" in param.fields)
        images = batch, channels, height, width
        shapes = [images, *self.shapes_beside(self.spec, images, self.setting.folder)]
        return shapes[: len(self.spec.top)] if len(shapes) >= len(self.spec.top) else None

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        return [first[:1]]

    def preparation_of_pictures(self) -> Preparation | None:
        found = getattr(self.batches, "preparation", None)
        names = self.setting.label_names.get(self.spec.top[-1])
        return replace(found, class_names=tuple(names)) if found and names else found

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob, shape in zip(top, self.batches.shapes, strict=True):
            blob.reshape(*shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        try:
            batch = self.prefetcher.next()
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}") from None
        for blob, sent in zip(top, batch, strict=True):
            if sent.shape != blob.stored_shape:  # images of another size come in a batch of their own
                blob.reshape(sent.shape[-1], *sent.shape[:-1])
            sent.take(blob.stored)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """There are no bottoms."""

    @property
    def batch_size(self) -> int:
        """The number of images in a batch."""
        return self.batches.shapes[0][0]

    @property
    def rows(self) -> int:
        """The number of images in an epoch; 0 if there are no epochs."""
        return getattr(self.batches.order, "count", 0)

    @property
    def classes(self) -> int:
        """The number of different labels; 0 if they are not classes, or not known without reading everything."""
        labels = getattr(getattr(self.batches, "source", None), "labels", None)
        if labels is None or labels.ndim > 1 or len(self.spec.top) < 2:
            return 0
        found = np.unique(labels)
        return len(found) if (found == np.round(found)).all() else 0

    def _data(self) -> dict[str, Any]:
        """The data that batch numbers refer to; stored in a snapshot, to notice if it has changed."""
        param = getattr(self.spec, next(iter(self.messages)))  # the first says where the data are
        order = {name: getattr(param, name) for name in ("shuffle", "rand_skip") if hasattr(param, name)}
        return {"source": param.source, "images": self.rows, "batch_size": self.batch_size, **order}

    def state(self) -> dict[str, Any]:
        return {
            "next_batch": self.prefetcher.number,
            "ranks": self.setting.communicator.size,
            **self._data(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        number = self.count_in(state, "next_batch")
        self.prefetcher.close()
        self.batches.order.reseed(self.seed)
        self.prefetcher.seek(self._next_batch(number, state))

    def _next_batch(self, number: int, state: dict[str, Any]) -> int:
        """The batch with which a restored run continues. Warns if the snapshot was written on other data."""
        data = self._data() | {"ranks": self.setting.communicator.size}
        state = {"ranks": 1} | state  # not there in states of earlier versions
        changed = {name: state[name] for name, value in data.items() if state.get(name, value) != value}
        if not changed:
            return number
        sizes = [changed.get(name, data[name]) for name in ("batch_size", "ranks")]
        if all(isinstance(size, int) and size > 0 for size in sizes):
            number = number * math.prod(sizes) // (data["batch_size"] * data["ranks"])
        if changed.keys() == {"ranks"}:
            return number
        logger.warning(
            "%s: continues on other data than the snapshot was written on: %s; its next batch is number %d",
            self.spec.where,
            ", ".join(f"{name} {data[name]}, which was {was}" for name, was in changed.items()),
            number,
        )
        return number

    def close(self) -> None:
        self.prefetcher.close()
        self.batches.close()


def same_images(layers: Sequence[Layer], test_layers: Sequence[Layer]) -> Iterator[str]:
    """A warning for each data layer of a test net that shares images with a training net."""
    for layer, source in _sources(test_layers):
        for other, trained in _sources(layers):
            if same := source.shared_with(trained):
                yield (
                    f"{layer.spec.where}: {same:,} of its {len(source):,} images are trained on too (layer "
                    f"'{other.name}'): what they measure is not the accuracy on new images"
                )


def _sources(layers: Sequence[Layer]) -> Iterator[tuple[Layer, Source]]:
    for layer in layers:
        source = getattr(getattr(layer, "batches", None), "source", None)
        if isinstance(source, Source):
            yield layer, source


def image_batches(layer: BatchSourceLayer, source: Source, order: Order, with_labels: bool) -> ImageBatches:
    """Batches from ``source``, transformed as the layer's ``transform_param`` says.

    Closes the source if this fails. Raises DataError or SpecError.
    """
    try:
        param = layer.spec.message(TransformParam)
        param.check_without_boxes()
        transformer = DataTransformer(param, layer.phase, layer.setting.folder)
        return ImageBatches(source, transformer, order, with_labels, slots_for(layer.depth))
    except MinicaffeError:
        source.close()
        raise
