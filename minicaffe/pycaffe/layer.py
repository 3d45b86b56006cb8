"""caffe.Layer: a layer written in Python, as pycaffe has it.

class Double(caffe.Layer):
    def setup(self, bottom, top): self.blobs.add_blob(1)
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 2 * top[0].diff
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import minicaffe
from minicaffe.blob import Blob
from minicaffe.layer import Setting
from minicaffe.pycaffe.blobs import HostView, send_written
from minicaffe.pycaffe.proto.caffe_pb2 import TEST, TRAIN
from minicaffe.spec.net import LayerSpec

CALLS = ("setup", "reshape", "forward", "backward")


class BlobVec(list):
    """The parameters of a layer."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self._layer = layer

    def add_blob(self, *shape: int) -> None:
        """Add a parameter of this shape, zeros."""
        setting = self._layer.setting
        self.append(Blob(shape, setting.dtype, setting.device, batch_last=False))


class Layer(minicaffe.Layer):
    """Base of a script's own layers, for ``type: "Python"``; ``param_str`` is the text that the net gives it.

    ``phase`` is ``caffe.TRAIN`` or ``caffe.TEST``; ``self.blobs.add_blob(1, 2, 3)`` in ``setup`` adds a parameter.
    """

    bottoms = (0, None)
    tops = (0, None)
    param_str = ""

    def __init__(self, spec: LayerSpec, setting: Setting) -> None:
        super().__init__(spec, setting)
        self.phase = TRAIN if self.phase == "TRAIN" else TEST
        self.blobs = BlobVec(self)
        view = HostView(setting.device)
        if view.is_needed:
            for name in CALLS:
                setattr(self, name, self._on_host(getattr(self, name), view))

    @property
    def param_str_(self) -> str:
        """``param_str``, by its older name."""
        return self.param_str

    def _on_host(self, call: Callable[..., None], view: HostView) -> Callable[..., None]:
        """A method that is handed NumPy's arrays, though the net computes on a GPU."""

        def wrapped(*args: Any) -> None:
            own = self.blobs
            self.blobs = _HostBlobVec(own, view)
            try:
                call(*(view.of_all(arg) if _are_blobs(arg) else arg for arg in args))
            finally:
                self.blobs = own
                send_written()

        return wrapped


class _HostBlobVec(list):
    """The parameters of a layer on a GPU, while its own code runs on the host."""

    def __init__(self, own: BlobVec, view: HostView) -> None:
        super().__init__(view.of_all(own))
        self._own, self._view = own, view

    def add_blob(self, *shape: int) -> None:
        self._own.add_blob(*shape)
        self.append(self._view.of(self._own[-1]))


def _are_blobs(arg: Any) -> bool:
    return all(isinstance(item, Blob) for item in arg)
