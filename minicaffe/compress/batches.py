"""Batches of a net's own data, copied so that several nets can run on the same images."""

from __future__ import annotations

import sys

from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.errors import DataError
from minicaffe.layers.batch_source import BatchSourceLayer

Batch = dict[str, Array]
LABELS = "\0labels"  # the key of a batch's labels where no blob has them: no spec can name a blob so


def draw(net: Net, count: int) -> list[Batch]:
    """The next ``count`` batches of the net's data layers: their tops, by name, in Caffe's shapes.

    Raises DataError if the net has no data layer.
    """
    sources = [i for i, layer in enumerate(net.layers) if layer.spec.brings_data]
    if not sources:
        raise DataError(
            f"{net.spec.where.file}: no data layer in phase {net.state.phase}, which would bring images; "
            "give the net as it is trained, not its deploy net, or add one"
        )
    batches = []
    for _ in range(count):
        for i in sources:
            net.run_forward(i, i)
        batches.append(
            {name: net.blobs[name].data.copy() for i in sources for name in net.layers[i].spec.top}
        )
    return batches


def batches_in_epoch(net: Net) -> int:
    """How many batches the net's data layers give before an image is repeated; of few images at least 1."""
    layers = [layer for layer in net.layers if isinstance(layer, BatchSourceLayer) and layer.rows]
    return min((max(1, layer.rows // layer.batch_size) for layer in layers), default=sys.maxsize)


def feed(net: Net, batch: Batch) -> None:
    """Write a batch into the blobs of a net, in place of what its data layers would read there."""
    for name, array in batch.items():
        if name in net.blobs:
            net.blobs[name].reshape(*array.shape)
            net.blobs[name].data[...] = net.setting.device.put(array)


def run(net: Net, batch: Batch, first: int = 0, last: int | None = None) -> None:
    """Run layers ``first`` to ``last`` (inclusive) on a batch, all but the data layers."""
    if first == 0:
        feed(net, batch)
    end = len(net.layers) if last is None else last + 1
    for i in range(first, end + 1):
        if i == end or net.layers[i].spec.brings_data:
            if first < i:
                net.run_forward(first, i - 1)  # at once: layers that can run as one do
            first = i + 1


def first_images(batch: Batch, count: int) -> Batch:
    """What blobs get of the first images of a batch; of all where its arrays are not of the same images."""
    blobs = {name: array for name, array in batch.items() if not name.startswith("\0")}
    few = count if len({len(array) for array in blobs.values()}) == 1 else None
    return {name: array[:few] for name, array in blobs.items()}


def images_of(batch: Batch) -> int:
    """The images in a batch: the length of its first array."""
    return len(next(iter(batch.values())))
