"""DummyData: tops of given shapes, filled by a filler.

Constants are filled in once; random numbers are new in each forward. Caffe's DummyDataLayer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from minicaffe.core.fillers import FillerParam, fill
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import BlobShape, Int, Message, Nested

Value = TypeVar("Value")


class DummyDataParam(Message):
    """Each field has one value for each top, or one for all. ``num`` … ``width`` are the old form of ``shape``."""

    data_filler = Nested(FillerParam, repeated=True)
    shape = Nested(BlobShape, repeated=True)
    num = Int(min=0, repeated=True)
    channels = Int(min=0, repeated=True)
    height = Int(min=0, repeated=True)
    width = Int(min=0, repeated=True)

    def check(self) -> None:
        old = [name for name in ("num", "channels", "height", "width") if self.has(name)]
        if old and self.shape:
            raise self.error(old[0], "'shape' is given too; keep shape")
        if not old and not self.shape:
            raise self.error("shape", "required, but not given; add 'shape: {dim: [N, C, H, W]}'")

    def for_top(self, name: str, values: Sequence[Value], index: int, tops: int) -> Value:
        """The value for one of the tops, of those of the field ``name``. Raises SpecError if there is none."""
        if len(values) not in (1, tops):
            raise self.error(name, f"{len(values)} given for {tops} tops; give one for each, or one")
        return values[index if len(values) > 1 else 0]

    def shape_of(self, index: int, tops: int) -> tuple[int, ...]:
        """The shape of one of the tops."""
        if self.shape:
            return tuple(self.for_top("shape", self.shape, index, tops).dim)
        sizes = {"num": self.num, "channels": self.channels, "height": self.height, "width": self.width}
        return tuple(self.for_top(name, values, index, tops) for name, values in sizes.items())


@register_layer
class DummyData(Layer):
    """Constants or random numbers, as inputs for tests and timing."""

    messages = {"dummy_data_param": DummyDataParam}
    bottoms = (0, 0)
    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(DummyDataParam)
        for i, blob in enumerate(top):
            blob.reshape(*param.shape_of(i, len(top)))
        fillers = param.data_filler or [FillerParam()]
        self.fillers = [param.for_top("data_filler", fillers, i, len(top)) for i in range(len(top))]
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler.type == "constant":
                fill(blob, filler, self.rng)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """The shapes are fixed by the spec."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for blob, filler in zip(top, self.fillers, strict=True):
            if filler.type != "constant":
                fill(blob, filler, self.rng)
