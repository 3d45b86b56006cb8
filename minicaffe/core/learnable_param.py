"""A parameter as the solver sees it: once, however many layers share it by name (``ParamSpec`` in Caffe's Net)."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.errors import ShapeError
from minicaffe.spec.net import ParamSpec


class LearnableParam:
    """A parameter blob as the solver sees it: once, however many layers share it."""

    def __init__(self, blob: Blob, spec: ParamSpec, key: str) -> None:
        self.blob = blob
        self.name = spec.name
        self.key = key
        self._lr_mult = spec.lr_mult if spec.has("lr_mult") else None
        self._decay_mult = spec.decay_mult if spec.has("decay_mult") else None

    @property
    def lr_mult(self) -> float:
        """Factor of the learning rate."""
        return 1.0 if self._lr_mult is None else self._lr_mult

    @property
    def decay_mult(self) -> float:
        """Factor of the weight decay."""
        return 1.0 if self._decay_mult is None else self._decay_mult

    def share_with(self, blob: Blob, spec: ParamSpec, layer: Layer, index: int) -> None:
        """Make ``blob`` use this parameter's numbers and gradient. Raises SpecError or ShapeError."""
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
        mine, its = getattr(self, f"_{field}"), getattr(spec, field)
        if mine is not None and mine != its:
            raise spec.error(
                field, f"{its:g}, but '{self.name}', which is shared, has {mine:g}; give one value"
            )
        setattr(self, f"_{field}", its)
