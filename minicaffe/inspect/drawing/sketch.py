"""Sketches: of a net that cannot be made, what can.

A layer of a type that minicaffe does not know, or whose data are missing, or whose code is not run, is a box all
the same; the shapes after it are not known.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from minicaffe.core.graph import Step
from minicaffe.core.layer import Layer, layer_classes
from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.inspect.drawing.wires import View
from minicaffe.spec.net import LayerSpec, NetSpec


class Unknown(Layer):
    """A layer of a type that is not known: it may take and give any number of blobs."""

    bottoms = (0, None)
    tops = (0, None)
    in_place = True


class UnknownLoss(Unknown):
    """One whose type says that it is a loss."""

    is_loss = True


class Sketch(Net):
    """A net of which layers may be missing; ``problems`` says why, by their names.

    Raises SpecError where the layers cannot be connected, and WeightError for weights that do not fit.
    """

    def __init__(
        self, spec: NetSpec, weights: str | None, phase: str, level: int, stages: Iterable[str]
    ) -> None:
        self.problems: dict[str, MinicaffeError] = {}
        self._classes = classes_for(spec)
        self._unknown = {layer.name: layer.problem for layer in spec.layer or spec.layers if layer.problem}
        self._specs: list[LayerSpec] = []
        self._drawn: list[Step | None] = []
        self._missing: set[str] = set()  # blobs
        super().__init__(without_problems(spec), weights, phase, level=level, stages=stages)

    @property
    def view(self) -> View:
        """What is drawn of the net."""
        return View(self.state.phase, self._specs, self._drawn)

    def _append(self, spec: LayerSpec) -> None:
        before = len(self.steps)
        try:
            if spec.type not in layer_classes:
                raise SpecError(self._unknown[spec.name])
            if not self._missing & set(spec.bottom):
                super()._append(spec)
        except MinicaffeError as error:
            self.problems[spec.name] = error
        is_made = len(self.steps) > before
        self._specs.append(spec)
        self._drawn.append(self.steps[-1] if is_made else None)
        if not is_made:
            self._missing.update(spec.top)

    def _check_overwritten(self) -> None:
        """A sketch does not run, so nothing is overwritten."""


def classes_for(spec: NetSpec) -> Mapping[str, type[Layer]]:
    """The classes of layers by their types, also of the types in a spec that are not known."""
    types = {layer.type for layer in spec.layer or spec.layers} - layer_classes.keys()
    return {**layer_classes, **{name: UnknownLoss if name.endswith("Loss") else Unknown for name in types}}


def without_problems(spec: NetSpec) -> NetSpec:
    """A copy of a spec in which layers of unknown types may stand."""
    result = copy.copy(spec)
    for name in ("layer", "layers"):
        layers = [copy.copy(layer) for layer in getattr(spec, name)]
        for layer in layers:
            layer.problem = ""
        if layers:
            setattr(result, name, layers)
    return result
