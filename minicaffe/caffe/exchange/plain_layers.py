"""The layers of a net as Caffe has them: what is ours alone becomes layers of Caffe's that compute the same.

What a layer becomes is a function of its type, in ``conversions``; a layer without one stays as it is. What only
forks of Caffe have stays too, and is noted.

A layer is written with a rule on its phase where it is of one phase alone, and with no other rule (``BothPhases``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from minicaffe.caffe.exchange.both_phases import BothPhases
from minicaffe.caffe.exchange.plain_fields import plain_fields, unknown_names
from minicaffe.caffe.formats.data_files import whole_paths
from minicaffe.caffe.formats.layer_types import who_lacks
from minicaffe.caffe.formats.spec_tree import text
from minicaffe.caffe.formats.tree import Tree
from minicaffe.core.graph import UnusedNames
from minicaffe.core.layer import Layer, LayerTable
from minicaffe.core.net import Net
from minicaffe.data.sources.source import lookup_folders
from minicaffe.device.array import Array, to_host
from minicaffe.errors import joined
from minicaffe.spec.net import LayerSpec


@dataclass
class CaffeLayer:
    """A layer as it will be written: its fields and its arrays. They are made from ``spec`` and ``layer``.

    ``layer`` is None for a layer of the other phase, which the net does not have; it has no arrays.
    """

    tree: Tree
    spec: LayerSpec
    layer: Layer | None
    arrays: list[Array] = field(default_factory=list)

    def beside(self, name: str, kind: str, bottom: list[str], top: list[str], *kept: str) -> CaffeLayer:
        """Another layer with this one's rules, and with those of its fields that are ``kept``."""
        fields = {"name": [name], "type": [kind], "bottom": bottom, "top": top}
        tree = Tree(0, {name: [text(value) for value in values] for name, values in fields.items() if values})
        for name in ("include", *kept):
            if name in self.tree.fields:
                tree.fields[name] = deepcopy(self.tree.fields[name])
        return CaffeLayer(tree, self.spec, self.layer)


Conversion = Callable[["PlainLayers", CaffeLayer], list[CaffeLayer]]
conversions: LayerTable[Conversion] = LayerTable()


class PlainLayers:
    """The layers of both phases that a net's spec lists; ``notes`` are lines about what is not in Caffe 1.0.

    Raises SpecError for what cannot be written, DataError where a data layer's file is needed and not there.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.folders = lookup_folders(Path(net.spec.where.file).parent)
        self._layers = {layer.name: layer for layer in net.layers}
        with closing(BothPhases(net)) as self._phases:
            self.notes = self._phases.notes
            self.specs = [spec for spec, _ in self._phases.layers]
            self._names = UnusedNames(name for spec in self.specs for name in (spec.name, *spec.top))
            self.layers = [plain for spec, phase in self._phases.layers for plain in self._plain(spec, phase)]

    def _plain(self, spec: LayerSpec, phase: str) -> list[CaffeLayer]:
        layer = self._layers[spec.name] if phase in ("", self.net.state.phase) else None
        plain = CaffeLayer(plain_fields(spec, phase), spec, layer)
        if layer is not None:
            plain.arrays = [to_host(blob.data) for blob in layer.blobs]
        convert = conversions.get(spec.type)
        made = [plain] if convert is None else convert(self, plain)
        for line in whole_paths(plain.tree, self.folders[0]):
            self.note(plain, line)
        self._note_what_is_lacking(plain)
        return made

    def _note_what_is_lacking(self, plain: CaffeLayer) -> None:
        if lacking := who_lacks(plain.tree.text("type")):
            self.note(plain, lacking)
        elif unknown := list(unknown_names(plain.tree, "LayerParameter")):
            self.note(plain, f"Caffe 1.0 does not know {', '.join(unknown)}")

    # -- for conversions ---------------------------------------------------------------------------------

    def note(self, plain: CaffeLayer, what: str) -> None:
        """Add a line about a layer to ``notes``."""
        self.notes.append(joined(f"layer '{plain.spec.name}': {what}"))

    def unused(self, name: str) -> str:
        """The name, or a longer one where a layer or blob has it."""
        return self._names.like(name)

    def net_with(self, plain: CaffeLayer) -> Net:
        """The net, or where it does not have this layer, that of the other phase."""
        return self._phases.other if plain.layer is None else self._phases.net
