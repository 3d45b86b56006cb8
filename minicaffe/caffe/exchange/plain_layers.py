"""The layers of a net as Caffe has them: what is ours alone becomes layers of Caffe's that compute the same.

A layer of low rank becomes two plain ones, DepthwiseConvolution a Convolution, Axpy a Scale and an Eltwise (OpenCV
4.14 computes something else for it), a data layer whose source Caffe does
not read an Input. Weights of InnerProduct are never transposed: OpenCV does not know that setting. What only forks
of Caffe have stays as it is, and is told.

A layer is written with a rule on its phase, where it is of one phase alone, and with no other (``BothPhases``).
"""

from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicaffe.caffe.exchange.both_phases import BothPhases
from minicaffe.caffe.exchange.plain_fields import plain_fields, unknown_names
from minicaffe.caffe.formats.data_files import whole_paths
from minicaffe.caffe.formats.layer_types import who_lacks
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.core.unused_names import UnusedNames
from minicaffe.data.backends import locate
from minicaffe.data.source import find_path, lookup_folders
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, joined
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.stages import Stage, stages
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.pooling import output_size
from minicaffe.spec.net import LayerSpec

MEANS = ("", ".binaryproto")  # the endings of arrays that Caffe reads
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

    def beside(self, name: str, kind: str, bottom: list[str], top: list[str], *kept: str) -> CaffeLayer:
        """Another layer with this one's rules, and with those of its fields that are ``kept``."""
        fields = {"name": [name], "type": [kind], "bottom": bottom, "top": top}
        tree = Tree(0, {name: [text(value) for value in values] for name, values in fields.items() if values})
        for name in ("include", *kept):
            if name in self.tree.fields:
                tree.fields[name] = deepcopy(self.tree.fields[name])
        return CaffeLayer(tree, is_in_net=self.is_in_net)


