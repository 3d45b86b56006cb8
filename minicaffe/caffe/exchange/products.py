"""Convolutions and InnerProduct for Caffe.

A layer of low rank becomes two plain ones, or one where that costs less; DepthwiseConvolution becomes Convolution.
Weights of an InnerProduct are never transposed: OpenCV does not know that setting.
"""

from __future__ import annotations

from minicaffe.caffe.exchange.plain_layers import CaffeLayer, PlainLayers, conversions
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.caffe.formats.tree import Tree
from minicaffe.layers.convolution import ConvolutionParam
from minicaffe.layers.inner_product import InnerProductParam
from minicaffe.layers.matrix_product import MatrixProduct, Stage
from minicaffe.low_rank.param import LowRankParam
from minicaffe.ops.convolution.geometry import Window
from minicaffe.spec.net import LayerSpec

WINDOW_FIELDS = (
    *("kernel_size", "pad", "stride", "dilation"),
    *(f"{name}_{axis}" for name in ("kernel", "pad", "stride") for axis in "hw"),
)  # fmt: skip


@conversions.of("Convolution")
def convolution(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """A Convolution for each stage."""
    made = _in_stages(export, plain, "convolution_param")
    note_shapes(export, plain)
    for layer, stage in made:
        param = layer.tree.child("convolution_param")
        for name in (*WINDOW_FIELDS, "group"):
            param.pop(name)
        _set_window(param, stage.window, stage.weights.ndim - 2)
        param.set("group", number(stage.group))
    return [layer for layer, _ in made] or [plain]


@conversions.of("Deconvolution")
def deconvolution(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """As it is."""
    note_shapes(export, plain)
    return [plain]


@conversions.of("DepthwiseConvolution", "ConvolutionDepthwise")
def depthwise_convolution(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """A Convolution with a group for each channel."""
    axis = plain.spec.message(ConvolutionParam).axis
    channels = export.net_with(plain).blobs[plain.spec.bottom[0]].shape[axis]
    plain.tree.set("type", text("Convolution"))
    plain.tree.child("convolution_param").set("group", number(channels))
    note_shapes(export, plain)
    return [plain]


def note_shapes(export: PlainLayers, plain: CaffeLayer) -> None:
    """Note where bottoms have several shapes, which Caffe does not take."""
    if len(plain.spec.bottom) > 1:
        shapes = [export.net_with(plain).blobs[name].shape for name in plain.spec.bottom]
        if len(set(shapes)) > 1:
            export.note(plain, f"Caffe 1.0 wants bottoms of one shape, not {', '.join(map(str, shapes))}")


@conversions.of("InnerProduct")
def inner_product(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """An InnerProduct for each stage, whose weights are (M, K)."""
    plain.tree.child("inner_product_param").pop("transpose")
    if made := _in_stages(export, plain, "inner_product_param"):
        return [layer for layer, _ in made]
    if _is_transposed(plain.spec):
        plain.arrays[:1] = [weights.T for weights in plain.arrays[:1]]
        _stop_sharing(export, plain)
    return [plain]


def _is_transposed(spec: LayerSpec) -> bool:
    param = spec.find_message(InnerProductParam)
    return param is not None and param.transpose


def _stop_sharing(export: PlainLayers, plain: CaffeLayer) -> None:
    """Remove the name of the weights if another layer has them under it without transposing them."""
    name = plain.spec.param[0].name if plain.spec.param else ""
    if name and not all(_turns_alike(other, name) for other in export.specs):
        plain.tree.trees("param")[0].pop("name")
        export.note(plain, f"it no longer shares '{name}', of which it has the transpose")


def _turns_alike(spec: LayerSpec, name: str) -> bool:
    """Whether a layer that shares weights of a name, if it does, has them transposed too."""
    uses = [i for i, param in enumerate(spec.param) if param.name == name]
    return not uses or (uses == [0] and _is_transposed(spec) and spec.param[0].share_mode == "STRICT")


# -- low rank ----------------------------------------------------------------------------------------------


def _in_stages(export: PlainLayers, plain: CaffeLayer, message: str) -> list[tuple[CaffeLayer, Stage]]:
    """The plain layers that a layer of low rank becomes, with their stages; none for a dense layer.

    ``message`` is the name of its settings.
    """
    spec, layer = plain.spec, plain.layer
    if not plain.tree.pop("low_rank_param"):
        return []
    if not isinstance(layer, MatrixProduct):
        raise spec.error("low_rank_param", f"not in the {export.net.state.phase} net, which is exported")
    stages = layer.stages()
    params = _params_of_stages(plain, len(stages))
    if len(stages) == 1:
        return [_as_stage(plain, message, stages[0], params)]
    name = export.unused(f"{spec.name}_low_rank")
    tops = [name] if len(spec.top) == 1 else [export.unused(f"{top}_low_rank") for top in spec.top]
    first = plain.beside(name, spec.type, spec.bottom, tops, "phase", "propagate_down", message)
    plain.tree.pop("propagate_down")
    plain.tree.fields["bottom"] = [text(top) for top in tops]
    return [
        _as_stage(first, message, stages[0], params[:1]),
        _as_stage(plain, message, stages[1], params[1:]),
    ]


def _params_of_stages(plain: CaffeLayer, stages: int) -> list[Tree]:
    """The training settings of each stage's weights, and of the bias."""
    params = plain.tree.trees("param")
    plain.tree.pop("param")
    if plain.spec.message(LowRankParam).factored:
        return params[2 - stages : 3]
    for param in params:  # other weights of the same name are no longer alike
        param.pop("name")
    return params[: stages - 1] + params[:2]


def _as_stage(plain: CaffeLayer, message: str, stage: Stage, params: list[Tree]) -> tuple[CaffeLayer, Stage]:
    """The layer with the number of filters and the arrays of a stage."""
    param = plain.tree.child(message)
    param.set("num_output", number(len(stage.weights)))
    param.pop("bias_term")
    if stage.bias is None:
        param.pop("bias_filler")
        param.set("bias_term", text("false"))
    if params:
        plain.tree.fields["param"] = list(params)
    plain.arrays = [stage.weights, *([] if stage.bias is None else [stage.bias])]
    return plain, stage


def _set_window(param: Tree, window: Window, axes: int) -> None:
    """Kernel, stride, pad and dilation: one number where all axes have it, else one for each."""
    for name, values, default in (
        ("kernel_size", window.kernel, None), ("pad", window.pad, 0), ("stride", window.stride, 1),
        ("dilation", window.dilation, 1),
    ):  # fmt: skip
        distinct = set(values[-axes:])
        if distinct != {default}:
            param.fields[name] = [number(n) for n in (distinct if len(distinct) == 1 else values[-axes:])]
