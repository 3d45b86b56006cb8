"""The layers of a net as Caffe has them: what is ours alone becomes layers of Caffe's that compute the same.

A layer of low rank becomes two plain ones, DepthwiseConvolution a Convolution, a data layer whose source Caffe does
not read an Input. What only forks of Caffe have stays as it is, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicaffe.array import to_host
from minicaffe.caffe.schema import schema
from minicaffe.caffe.spec_tree import number, spec_tree, text
from minicaffe.caffe.tree import Tree
from minicaffe.data.backends import locate
from minicaffe.data.source import find_path, lookup_folders
from minicaffe.graph import with_defaults
from minicaffe.layer import Layer, layer_classes
from minicaffe.layers.low_rank.low_rank import LowRankLayer
from minicaffe.layers.low_rank.stages import Stage, stages
from minicaffe.net import Net
from minicaffe.ops.im2col import Window
from minicaffe.ops.pooling import output_size
from minicaffe.spec.net import LayerSpec, NetState, make_state

OF_FORKS = {
    *("Axpy", "BN", "ConvolutionDepthwise", "DepthwiseConvolution", "DetectionOutput", "Interp", "Normalize"),
    *("Permute", "PriorBox", "ReLU6", "Reverse", "ROIPooling", "ShuffleChannel", "SmoothL1Loss", "Upsample"),
}  # fmt: skip
CAFFE_BACKENDS = ("LMDB", "LEVELDB")
DATA_MESSAGES = ("data_param", "image_data_param", "window_data_param", "transform_param")
WINDOW_FIELDS = (
    *("kernel_size", "pad", "stride", "dilation"),
    *(f"{name}_{axis}" for name in ("kernel", "pad", "stride") for axis in "hw"),
)  # fmt: skip


@dataclass
class CaffeLayer:
    """A layer's fields, and its arrays where the net has it: layers of the other phase have none."""

    tree: Tree
    arrays: list[np.ndarray] = field(default_factory=list)
    is_in_net: bool = True


