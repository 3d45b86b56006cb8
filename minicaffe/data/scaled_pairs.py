"""Images with a label for each pixel, as PSPNet and DeepLab train on them: enlarged, padded and cropped.

an image and its map → both scaled by one of some factors → padded below and at the right, up to the crop's
size, with the mean and the label to be ignored → cropped and mirrored alike → (image − mean) · scale
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.batches import Batch
from minicaffe.data.pairs import PairBatches, PairTransformer
from minicaffe.data.resize import resize, resize_nearest
from minicaffe.data.sources.source import Images
from minicaffe.data.transformer import TransformParam
from minicaffe.errors import SpecError
from minicaffe.spec.fields import Float, Int


class ScaledTransformParam(TransformParam):
    """``scale_factors``: one of them, drawn for each image, enlarges it bilinearly, and its map by nearest pixels.

    ``crop_height`` and ``crop_width`` are for crops that are not square.
    """

    scale_factors = Float(repeated=True, above=0)
    crop_width = Int(0, min=0)
    crop_height = Int(0, min=0)

    def check(self) -> None:
        super().check()
        if bool(self.crop_height) != bool(self.crop_width):
            missing = "crop_width" if self.crop_height else "crop_height"
            raise self.error(missing, "crop_height and crop_width must be given together; give both")
        if self.crop_height and self.crop_size:
            raise self.error("crop_size", "crop_height and crop_width are given too; keep either")
        if self.scale_factors and self.crop is None:
            raise self.error("scale_factors", "images would have several sizes; give crop_size too")
        if self.mean_file:
            raise self.error(
                "mean_file", "ImageSegData does not take one (nor does the original); give mean_value"
            )

    @property
    def crop(self) -> tuple[int, int] | None:
        return (self.crop_height, self.crop_width) if self.crop_height else super().crop


class ScalingTransformer(PairTransformer):
    """Transforms images, of any size if there is a crop, and their maps alike."""

    def __init__(self, param: ScaledTransformParam, phase: str, folder: str, ignored: int) -> None:
        super().__init__(param, phase, folder)
        self.factors = np.array(param.scale_factors, np.float32)
        self.ignored = ignored

    def cropped_shape(self, resized_shape: Sequence[int]) -> tuple[int, int, int]:
        channels, height, width = resized_shape
        if len(self.param.mean_value) not in (0, 1, channels):
            self._check(channels, height, width)
        return (channels, *(self.param.crop or (height, width)))

    def transform_pairs(
        self, images: Images, maps: Images, out: np.ndarray, out_maps: np.ndarray, rng: np.random.Generator
    ) -> None:
        mean = np.zeros((out.shape[0], 1, 1), np.float32)
        if self.param.mean_value:
            mean += np.array(self.param.mean_value, np.float32).reshape(-1, 1, 1)
        for n, (image, labels) in enumerate(zip(images, maps, strict=True)):
            image, labels = self._scaled(image, labels, rng)
            sides = np.maximum(image.shape[1:], out.shape[1:3])
            pixels = np.empty((len(image), *sides), np.float32)
            classes = np.full((1, *sides), self.ignored, np.float32)
            pixels[...] = mean
            image_part = np.s_[:, : image.shape[1], : image.shape[2]]
            pixels[image_part], classes[image_part] = image, labels
            flips, corners = self._draw(sides[None], rng)
            row, column = corners[0]
            window = np.s_[:, row : row + out.shape[1], column : column + out.shape[2]]
            step = -1 if flips[0] else 1
            out[..., n] = (pixels[window] - mean)[..., ::step] * self.scale
            out_maps[..., n] = classes[window][..., ::step]

    def _scaled(
        self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        factor = self.factors[rng.integers(len(self.factors))] if len(self.factors) else np.float32(1)
        if factor == 1:
            return image, labels
        height, width = (int(np.float32(side) * factor) for side in image.shape[1:])
        if not (height and width):
            raise SpecError(
                f"{self.param.where}: scale_factors: {factor:g} leaves nothing of an image; enlarge it"
            )
        resized = resize(image.transpose(1, 2, 0), height, width).transpose(2, 0, 1)
        return resized, resize_nearest(labels[0], height, width)[None]


class SizedPairBatches(PairBatches):
    """Batch k of transformed images and maps, and of how much of each is no padding, as long as it is not scaled:
    [(C, h, w, N), (1, h, w, N), (1, 1, 2, N)]."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [*super().shapes, (self.order.batch_size, 1, 1, 2)]

    def __call__(self, batch: int) -> Batch:
        images, maps = super().__call__(batch)
        read = self.source.read(self.order.indices(batch))[0]
        sizes = np.minimum([image.shape[1:] for image in read], images.shape[1:3])
        return [images, maps, np.ascontiguousarray(sizes.T[None, None], np.float32)]
