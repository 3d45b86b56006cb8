"""A net whose data are not there: inputs of the shapes that they would have stand in for them."""

from __future__ import annotations

from typing import Any

from minicaffe.core.layer import Layer, class_of
from minicaffe.core.net import Net
from minicaffe.errors import DataError, MinicaffeError
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.spec.fields import BlobShape
from minicaffe.spec.net import InputParam, LayerSpec, make_layer_spec


class NeedsDataError(DataError):
    """Without its data nobody can say whether the net opens."""


class StandInNet(Net):
    """``missing`` says what is wrong with the data of layers, by their names; an Input stands in for each.

    Where the spec does not say how large the images are, they are (C, H, W) = ``image``. Raises NeedsDataError if
    the net does not take images of that size, or if no shape is known of the data (HDF5Data); else what Net raises.
    """

    def __init__(self, spec: Any, phase: str, image: tuple[int, int, int], **more: Any) -> None:
        self.missing: dict[str, DataError] = {}
        self._image = image
        self._guessed = ""  # the layer whose images may have another size
        super().__init__(spec, phase=phase, **more)

    def __enter__(self) -> StandInNet:
        super().__enter__()
        return self

    def _append(self, spec: LayerSpec) -> None:
        try:
            super()._append(spec)
        except DataError as error:
            self._append_stand_in(spec, error)
        except MinicaffeError as error:
            if not self._guessed:
                raise
            raise NeedsDataError(
                f"{error} (the size of '{self._guessed}' is not known without data; --image gives one)"
            ) from None

    def _append_stand_in(self, spec: LayerSpec, error: DataError) -> None:
        layer: Layer = class_of(spec)(spec, self.setting)
        if not isinstance(layer, BatchSourceLayer) or (shapes := layer.shapes_expected(self._image)) is None:
            raise NeedsDataError(str(error)) from None
        if shapes != layer.shapes_expected((0, 0, 0)):
            self._guessed = spec.top[0]
        self.missing[spec.name] = error
        stand_in = make_layer_spec("Input", name=spec.name, top=spec.top, loss_weight=[0.0] * len(spec.top))
        stand_in.message(InputParam).shape = [BlobShape(dim=list(shape)) for shape in shapes]
        super()._append(stand_in)
