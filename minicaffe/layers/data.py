"""Data: batches of images from an LMDB of Datums, an IDX file (MNIST's format) or an NPZ file.

Shapes: the tops are the images (N, C, h, w), after ``transform_param``, and, if there is a second top, the labels
(N,). Caffe's DataLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.batches import ImageBatches
from minicaffe.data.order import Order
from minicaffe.data.sources.backends import open_source
from minicaffe.data.sources.source import BACKENDS
from minicaffe.data.transformer import TransformParam
from minicaffe.layers.batch_source import BatchSourceLayer, image_batches
from minicaffe.spec.fields import Bool, Enum, Int, Message, String


class DataParam(Message):
    """Caffe's DataParameter; ``shuffle``, ``label_source`` and two of the backends are additions."""

    source = String(required=True)
    backend = Enum(*BACKENDS)
    batch_size = Int(required=True, min=1)
    rand_skip = Int(0, min=0)
    prefetch = Int(4, min=1)
    shuffle = Bool(False)
    label_source = String()


@register_layer
class Data(BatchSourceLayer):
    """Reads ``data_param.source`` in consecutive batches that run on from one epoch into the next."""

    messages = {"data_param": DataParam, "transform_param": TransformParam}

    def make_batches(self, top: Blobs) -> ImageBatches:
        param = self.spec.message(DataParam)
        self.depth = param.prefetch
        source = open_source(
            param.source,
            param.backend,
            self.setting.folder,
            labels=param.label_source,
            color=self.spec.message(TransformParam).color,
        )
        order = Order(len(source), param.batch_size, self.seed, param.shuffle, param.rand_skip)
        return image_batches(self, source, order, with_labels=len(top) > 1)
