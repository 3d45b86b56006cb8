"""py-faster-rcnn's ``RoIDataLayer`` (``roi_data_layer.layer``): images and boxes, which the program gives.

Shapes, with three tops: images (1, 3, 608, 1024), their size (1, 3), true boxes (1, 5). With six tops, for K
classes: images, regions (1, 5, 1, 1), labels (1, 1, 1, 1), offsets to learn (1, 4 · K, 1, 1), and their
inside and outside weights, of that shape too. (The axes of length 1 are py-R-FCN's.)

py-faster-rcnn's own layer reads a data set that a program has prepared; here a program writes the blobs, and
shapes them to fit:

    net.blobs["gt_boxes"].reshape(len(boxes), 5)
    net.forward(data=image, im_info=[[height, width, scale]], gt_boxes=boxes)

K is 2 where the boxes are the same for all classes: if ``AGNOSTIC`` says so, or a PSROIPooling of the net has
8 outputs.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs
from minicaffe.layers.psroi_pooling import PSROIPoolingParam
from minicaffe.layers.python import stand_in
from minicaffe.layers.stand_ins.base import StandIn
from minicaffe.spec.fields import Bool, Int, Message

# Of cfg.TRAIN: SCALES, 600, and MAX_SIZE, 1000; as multiples of 32, which PVANet needs.
IMAGE = (1, 3, 608, 1024)


class RoIDataSettings(Message):
    """``num_classes``: with the background."""

    num_classes = Int(required=True, min=2)
    AGNOSTIC = Bool(False)


@stand_in("roi_data_layer.layer", "RoIDataLayer")
class RoIDataLayer(StandIn):
    """Tops to be written before each forward."""

    bottoms = (0, 0)
    tops = (3, 6)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        given = self.read(RoIDataSettings)
        pooled = [spec.find_message(PSROIPoolingParam) for spec in self.setting.layers]
        is_agnostic = given.AGNOSTIC or any(param and param.output_dim == 8 for param in pooled)
        targets = (1, 4 * (2 if is_agnostic else given.num_classes), 1, 1)
        shapes = [IMAGE, (1, 3), (1, 5)]
        if len(top) != len(shapes):
            shapes = [IMAGE, (1, 5, 1, 1), (1, 1, 1, 1), targets, targets, targets]
        for blob, shape in zip(top, shapes, strict=False):
            blob.reshape(*shape)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Only the program changes the shapes."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The program has written the data already."""
