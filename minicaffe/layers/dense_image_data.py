"""DenseImageData: batches of images and of their label images, from a list with lines "image label_image".

Shapes: the tops are the images (N, C, h, w), in Caffe's channel order (blue, green, red), and the labels
(N, 1, h / d, w / d), each the grey level of a pixel of the label image; d is ``label_divide_factor``.

Images are resized to ``new_height`` × ``new_width`` bilinearly, label images to a d-th of it by their nearest
pixels. Then both are mirrored and cropped alike: as the layer's own ``mirror``, ``crop_height`` and ``crop_width``
say, at random at TEST too, and as ``mirror`` and ``crop_size`` of ``transform_param`` say, which the original
refuses. Its mean and scale are for images alone.

The DenseImageDataLayer of SegNet's Caffe (alexgkendall/caffe-segnet); ``label_divide_factor`` is ENet's
(TimoSaemann/caffe-enet).
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.pairs import PairBatches, PairTransformer
from minicaffe.data.sources.image_pairs import LabelMapSource, find_pairs
from minicaffe.data.transformer import TransformParam
from minicaffe.layers.missing_data import Sizes
from minicaffe.layers.pair_source import PairLayer, PairListParam
from minicaffe.spec.fields import Bool, Int, String
from minicaffe.spec.net import LayerSpec


class DenseImageDataParam(PairListParam):
    """Fields of SegNet's Caffe. ``mean_file`` has no effect, as there; that of ``transform_param`` has."""

    mean_file = String("")
    mirror = Bool(False)
    crop_width = Int(0, min=0)
    crop_height = Int(0, min=0)
    label_divide_factor = Int(1, min=1)

    def check(self) -> None:
        super().check()
        self.check_pair("crop")
        if self.label_divide_factor > 1 and self.crop_height:
            raise self.error(
                "crop_height",
                "label_divide_factor leaves labels that are not cropped with images; keep either",
            )


@register_layer
class DenseImageData(PairLayer):
    """Reads the pairs that ``dense_image_data_param.source`` lists."""

    messages = {"dense_image_data_param": DenseImageDataParam, "transform_param": TransformParam}

    def make_batches(self, top: Blobs) -> PairBatches:
        param = self.spec.message(DenseImageDataParam)
        size, divisor = param.new_size, param.label_divide_factor
        transformer = PairTransformer(
            self.spec.message(TransformParam),
            self.phase,
            self.setting.folder,
            param.mirror,
            (param.crop_height, param.crop_width) if param.crop_height else None,
            divisor,
        )
        map_size = (size[0] // divisor, size[1] // divisor) if size else None
        images, maps = find_pairs(*self.listed())
        return self.pair_batches(images, LabelMapSource(maps, False, map_size), transformer)

    def sizes_read(self) -> Sizes:
        param = self.spec.message(DenseImageDataParam)
        channels, height, width = super().sizes_read()
        return channels, param.crop_height or height, param.crop_width or width

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        divisor = spec.message(DenseImageDataParam).label_divide_factor
        return [
            (count, one, height // divisor, width // divisor)
            for count, one, height, width in super().shapes_beside(spec, first, folder)
        ]
