"""Running test images through a net once, for several that look at each batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.blob import Blob
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.inspect.report.even_data import even_data
from minicaffe.inspect.report.pixels import as_pixels
from minicaffe.train.progress import Progress
from minicaffe.train.scoring import images_of


class Batch:
    """The batch that a net is at: its first ``count`` images are looked at, test images ``numbers``."""

    def __init__(self, net: Net, numbers: NDArray[np.int64]) -> None:
        self.net, self.numbers, self.count = net, numbers, len(numbers)
        self._images: NDArray[np.float32] | None = None

    def keep(self, blob: Blob) -> None:
        """Copy the prepared pictures, before a layer in place changes them."""
        self._images = np.array(to_host(blob.data)[: self.count], np.float32)

    @cached_property
    def pixels(self) -> NDArray[np.uint8] | None:
        """The pictures, (n, H, W, 3); None if the net's data are none."""
        return None if self._images is None else as_pixels(self._images, self.net.preparation)


class Collector(Protocol):
    """Looks at batches."""

    def after(self, step: Step, batch: Batch) -> None:
        """Called after each step of each batch."""


def run_test_pass(net: Net, most: int, collectors: Sequence[Collector]) -> int:
    """Run ``most`` images that lie evenly among the net's test data, or all if fewer; return how many they were.

    Data without a known size give ``most``. The net's data go on afterwards where they were; its blobs keep the
    last batch. Raises SpecError for a net without data layers.
    """
    if not any(layer.spec.brings_data for layer in net.layers):
        raise SpecError(
            f"{net.spec.where.file}: no data layer in phase {net.state.phase}, so nothing to test on"
        )
    pictures = picture_blob(net)
    with even_data(net, most) as chosen, net.lock:
        numbers = np.arange(most) if chosen is None else chosen
        progress, done = Progress(len(numbers), "test images scored"), 0
        while done < len(numbers):
            batch: Batch | None = None
            for i, step in enumerate(net.steps):
                net.run_forward(i, i)
                if batch is None:
                    batch = Batch(net, numbers[done : done + images_of(net)])
                    progress.say_some(batch.count)
                if pictures is not None and any(blob is pictures for blob in step.top) and not step.bottom:
                    batch.keep(pictures)
                for collector in collectors:
                    collector.after(step, batch)
            assert batch is not None  # a net with data has layers
            done += batch.count
    return done


def picture_blob(net: Net) -> Blob | None:
    """The blob of the data's pictures: the first top of a data layer that can be shown; None if there is none."""
    tops = [blob for step in net.steps if step.layer.spec.brings_data for blob in step.top]
    return next((blob for blob in tops if len(blob.shape) == 4 and blob.channels in (1, 3)), None)
