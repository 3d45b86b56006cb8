"""ImageSegData: batches of images and of their label images, scaled at random, padded and cropped.

Shapes: the tops are the images (N, C, h, w), in Caffe's channel order (blue, green, red), the labels (N, 1, h, w),
and the height and width of each image (N, 1, 1, 2), at most h and w.

``label_type`` says what a line of the list has after the image: PIXEL a label image, IMAGE one label for all
pixels, NONE nothing that is read, and the labels are ``ignore_label``. Images smaller than the crop are padded with
the mean below and at the right, their labels with ``ignore_label`` (``data/scaled_pairs.py``). ``new_height`` and
``new_width`` resize label images bilinearly too, as in the original, which mixes their labels.

The ImageSegDataLayer of DeepLab's and PSPNet's Caffe (Chen et al. 2014, arXiv 1412.7062; hszhao/PSPNet).
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.pairs import PairBatches
from minicaffe.data.scaled_pairs import ScaledTransformParam, ScalingTransformer, SizedPairBatches
from minicaffe.data.sources.image_list import ImageList, ImageListSource
from minicaffe.data.sources.image_pairs import find_labelled, find_pairs, find_unlabelled
from minicaffe.layers.pair_source import PairLayer, PairListParam
from minicaffe.spec.fields import Enum, Int
from minicaffe.spec.net import LayerSpec


class ImageSegDataParam(PairListParam):
    """PSPNet's fields of ImageDataParameter. Labels are bytes."""

    ignore_label = Int(255, min=0, max=255)
    label_type = Enum("NONE", "IMAGE", "PIXEL", default="IMAGE")


@register_layer
class ImageSegData(PairLayer):
    """Reads what ``image_data_param.source`` lists."""

    messages = {"image_data_param": ImageSegDataParam, "transform_param": ScaledTransformParam}
    tops = (3, 3)

    def make_batches(self, top: Blobs) -> PairBatches:
        param = self.spec.message(ImageSegDataParam)
        transform = self.spec.message(ScaledTransformParam)
        transformer = ScalingTransformer(transform, self.phase, self.setting.folder, param.ignore_label)
        images, maps = self._find(param)
        return self.pair_batches(images, maps, transformer, SizedPairBatches)

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        return [*super().shapes_beside(spec, first, folder), (*first[:1], 1, 1, 2)]

    def _find(self, param: ImageSegDataParam) -> tuple[ImageList, ImageListSource | np.ndarray]:
        """The images, and their label images or labels."""
        if param.label_type == "PIXEL":
            images, maps = find_pairs(*self.listed())
            return images, ImageListSource(maps, False, param.new_size)
        if param.label_type == "IMAGE":
            return find_labelled(*self.listed())
        images = find_unlabelled(*self.listed())
        return images, np.full(len(images), float(param.ignore_label))
