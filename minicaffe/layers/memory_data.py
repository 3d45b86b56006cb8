"""MemoryData: batches of arrays that the program passes to ``net.set_input_arrays(data, labels)``.

Shapes: the tops are the data (N, C, H, W) and, if there is a second top, the labels (N,).

The arrays are used in order, over and over, untransformed. Caffe's MemoryDataLayer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.errors import DataError
from minicaffe.spec.fields import Int, Message
from minicaffe.spec.net import LayerSpec


class MemoryDataParam(Message):
    """Caffe's MemoryDataParameter."""

    batch_size = Int(required=True, min=1)
    channels = Int(required=True, min=1)
    height = Int(required=True, min=1)
    width = Int(required=True, min=1)


@register_layer
class MemoryData(Layer):
    """Batches of the program's arrays."""

    messages = {"memory_data_param": MemoryDataParam}
    bottoms = (0, 0)
    tops = (1, 2)

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        return [first[:1]]

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(MemoryDataParam)
        self.batch_size = param.batch_size
        self.image_shape = (param.channels, param.height, param.width)
        self.data: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.next_batch = 0

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Use these from now on: ``data`` (n, C, H, W), ``labels`` (n,); float32 arrays are not copied.

        Raises DataError if the shapes do not match the spec or n is not a multiple of ``batch_size``.
        """
        data, labels = np.asarray(data, np.float32), np.asarray(labels, np.float32).reshape(-1)
        if data.shape[1:] != self.image_shape:
            raise self._error(f"data has shape {data.shape}; expected (n, {str(self.image_shape)[1:]}")
        if len(data) == 0 or len(data) % self.batch_size:
            raise self._error(
                f"{len(data)} images are not a multiple of batch_size {self.batch_size}; add or remove some"
            )
        if len(labels) != len(data):
            raise self._error(f"{len(data)} images, but {len(labels)} labels; give one label for each image")
        self.data, self.labels, self.next_batch = data, labels, 0

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.spec.where}: {problem}")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob, shape in zip(top, [self.image_shape, ()], strict=False):
            blob.reshape(self.batch_size, *shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if self.data is None or self.labels is None:
            raise self._error("no arrays yet; call the layer's set_input_arrays(data, labels) first")
        first = self.next_batch * self.batch_size % len(self.data)
        for blob, array in zip(top, (self.data, self.labels), strict=False):
            blob.data[...] = self.setting.device.put(array[first : first + self.batch_size])
        self.next_batch += 1

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """There are no bottoms."""

    def state(self) -> dict[str, int]:
        return {"next_batch": self.next_batch}

    def restore(self, state: dict[str, Any]) -> None:
        self.next_batch = self.count_in(state, "next_batch")
