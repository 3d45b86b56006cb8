"""What the channels of convolutions fire most for: parts of test images, as large as their receptive fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.inspect.receptive_fields import receptive_fields
from minicaffe.inspect.report.pixels import shrunk
from minicaffe.inspect.report.test_run import Batch, picture_blob
from minicaffe.layers.convolution import Convolution
from minicaffe.ops.convolution.geometry import ReceptiveField

PER_CHANNEL = 6
# Channels of a layer, and pixels a side: the first that fit.
SIZES = ((64, 48), (64, 32), (32, 32), (16, 32), (16, 24), (8, 24), (8, 16), (4, 16), (4, 12), (0, 1))


class PatchCollector:
    """The parts of images that make each channel of each convolution largest."""

    def __init__(self, net: Net, room: int) -> None:
        pictures = picture_blob(net)
        self.fields: dict[str, ReceptiveField] = {}
        self._best: dict[str, NDArray[np.float32]] = {}
        self._cut: dict[str, NDArray[np.uint8]] = {}
        if pictures is None:
            return
        fields = receptive_fields(net)
        for step in net.steps:
            name, seen = step.layer.name, fields[step.layer.name]
            if isinstance(step.layer, Convolution) and step.layer.axis == 1 and seen is not None:
                self.fields[name] = seen
        image = pictures.shape[2:]
        sizes = {name: _cut_size(seen, image) for name, seen in self.fields.items()}
        channels = {step.layer.name: step.top[0].channels for step in net.steps if step.layer.name in sizes}
        for most, side in SIZES:
            shapes = {
                name: (
                    min(most, channels[name]),
                    PER_CHANNEL,
                    *shrunk(np.zeros((*size, 3), np.uint8), side).shape,
                )
                for name, size in sizes.items()
            }
            self._side = side
            if sum(int(np.prod(shape)) for shape in shapes.values()) <= room:
                break
        for name, shape in shapes.items():
            if shape[0]:
                self._cut[name] = np.zeros(shape, np.uint8)
                self._best[name] = np.full(shape[:2], -np.inf, np.float32)

    def after(self, step: Step, batch: Batch) -> None:
        """Cut out what is larger than before, for a convolution."""
        name = step.layer.name
        if name not in self._cut or batch.pixels is None:
            return
        best = self._best[name]
        maps = step.top[0].stored[: len(best), ..., : batch.count]
        width, maps = maps.shape[2], maps.reshape(len(best), -1, batch.count)
        values = np.concatenate([best, to_host(maps.max(axis=1))], axis=1, dtype=np.float32)
        order = np.argsort(-values, axis=1, kind="stable")[:, :PER_CHANNEL]
        cut = self._cut[name]
        for c, images in enumerate(order):
            if (images < PER_CHANNEL).all():
                continue
            before = cut[c].copy()
            for k, i in enumerate(images):
                if i < PER_CHANNEL:
                    cut[c, k] = before[i]
                else:
                    place = divmod(int(maps[c, :, i - PER_CHANNEL].argmax()), width)
                    cut[c, k] = self._patch(batch.pixels[i - PER_CHANNEL], self.fields[name], place)
        self._best[name] = np.take_along_axis(values, order, axis=1)

    def _patch(
        self, pixels: NDArray[np.uint8], seen: ReceptiveField, place: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """What the output at ``place`` sees; grey where that is padding."""
        size = _cut_size(seen, pixels.shape[:2])
        patch = np.full((*size, 3), 128, np.uint8)
        inside, source = [], []
        for o, whole, stride, offset, cut, length in zip(place, *seen, size, pixels.shape[:2], strict=True):
            start = (
                0 if cut < whole else o * stride + offset
            )  # a field that is larger than the image: all of it
            inside.append(slice(max(0, -start), max(0, min(cut, length - start))))
            source.append(slice(max(0, start), max(0, min(length, start + cut))))
        patch[tuple(inside)] = pixels[tuple(source)]
        return shrunk(patch, self._side)

    def patches(self) -> dict[str, NDArray[np.uint8]]:
        """The patches of each layer, (channels, 6, h, w, 3)."""
        return self._cut

    def values(self) -> dict[str, NDArray[np.float32]]:
        """The outputs there, (channels, 6); −inf where there were fewer images."""
        return self._best


def _cut_size(seen: ReceptiveField, image: Sequence[int]) -> tuple[int, int]:
    """The size of what is cut out: a receptive field, or the image where that is smaller."""
    height, width = map(min, seen.size, image)
    return height, width
