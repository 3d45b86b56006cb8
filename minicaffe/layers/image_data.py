"""ImageData: batches of image files, from a list (lines of "path label") or a folder with a sub-folder per class.

Shapes: the tops are the images (N, C, h, w), in Caffe's channel order (blue, green, red), and, if there is a second
top, the labels (N,), or (N, L) if the lines of the list have L labels. Caffe's ImageDataLayer.
"""

from __future__ import annotations

import logging

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.batches import ImageBatches
from minicaffe.data.order import Order
from minicaffe.data.sources.image_list import ImageListSource, class_names, open_images, read_class_names
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.data.transformer import TransformParam
from minicaffe.errors import listing
from minicaffe.layers.batch_source import BatchSourceLayer, image_batches
from minicaffe.layers.missing_data import Sizes
from minicaffe.spec.fields import Bool, Int, Message, String

logger = logging.getLogger("minicaffe")


class ImageDataParam(Message):
    """Caffe's ImageDataParameter; ``source`` may also be a folder with a sub-folder per class.

    ``class_names`` is an addition: a text file with the name of a class on each line, for the labels of a list.
    """

    source = String(required=True)
    batch_size = Int(1, min=1)
    rand_skip = Int(0, min=0)
    shuffle = Bool(False)
    new_height = Int(0, min=0)
    new_width = Int(0, min=0)
    is_color = Bool(True)
    root_folder = String("")
    class_names = String("")

    def check(self) -> None:
        if bool(self.new_height) != bool(self.new_width):
            missing = "new_width" if self.new_height else "new_height"
            raise self.error(missing, "new_height and new_width must be given together; give both")


@register_layer
class ImageData(BatchSourceLayer):
    """Reads the images that ``image_data_param.source`` lists or contains."""

    messages = {"image_data_param": ImageDataParam, "transform_param": TransformParam}

    def make_batches(self, top: Blobs) -> ImageBatches:
        param = self.spec.message(ImageDataParam)
        size = (param.new_height, param.new_width) if param.new_height else None
        source = open_images(param.source, self.setting.folder, param.root_folder, param.is_color, size)
        if param.class_names and source.class_names:
            raise param.error("class_names", "a folder names its classes itself; leave this out")
        if param.class_names:
            source.name_classes(self._names_in(param))
        if source.class_names:
            self._number_classes(source)
        order = Order(len(source), param.batch_size, self.seed, param.shuffle, param.rand_skip)
        return image_batches(self, source, order, with_labels=len(top) > 1)

    def sizes_read(self) -> Sizes:
        param = self.spec.message(ImageDataParam)
        return 3 if param.is_color else 1, param.new_height or None, param.new_width or None

    def _names_in(self, param: ImageDataParam) -> list[str]:
        places = lookup_folders(self.setting.folder)
        return read_class_names(find_path(param.class_names, places, "file of class names"))

    def _number_classes(self, source: ImageListSource) -> None:
        """Number the classes as in training: a missing class must not shift the others."""
        names = self.setting.label_names
        trained = [] if names.of_top else names.trained  # these belong to the first layer that has classes
        known = list(trained or self._training_classes())
        missing = source.number_as(known) if known else []
        if missing:
            logger.warning("%s: no images of %s, which is trained on", source.name, listing(missing))
        names.of_top[self.spec.top[-1]] = source.class_names

    def _training_classes(self) -> list[str]:
        """The classes of the images that the same spec reads these tops from in training; [] if it names none."""
        for spec in self.setting.label_names.training_layers:
            if spec.type == "ImageData" and (spec.top or [spec.name]) == self.spec.top:
                param = spec.message(ImageDataParam)
                if param.class_names:
                    return self._names_in(param)
                places = [place / param.source for place in lookup_folders(self.setting.folder)]
                return next((class_names(place) for place in places if place.is_dir()), [])
        return []