class PlainLayers:
    """The layers that a net's spec lists, of both phases; ``notes`` are lines on what is not of Caffe 1.0.

    Raises SpecError for what cannot be written, DataError where a data layer's file is needed and not there.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.notes: list[str] = []
        self._held = {layer.name: layer for layer in net.layers}
        self._other: Net | None = None  # of the other phase; made where a layer of it has to be known
        specs = list(self._specs())
        self._names = {spec.name for spec, _ in specs} | set(net.blobs)
        try:
            self.layers = [plain for spec, here in specs for plain in self._plain(spec, here)]
        finally:
            if self._other is not None:
                self._other.close()

    def _specs(self) -> Iterator[tuple[LayerSpec, bool]]:
        """Each layer of the spec, with its bottoms and tops written out, and whether it is in the net."""
        state, listed = self.net.state, self.net.spec.layer or self.net.spec.layers
        other = make_state("TRAIN" if state.phase == "TEST" else "TEST", state.level, state.stage)
        inputs, mine = self._filled(state)
        _, its = self._filled(other)
        yield from ((layer, True) for layer in inputs)
        for i, layer in enumerate(listed):
            if i in mine and i in its and mine[i].bottom != its[i].bottom:
                raise layer.error(
                    "bottom", f"{mine[i].bottom} or {its[i].bottom}, by the phase; write it out"
                )
            if i in mine or i in its:
                yield mine.get(i) or its[i], i in mine
            else:
                self.notes.append(f"layer '{layer.name}' is left out: it is of another level or stage")

    def _filled(self, state: NetState) -> tuple[list[LayerSpec], dict[int, LayerSpec]]:
        """The layers of a state, with defaults: those for the spec's ``input``, and the others by place."""
        listed = self.net.spec.layer or self.net.spec.layers
        places = [i for i, layer in enumerate(listed) if layer.belongs_to(state)]
        if not places:
            return [], {}
        filled = with_defaults(self.net.spec.layers_in(state), layer_classes)
        first = len(filled) - len(places)
        return filled[:first], dict(zip(places, filled[first:], strict=True))

    # -- one layer ---------------------------------------------------------------------------------------

    def _plain(self, spec: LayerSpec, here: bool) -> list[CaffeLayer]:
        tree = spec_tree(spec)
        if not spec.has("loss_weight"):
            tree.pop("loss_weight")
        layer = self._held[spec.name] if here else None
        plain = CaffeLayer(tree, [to_host(blob.data) for blob in layer.blobs] if layer else [], here)
        if "low_rank_param" in tree.fields:
            return self._low_rank(plain, spec, layer)
        if spec.type in ("DepthwiseConvolution", "ConvolutionDepthwise"):
            self._depthwise(tree, spec)
        elif spec.type in ("Data", "ImageData", "WindowData"):
            self._data(tree, spec)
        cut = self._round(tree, spec) if spec.type == "Pooling" else []
        self._note(tree, spec)
        return [plain, *cut]

    def _note(self, tree: Tree, spec: LayerSpec) -> None:
        kind, unknown = tree.text("type"), list(_unknown_fields(tree, "LayerParameter"))
        if kind in OF_FORKS:
            self.notes.append(f"layer '{spec.name}': type {kind} is not of Caffe 1.0, but of forks of it")
        elif unknown:
            self.notes.append(f"layer '{spec.name}': Caffe 1.0 does not know {', '.join(unknown)}")

    def _depthwise(self, tree: Tree, spec: LayerSpec) -> None:
        """A Convolution with a group for each channel."""
        channels = self._net_with(spec).blobs[spec.bottom[0]].shape[spec.convolution_param.axis]
        tree.set("type", text("Convolution"))
        tree.child("convolution_param").set("group", number(channels))

    def _net_with(self, spec: LayerSpec) -> Net:
        """The net, or where it does not have this layer, that of the other phase."""
        state = self.net.state
        if spec.belongs_to(state):
            return self.net
        if self._other is None:
            phase = "train" if state.phase == "TEST" else "test"
            self._other = Net(self.net.spec, phase=phase, level=state.level, stages=state.stage)
        return self._other

    def _round(self, tree: Tree, spec: LayerSpec) -> list[CaffeLayer]:
        """Pooling that rounds down: Caffe 1.0 rounds up alone, and what is too much is cut off by Slice layers."""
        if spec.pooling_param.rounds_up:
            return []
        net = self._net_with(spec)
        image, size = net.blobs[spec.bottom[0]].shape[2:], net.blobs[spec.top[0]].shape[2:]
        tree.child("pooling_param").pop("ceil_mode")
        tree.child("pooling_param").pop("round_mode")
        wide, cut = output_size(image, spec.pooling_param.window(image)), []
        source = tree
        for axis in (2, 3):
            if wide[axis - 2] == size[axis - 2]:
                continue
            kept, rest = source.texts("top")[0], self._unused(f"{spec.name}_rest_{axis}")
            uncut = self._unused(f"{kept}_to_{axis}")
            source.fields["top"][0] = text(uncut)
            source = _layer(f"{rest}_cut", "Slice", [uncut], [kept, rest])
            source.child("slice_param").set("axis", number(axis))
            source.child("slice_param").set("slice_point", number(size[axis - 2]))
            cut += [CaffeLayer(source), CaffeLayer(_layer(f"{rest}_gone", "Silence", [rest], []))]
        return cut

    # -- low rank ----------------------------------------------------------------------------------------

    def _low_rank(self, plain: CaffeLayer, spec: LayerSpec, layer: Layer | None) -> list[CaffeLayer]:
        if not isinstance(layer, LowRankLayer):
            raise spec.error("low_rank_param", f"not in the {self.net.state.phase} net, which is exported")
        plain.tree.pop("low_rank_param")
        made, params = stages(layer), plain.tree.pop("param")
        if not spec.low_rank_param.factored:  # one w and the bias; a name would share what is no longer alike
            for param in params:
                param.pop("name")
            params = params[: len(made) - 1] + params[:2]
        elif len(made) == 1:
            params = params[1:]
        if len(made) == 1:
            return [_as_stage(plain, made[0], params[:2], spec)]
        first, second = CaffeLayer(deepcopy(plain.tree)), plain
        first.tree.pop("loss_weight")
        second.tree.pop("propagate_down")
        name = self._unused(f"{spec.name}_low_rank")
        tops = [name] if len(spec.top) == 1 else [self._unused(f"{top}_low_rank") for top in spec.top]
        first.tree.set("name", text(name))
        first.tree.fields["top"] = second.tree.fields["bottom"] = [text(top) for top in tops]
        return [_as_stage(first, made[0], params[:1], spec), _as_stage(second, made[1], params[1:3], spec)]

    def _unused(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    # -- data --------------------------------------------------------------------------------------------

    def _data(self, tree: Tree, spec: LayerSpec) -> None:
        """Caffe's own format, written out; or an Input where Caffe cannot read the source."""
        folders = lookup_folders(Path(self.net.spec.where.file).parent)
        problems = list(_unknown_fields(tree, "LayerParameter"))
        if spec.type == "Data":
            _, backend = locate(spec.data_param.source, spec.data_param.backend, folders)
            tree.child("data_param").set("backend", text(backend))
            problems += [] if backend in CAFFE_BACKENDS else [f"a source of format {backend}"]
        elif spec.type == "ImageData" and find_path(spec.image_data_param.source, folders).is_dir():
            problems.append("a folder as source")
        if not problems:
            return
        what = ", ".join(problems)
        self.notes.append(
            f"layer '{spec.name}': Caffe does not know {what}; it is an Input of the same shape"
        )
        blobs = self._net_with(spec).blobs
        for name in DATA_MESSAGES:
            tree.pop(name)
        tree.set("type", text("Input"))
        for top in spec.top:
            dims = [number(dim) for dim in blobs[top].shape]
            tree.child("input_param").add("shape", Tree(0, {"dim": dims}))


def _unknown_fields(tree: Tree, message: str) -> Iterator[str]:
    """The fields, with their messages' names, that ``caffe.proto`` has not."""
    for name, values in tree.fields.items():
        known = schema()[message].get(name)
        if known is None:
            yield name
            continue
        for value in values:
            if isinstance(value, Tree):
                yield from (f"{name}.{inner}" for inner in _unknown_fields(value, known.kind))


def _layer(name: str, kind: str, bottom: list[str], top: list[str]) -> Tree:
    fields = {"name": [name], "type": [kind], "bottom": bottom, "top": top}
    return Tree(0, {field: [text(value) for value in values] for field, values in fields.items() if values})


def _as_stage(plain: CaffeLayer, stage: Stage, params: list[Tree], spec: LayerSpec) -> CaffeLayer:
    """The layer with the numbers of filters, window, group and arrays of a stage."""
    is_convolution = spec.type == "Convolution"
    param = plain.tree.child("convolution_param" if is_convolution else "inner_product_param")
    for name in (*WINDOW_FIELDS, "group", "transpose"):
        param.pop(name)
    param.set("num_output", number(len(stage.weights)))
    if is_convolution:
        _set_window(param, stage.window, stage.weights.ndim - 2)
        param.set("group", number(stage.group))
    param.pop("bias_term")
    if stage.bias is None:
        param.pop("bias_filler")
        param.set("bias_term", text("false"))
    if params:
        plain.tree.fields["param"] = list(params)
    plain.arrays = [stage.weights, *([] if stage.bias is None else [stage.bias])]
    return plain


def _set_window(param: Tree, window: Window, axes: int) -> None:
    """Kernel, stride, pad and dilation: one number where all axes have it, else one for each."""
    for name, values, default in (
        ("kernel_size", window.kernel, None), ("pad", window.pad, 0), ("stride", window.stride, 1),
        ("dilation", window.dilation, 1),
    ):  # fmt: skip
        distinct = set(values[-axes:])
        if distinct != {default}:
            param.fields[name] = [number(n) for n in (distinct if len(distinct) == 1 else values[-axes:])]
