"""ImageLabelmapData: batches of images and of their maps of edges, from a list with lines "image edge_image".

Shapes: the tops are the images (N, C, h, w), in Caffe's channel order (blue, green, red), and the edges
(N, 1, h, w): 1 where the grey edge image is at least 128, which is its 255th, rounded; else 0.

Both are resized to ``new_height`` × ``new_width`` bilinearly, and mirrored and cropped alike, as
``transform_param`` says. A crop is at random at TEST too, as in the original. Mean and scale are for images alone.

The ImageLabelmapDataLayer of HED's Caffe (Xie and Tu 2015, arXiv 1504.06375; s9xie/hed).
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.pairs import PairBatches, PairTransformer
from minicaffe.data.sources.image_pairs import EdgeMapSource, find_pairs
from minicaffe.data.transformer import TransformParam
from minicaffe.layers.pair_source import PairLayer, PairListParam


@register_layer
class ImageLabelmapData(PairLayer):
    """Reads the pairs that ``image_data_param.source`` lists."""

    messages = {"image_data_param": PairListParam, "transform_param": TransformParam}

    def make_batches(self, top: Blobs) -> PairBatches:
        param, transform = self.spec.message(PairListParam), self.spec.message(TransformParam)
        transformer = PairTransformer(transform, self.phase, self.setting.folder)
        transformer.crops_at_random = transform.crop_size > 0
        images, maps = find_pairs(*self.listed())
        return self.pair_batches(images, EdgeMapSource(maps, False, param.new_size), transformer)
