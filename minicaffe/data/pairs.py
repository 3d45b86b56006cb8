"""Batches of images with a label for each pixel: what is cut off or mirrored in an image is so in its map, too.

Only the image is less a mean and times a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minicaffe.data.batches import Batch, ImageBatches, Ring
from minicaffe.data.order import AUGMENTATION, Order, random_stream
from minicaffe.data.sources.image_list import ImageListSource
from minicaffe.data.sources.source import Images
from minicaffe.data.transformer import DataTransformer, TransformParam, crop
from minicaffe.errors import DataError

Size = tuple[int, int]  # height, width


class PairTransformer(DataTransformer):
    """Transforms images, and their maps alike.

    ``mirror`` and ``crop`` (height, width) come first, if given, and are at random in both phases; then what
    ``param`` says. A map has the size of its image divided by ``divisor``.
    """

    def __init__(
        self,
        param: TransformParam,
        phase: str,
        folder: str | Path = ".",
        mirror: bool = False,
        crop: Size | None = None,
        divisor: int = 1,
    ) -> None:
        """Raises DataError for a mean that cannot be read, SpecError for settings that suit no map."""
        param.check_without_resizing()
        super().__init__(param, phase, folder)
        self.mirror, self.first_crop, self.divisor = mirror, crop, divisor
        if param.pad:
            raise param.error("pad", "no label is known for what lies beyond an image; leave it out")
        if divisor > 1 and (crop or param.crop_size):
            raise param.error(
                "crop_size", "a map that is smaller than its image is not cropped with it; leave it out"
            )

    def output_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        if self.first_crop is None:
            return super().output_shape(image_shape)
        channels, height, width = image_shape
        if height < self.first_crop[0] or width < self.first_crop[1]:
            size = " × ".join(map(str, self.first_crop))
            raise self.param.error(
                "", f"a crop of {size} is more than an image has ({height} × {width}); reduce crop_height"
            )
        return super().output_shape((channels, *self.first_crop))

    def map_size(self, image_size: Sequence[int]) -> Size:
        """The size of the map of an image, before both are cropped, or after."""
        height, width = image_size
        return height // self.divisor, width // self.divisor

    def transform_pairs(
        self, images: Images, maps: Images, out: np.ndarray, out_maps: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Write a batch of images (C, H, W), and of their maps (1, H / d, W / d), into float32 (C, h, w, N) and
        (1, h / d, w / d, N). Every random choice is drawn from ``rng``."""
        images, maps = self._mirror_and_crop(images, maps, rng)
        together = isinstance(images, np.ndarray) and isinstance(maps, np.ndarray)
        parts = [slice(None)] if together else [slice(n, n + 1) for n in range(len(images))]
        flips, corners = self._draw(np.array([image.shape[1:] for image in images]), rng)
        for part in parts:
            pixels, labels = (np.asarray(group[part]) for group in (images, maps))  # of one size
            self._write(pixels, flips[part], corners[part], out[..., part])
            labels = crop(labels, corners[part], out_maps.shape[1:3])
            labels = np.where(flips[part, None, None, None], labels[..., ::-1], labels)
            out_maps[..., part] = labels.transpose(1, 2, 3, 0)

    def _mirror_and_crop(
        self, images: Images, maps: Images, rng: np.random.Generator
    ) -> tuple[Images, Images]:
        """What comes before ``transform_param``."""
        if not self.mirror and self.first_crop is None:
            return images, maps
        flips = rng.integers(2, size=len(images)) > 0 if self.mirror else np.zeros(len(images), bool)
        height, width = self.first_crop or (0, 0)
        rooms: np.ndarray = np.array([image.shape[1:] for image in images]) - (height, width)
        corners = rng.integers(rooms + 1) if self.first_crop else np.zeros_like(rooms)

        def cut(pixels: np.ndarray, flip: bool, corner: np.ndarray) -> np.ndarray:
            row, column = corner
            window = pixels[:, row : row + height, column : column + width] if self.first_crop else pixels
            return window[..., ::-1] if flip else window

        cuts = [list(map(cut, group, flips, corners)) for group in (images, maps)]
        return cuts[0], cuts[1]


class PairBatches(ImageBatches):
    """Batch k of transformed images and maps: [(C, h, w, N), (1, h', w', N)]."""

    def __init__(
        self,
        images: ImageListSource,
        maps: ImageListSource | np.ndarray,
        transformer: PairTransformer,
        order: Order,
        slots: int,
    ) -> None:
        """``maps``: their images, or one label for all pixels of each image, (n,). ``slots``: how many batches may
        be in use at a time. Raises DataError for a first pair of two sizes."""
        super().__init__(images, transformer, order, False, slots)
        self.maps, self.pair_transformer = maps, transformer
        self._map_ring = Ring(slots)
        first = order.first()
        self._read(first)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops: (N, C, h, w) and (N, 1, h', w')."""
        n = self.order.batch_size
        return [(n, *self.image_shape), (n, *self._map_shape(self.image_shape))]

    def __call__(self, batch: int) -> Batch:
        indices = self.order.indices(batch)
        images, maps = self._read(indices)
        shape = self._one_shape(images, indices)
        out = self._ring.buffer((*shape, len(images)))
        out_maps = self._map_ring.buffer((*self._map_shape(shape), len(images)))
        rng = random_stream(self.order.seed, AUGMENTATION, batch)
        self.pair_transformer.transform_pairs(images, maps, out, out_maps, rng)
        return [out, out_maps]

    def _map_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        return (1, *self.pair_transformer.map_size(image_shape[1:]))

    def _read(self, indices: np.ndarray) -> tuple[Images, Images]:
        """Images and maps. Raises DataError for a map that does not have the size that its image asks for."""
        images, source = self.source.read(indices)[0], self.maps
        if isinstance(source, np.ndarray):
            labels = source[indices]
            return images, [np.full((1, *x.shape[1:]), y) for x, y in zip(images, labels, strict=True)]
        maps = source.read(indices)[0]
        for image, map_, index in zip(images, maps, indices, strict=True):
            wanted = self.pair_transformer.map_size(image.shape[1:])
            if map_.shape[1:] != wanted:
                got, size, asked = (
                    " × ".join(map(str, shape)) for shape in (map_.shape[1:], image.shape[1:], wanted)
                )
                raise DataError(
                    f"{source.describe(int(index))}: {got}, but its image has {size}, which asks for {asked}; "
                    "make them fit, or give new_height and new_width"
                )
        return images, maps
