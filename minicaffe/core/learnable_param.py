"""A parameter as the solver sees it: once, however many layers share it by name (Caffe's ``ParamSpec``)."""

from __future__ import annotations

from collections.abc import Iterable

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.errors import ShapeError
from minicaffe.spec.net import ParamSpec


class LearnableParam:
    """A parameter blob, with the factors of its learning rate and its weight decay.

    Layers that share the parameter must agree on a factor where they give it; the default is 1.
    """

    def __init__(self, blob: Blob, spec: ParamSpec, key: str) -> None:
        self.blob = blob
        self.name = spec.name
        self.key = key
        self.lr_mult, self.decay_mult = spec.lr_mult, spec.decay_mult
        self._given = {field for field in ("lr_mult", "decay_mult") if spec.has(field)}

    def share_with(self, blob: Blob, spec: ParamSpec, layer: Layer, index: int) -> None:
        """Let ``blob`` use the data and the gradient of this parameter. Raises SpecError or ShapeError."""
        same = (
            blob.count == self.blob.count
            if spec.share_mode == "PERMISSIVE"
            else blob.shape == self.blob.shape
        )
        if not same:
            raise ShapeError(
                f"{spec.where}: parameter {index} of layer '{layer.name}' has shape {blob.shape}, "
                f"but '{self.name}', which it shares, has {self.blob.shape}"
            )
        for field in ("lr_mult", "decay_mult"):
            self._agree(field, spec)
        blob.share_data(self.blob)
        blob.share_diff(self.blob)

    def _agree(self, field: str, spec: ParamSpec) -> None:
        if not spec.has(field):
            return
        mine, its = getattr(self, field), getattr(spec, field)
        if field in self._given and mine != its:
            raise spec.error(
                field, f"{its:g}, but '{self.name}', which is shared, has {mine:g}; give one value"
            )
        setattr(self, field, its)
        self._given.add(field)


def count_numbers(params: Iterable[LearnableParam]) -> tuple[int, int]:
    """How many numbers some parameters have, and how many of these have ``lr_mult: 0``."""
    counts = [(param.blob.count, param.lr_mult) for param in params]
    return sum(count for count, _ in counts), sum(count for count, lr_mult in counts if lr_mult == 0)
