"""caffe.Layer: a layer written in Python, as pycaffe has it.

class Double(caffe.Layer):
    def setup(self, bottom, top): self.blobs.add_blob(1)
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 2 * top[0].diff
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minicaffe
from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, NetSetting
from minicaffe.pycaffe.blobs import BlobVec, HostView
from minicaffe.pycaffe.proto.caffe_pb2 import TEST, TRAIN
from minicaffe.spec.net import LayerSpec


class Layer:
    """Base of a script's own layers, for ``type: "Python"``.

    From ``setup`` on it has ``param_str``, the text from the net; ``phase``, ``caffe.TRAIN`` or
    ``caffe.TEST``; and ``blobs``, its parameters, of which ``self.blobs.add_blob(1, 2, 3)`` in ``setup`` adds one.
    All other names are the script's.
    """

    type = "Python"
    param_str: str
    phase: int
    blobs: BlobVec

    def __init__(self, *_: Any) -> None:
        """Caffe passes the layer's message to the constructor; here there is none."""

    @property
    def param_str_(self) -> str:
        """``param_str``, by its older name."""
        return self.param_str

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Once, before ``reshape``: read ``param_str``, make parameters."""

    @classmethod
    def as_core_layer(cls, spec: LayerSpec, setting: NetSetting) -> ScriptLayer:
        """What a net runs: it passes the calls on to an object of this class."""
        return ScriptLayer(spec, setting, cls)


class ScriptLayer(minicaffe.Layer):
    """A layer of a net whose work ``script`` does, an object of a script's class, on NumPy's arrays."""

    bottoms = (0, None)
    tops = (0, None)

    def __init__(self, spec: LayerSpec, setting: NetSetting, cls: type[Layer]) -> None:
        super().__init__(spec, setting)
        self.script = cls(spec)
        self.__doc__ = cls.__doc__ or ""  # which a notebook and a report show
        self.param_str = ""
        self._host = HostView(setting.device)

    def _add_parameter(self, shape: Sequence[int]) -> Any:
        """One more parameter, zeros, as the script sees it."""
        self.blobs.append(Blob(shape, self.dtype, self.setting.device, batch_last=False))
        return self._host.of(self.blobs[-1])

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.script.param_str = self.param_str
        self.script.phase = TRAIN if self.phase == "TRAIN" else TEST
        self.script.blobs = BlobVec([], self._add_parameter)
        self._call("setup", bottom, top)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self._call("reshape", bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self._call("forward", bottom, top)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        self._call("backward", top, propagate_down, bottom)

    @property
    def has_backward(self) -> bool:
        """Whether the script defines one."""
        return hasattr(self.script, "backward")

    def _call(self, name: str, first: Blobs, *rest: Any) -> None:
        run = getattr(self.script, name, None)
        if run is None:
            raise self.spec.error("python_param", f"class '{type(self.script).__name__}' has no '{name}'")
        run(self._host.of_all(first), *rest[:-1], self._host.of_all(rest[-1]))
