"""ImageData: batches of image files, from a list ("path label" a line) or a folder with one for each class.

Tops: the images, (N, C, h, w), in Caffe's channel order (blue, green, red); and, if wanted, the labels, (N,).
"""

from __future__ import annotations

from minicaffe.data.batches import ImageBatches
from minicaffe.data.image_list import open_images
from minicaffe.data.transformer import TransformParam
from minicaffe.layer import Blobs, register_layer
from minicaffe.layers.batch_source import BatchSourceLayer, image_batches
from minicaffe.spec.fields import Bool, Int, Message, String


class ImageDataParam(Message):
    """Caffe's ImageDataParameter; ``source`` may also be a folder with a sub-folder for each class."""

    source = String(required=True)
    batch_size = Int(1, min=1)
    rand_skip = Int(0, min=0)
    shuffle = Bool(False)
    new_height = Int(0, min=0)
    new_width = Int(0, min=0)
    is_color = Bool(True)
    root_folder = String("")

    def check(self) -> None:
        if bool(self.new_height) != bool(self.new_width):
            missing = "new_width" if self.new_height else "new_height"
            raise self.error(missing, "new_height and new_width must be given together; give both")


@register_layer
class ImageData(BatchSourceLayer):
    """Reads the images that ``image_data_param.source`` lists or holds."""

    messages = {"image_data_param": ImageDataParam, "transform_param": TransformParam}

    def make_batches(self, top: Blobs) -> ImageBatches:
        param = self.spec.image_data_param
        size = (param.new_height, param.new_width) if param.new_height else None
        source = open_images(param.source, self.setting.folder, param.root_folder, param.is_color, size)
        return image_batches(self, source, param, with_labels=len(top) > 1)