class PlainLayers:
    """The layers that a net's spec lists, of both phases; ``notes`` are lines on what is not of Caffe 1.0.

    Raises SpecError for what cannot be written, DataError where a data layer's file is needed and not there.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self._folders = lookup_folders(Path(net.spec.where.file).parent)
        self._held = {layer.name: layer for layer in net.layers}
        with closing(BothPhases(net)) as self._phases:
            self.notes = self._phases.notes
            self._specs = [spec for spec, _ in self._phases.layers]
            self._names = UnusedNames(name for spec in self._specs for name in (spec.name, *spec.top))
            self.layers = [plain for spec, phase in self._phases.layers for plain in self._plain(spec, phase)]

    # -- one layer ---------------------------------------------------------------------------------------

    def _plain(self, spec: LayerSpec, phase: str) -> list[CaffeLayer]:
        tree, here = plain_fields(spec, phase), phase in ("", self.net.state.phase)
        layer = self._held[spec.name] if here else None
        plain = CaffeLayer(tree, [to_host(blob.data) for blob in layer.blobs] if layer else [], here)
        if "low_rank_param" in tree.fields:
            return self._low_rank(plain, spec, layer)
        if spec.type in ("DepthwiseConvolution", "ConvolutionDepthwise"):
            self._depthwise(plain, spec)
        elif spec.type == "InnerProduct":
            self._turn(plain, spec)
        elif spec.type in ("Data", "ImageData", "WindowData"):
            self._data(plain, spec)
        for line in whole_paths(plain.tree, self._folders[0]):
            self._note(spec, line)
        cut = self._round(plain, spec) if spec.type == "Pooling" else []
        before = self._scaled(plain, spec) if spec.type == "Axpy" else []
        if spec.type == "DetectionOutput" and spec.detection_output_param.keep_top_k < 0:
            self._keep_all(plain, spec)
        self._note_what_is_lacking(plain, spec)
        return [*before, plain, *cut]

    def _note(self, spec: LayerSpec, what: str) -> None:
        self.notes.append(joined(f"layer '{spec.name}': {what}"))

    def _note_what_is_lacking(self, plain: CaffeLayer, spec: LayerSpec) -> None:
        tree = plain.tree
        lacking, unknown = who_lacks(tree.text("type")), list(unknown_names(tree, "LayerParameter"))
        if lacking:
            self._note(spec, lacking)
        elif unknown:
            self._note(spec, f"Caffe 1.0 does not know {', '.join(unknown)}")
        elif "convolution_param" in tree.fields and len(spec.bottom) > 1:
            shapes = [self._net_with(plain).blobs[name].shape for name in spec.bottom]
            if len(set(shapes)) > 1:
                self._note(spec, f"Caffe 1.0 wants bottoms of one shape, not {', '.join(map(str, shapes))}")
        elif spec.type == "InfogainLoss":
            ending = Path(spec.infogain_loss_param.source).suffix
            if ending not in MEANS:
                self._note(
                    spec, f"Caffe does not read its source, of format {ending}; make it a .binaryproto"
                )
        elif spec.type == "Python":
            self._note(spec, f"in Caffe its module '{spec.python_param.module}' has to import caffe")

    def _depthwise(self, plain: CaffeLayer, spec: LayerSpec) -> None:
        """A Convolution with a group for each channel."""
        channels = self._net_with(plain).blobs[spec.bottom[0]].shape[spec.convolution_param.axis]
        plain.tree.set("type", text("Convolution"))
        plain.tree.child("convolution_param").set("group", number(channels))

    def _scaled(self, plain: CaffeLayer, spec: LayerSpec) -> list[CaffeLayer]:
        """What comes before the sum that an Axpy becomes: a Scale of x by a, which has two axes for it."""
        (a, x, b), made = spec.bottom, []
        sent = plain.tree.pop("propagate_down")
        if len(self._net_with(plain).blobs[a].shape) > 2:
            name = self._names.like(f"{spec.name}_flat")
            made.append(plain.beside(name, "Flatten", [a], [name]))
            a = name
        name = self._names.like(f"{spec.name}_scaled")
        scale = plain.beside(name, "Scale", [x, a], [name], "phase")
        scale.tree.child("scale_param").set("axis", number(0))
        plain.tree.set("type", text("Eltwise"))
        plain.tree.fields["bottom"] = [text(name), text(b)]
        if sent:
            if made:
                made[0].tree.fields["propagate_down"] = sent[:1]
            scale.tree.fields["propagate_down"] = [sent[1], sent[0]]
            plain.tree.fields["propagate_down"] = [Scalar("true"), sent[2]]
        return [*made, scale]

    def _keep_all(self, plain: CaffeLayer, spec: LayerSpec) -> None:
        """As many detections as there can be, in place of -1, with which OpenCV has no room for any."""
        param, net = spec.detection_output_param, self._net_with(plain)
        priors = net.blobs[spec.bottom[2]].count // 8
        plain.tree.child("detection_output_param").set("keep_top_k", number(priors * param.num_classes))

    def _net_with(self, plain: CaffeLayer) -> Net:
        """The net, or where it does not have this layer, that of the other phase."""
        return self._phases.net if plain.is_in_net else self._phases.other

    def _turn(self, plain: CaffeLayer, spec: LayerSpec) -> None:
        """Write weights as they are without ``transpose``; a name that others have them under goes."""
        plain.tree.child("inner_product_param").pop("transpose")
        if not spec.inner_product_param.transpose:
            return
        plain.arrays[:1] = [weights.T for weights in plain.arrays[:1]]
        name = spec.param[0].name if spec.param else ""
        if name and not all(self._turns_alike(other, name) for other in self._specs):
            plain.tree.trees("param")[0].pop("name")
            self._note(spec, f"it no longer shares '{name}', of which it has the transpose")

    @staticmethod
    def _turns_alike(spec: LayerSpec, name: str) -> bool:
        """Whether a layer that shares weights of a name, if it does, has them transposed too."""
        uses = [i for i, param in enumerate(spec.param) if param.name == name]
        is_turned = spec.type == "InnerProduct" and spec.inner_product_param.transpose
        return not uses or (uses == [0] and is_turned and spec.param[0].share_mode == "STRICT")

    def _round(self, plain: CaffeLayer, spec: LayerSpec) -> list[CaffeLayer]:
        """Pooling that rounds down: Caffe 1.0 rounds up alone, and what is too much is cut off by Slice layers."""
        param = plain.tree.child("pooling_param")
        param.pop("ceil_mode")
        param.pop("round_mode")
        if spec.pooling_param.rounds_up:
            return []
        net = self._net_with(plain)
        image, size = net.blobs[spec.bottom[0]].shape[2:], net.blobs[spec.top[0]].shape[2:]
        wide = output_size(image, spec.pooling_param.window(image))
        ends = {axis + 2: size[axis] for axis in (0, 1) if wide[axis] != size[axis]}
        if not ends:
            return []
        weights, cut = plain.tree.pop("loss_weight"), []
        for i, top in enumerate(spec.top):
            *before, last, silence = self._cut(plain, i, top, ends)
            if weights and spec.loss_weight[i]:  # of what is left
                last.tree.fields["loss_weight"] = [weights[i], number(0)]
            cut += [*before, last, silence]
        return cut

    def _cut(self, plain: CaffeLayer, i: int, kept: str, ends: dict[int, int]) -> list[CaffeLayer]:
        """Slice layers, each with a Silence, that leave of top ``i`` the places below ``ends``, by axis."""
        cut, source = [], plain
        for axis, end in ends.items():
            rest, uncut = self._names.like(f"{kept}_rest_{axis}"), self._names.like(f"{kept}_to_{axis}")
            source.tree.fields["top"][i] = text(uncut)
            source, i = plain.beside(self._names.like(f"{rest}_cut"), "Slice", [uncut], [kept, rest]), 0
            source.tree.child("slice_param").set("axis", number(axis))
            source.tree.child("slice_param").set("slice_point", number(end))
            cut += [source, plain.beside(self._names.like(f"{rest}_gone"), "Silence", [rest], [])]
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
        name = self._names.like(f"{spec.name}_low_rank")
        tops = [name] if len(spec.top) == 1 else [self._names.like(f"{top}_low_rank") for top in spec.top]
        first = plain.beside(name, spec.type, spec.bottom, tops, "phase", "propagate_down", _message(spec))
        plain.tree.pop("propagate_down")
        plain.tree.fields["bottom"] = [text(top) for top in tops]
        return [_as_stage(first, made[0], params[:1], spec), _as_stage(plain, made[1], params[1:3], spec)]

    # -- files -------------------------------------------------------------------------------------------

    def _source_problems(self, tree: Tree, spec: LayerSpec) -> list[str]:
        """What of a data layer's source Caffe does not know. Raises DataError where the source is not there."""
        if spec.type == "Data":
            _, backend = locate(spec.data_param.source, spec.data_param.backend, self._folders)
            tree.child("data_param").set("backend", text(backend))
            return [] if backend in CAFFE_BACKENDS else [f"a source of format {backend}"]
        if spec.type == "ImageData" and find_path(spec.image_data_param.source, self._folders).is_dir():
            return ["a folder as source"]
        return []

    def _data(self, plain: CaffeLayer, spec: LayerSpec) -> None:
        """Caffe's own format, written out; or an Input where Caffe cannot read the source."""
        tree = plain.tree
        problems = list(unknown_names(tree, "LayerParameter"))
        try:
            problems += self._source_problems(tree, spec)
        except DataError as error:
            if plain.is_in_net:
                raise
            self._note(spec, f"is written as it is: its data are not here ({error})")
            return
        mean = Path(spec.transform_param.mean_file).suffix
        problems += [] if mean in MEANS else [f"a mean_file of format {mean}"]
        if not problems:
            return
        what = ", ".join(problems)
        self._note(spec, f"Caffe does not know {what}; it is an Input of the same shape")
        blobs = self._net_with(plain).blobs
        for name in DATA_MESSAGES:
            tree.pop(name)
        tree.set("type", text("Input"))
        for top in spec.top:
            dims = [number(dim) for dim in blobs[top].shape]
            tree.child("input_param").add("shape", Tree(0, {"dim": dims}))


def _message(spec: LayerSpec) -> str:
    """The name of the settings of a layer that may be of low rank."""
    return "convolution_param" if spec.type == "Convolution" else "inner_product_param"


def _as_stage(plain: CaffeLayer, stage: Stage, params: list[Tree], spec: LayerSpec) -> CaffeLayer:
    """The layer with the numbers of filters, window, group and arrays of a stage."""
    param = plain.tree.child(_message(spec))
    for name in (*WINDOW_FIELDS, "group", "transpose"):
        param.pop(name)
    param.set("num_output", number(len(stage.weights)))
    if spec.type == "Convolution":
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
