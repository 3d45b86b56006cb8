"""HDF5Data: batches of rows of HDF5 data sets.

Shapes: each top (N, …) has rows of the data set of its name, as float32. Caffe's HDF5DataLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.batches import DatasetBatches
from minicaffe.data.order import Order
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.data.transformer import TransformParam
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.spec.fields import Bool, Int, Message, String
from minicaffe.spec.net import LayerSpec


class HDF5DataParam(Message):
    """Caffe's HDF5DataParameter: ``source`` is a text file that lists .h5 files."""

    source = String(required=True)
    batch_size = Int(required=True, min=1)
    shuffle = Bool(False)


@register_layer
class HDF5Data(BatchSourceLayer):
    """Reads file after file; ``shuffle`` shuffles the files and the rows within each, but never mixes files."""

    messages = {"hdf5_data_param": HDF5DataParam, "transform_param": TransformParam}
    tops = (1, None)

    def shapes_expected(self, image: tuple[int, int, int]) -> None:
        """Only the files say what shapes their arrays have."""

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        return []

    def make_batches(self, top: Blobs) -> DatasetBatches:
        if self.spec.has("transform_param"):
            raise self.spec.error(
                "transform_param",
                "HDF5Data does not transform (nor does Caffe's): write the data as the net needs them",
            )
        param = self.spec.message(HDF5DataParam)
        source = open_hdf5(param.source, self.spec.top, self.setting.folder)
        return DatasetBatches(source, Order(source.rows, param.batch_size, self.seed, param.shuffle))
