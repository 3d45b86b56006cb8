"""Input: blobs that the caller fills. Caffe's InputLayer."""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.workers import Calls
from minicaffe.ops.epilogue import Epilogue
from minicaffe.spec.net import InputParam


@register_layer
class Input(Layer):
    """Tops of given shapes, to be written before each forward: ``net.forward(data=images)``."""

    messages = {"input_param": InputParam}
    bottoms = (0, 0)
    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(InputParam)
        if len(param.shape) not in (1, len(top)):
            raise param.error(
                "shape", f"{len(param.shape)} given for {len(top)} tops; give one for each, or one"
            )
        for i, blob in enumerate(top):
            blob.reshape(*param.shape[i % len(param.shape)].dim)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Only the caller changes the shapes."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The caller has written the data already."""

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls:
        return []
