"""Nets of Caffe's older generations as nets of the current one, as Caffe's own ``upgrade_proto.cpp`` has it.

Generation 0 has ``layers { layer { type: "conv" … } }`` with all settings in one message, and layers that pad;
generation 1 ``layers { type: CONVOLUTION … }``. Where Caffe's upgrade drops a transformation of images with a
warning, it is an error here.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Container

from minicaffe.caffe.formats.crop_offsets import write_crop_offsets
from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.errors import SpecError
from minicaffe.spec.net import LayerSpec, layer_types
from minicaffe.spec.reader import Where, nearest

logger = logging.getLogger("minicaffe")

ODD_NAMES = {  # the others are the same words, written together: EUCLIDEAN_LOSS is EuclideanLoss
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
NAMES_1 = [
    "ABSVAL", "ACCURACY", "ARGMAX", "BNLL", "CONCAT", "CONTRASTIVE_LOSS", "CONVOLUTION", "DATA",
    "DECONVOLUTION", "DROPOUT", "DUMMY_DATA", "ELTWISE", "EUCLIDEAN_LOSS", "EXP", "FLATTEN", "HDF5_DATA",
    "HDF5_OUTPUT", "HINGE_LOSS", "IM2COL", "IMAGE_DATA", "INFOGAIN_LOSS", "INNER_PRODUCT", "LRN",
    "MEMORY_DATA", "MULTINOMIAL_LOGISTIC_LOSS", "MVN", "POOLING", "POWER", "RELU", "SIGMOID",
    "SIGMOID_CROSS_ENTROPY_LOSS", "SILENCE", "SLICE", "SOFTMAX", "SOFTMAX_LOSS", "SPLIT", "TANH",
    "THRESHOLD", "WINDOW_DATA",
]  # fmt: skip
TYPES_1 = {name: ODD_NAMES.get(name, name.title().replace("_", "")) for name in NAMES_1}
TYPES_0 = {  # as generation 1 names them
    **{
        name: name.upper()
        for name in (
            "accuracy",
            "bnll",
            "concat",
            "data",
            "dropout",
            "euclidean_loss",
            "flatten",
            "hdf5_data",
            "hdf5_output",
            "im2col",
            "infogain_loss",
            "lrn",
            "multinomial_logistic_loss",
            "relu",
            "sigmoid",
            "softmax",
            "softmax_loss",
            "split",
            "tanh",
            "window_data",
        )
    },
    "conv": "CONVOLUTION",
    "images": "IMAGE_DATA",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
}
SAME_IN_1 = ("bottom", "top", "name", "blobs", "blobs_lr", "weight_decay")
PHASES = {"TRAIN", "TEST"}
TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")
TRANSFORMED = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}

_MATRIX = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_WINDOW = {"conv": "convolution_param", "pool": "pooling_param"}
_IMAGES = {"data": "data_param", "images": "image_data_param"}
_SOURCES = {**_IMAGES, "hdf5_data": "hdf5_data_param", "window_data": "window_data_param"}
FIELDS_0 = {  # field of generation 0: (its name now, where it now is by the layer's type; "": of any type)
    "num_output": ("num_output", _MATRIX),
    "biasterm": ("bias_term", _MATRIX),
    "weight_filler": ("weight_filler", _MATRIX),
    "bias_filler": ("bias_filler", _MATRIX),
    "pad": ("pad", _WINDOW),
    "kernelsize": ("kernel_size", _WINDOW),
    "stride": ("stride", _WINDOW),
    "group": ("group", {"conv": "convolution_param"}),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    **{name: (name, {"lrn": "lrn_param"}) for name in ("local_size", "alpha", "beta", "k")},
    "source": ("source", {**_SOURCES, "infogain_loss": "infogain_loss_param"}),
    "batchsize": ("batch_size", _SOURCES),
    "rand_skip": ("rand_skip", _IMAGES),
    "shuffle_images": ("shuffle", {"images": "image_data_param"}),
    "new_height": ("new_height", {"images": "image_data_param"}),
    "new_width": ("new_width", {"images": "image_data_param"}),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    **{
        f"det_{name}": (name, {"window_data": "window_data_param"})
        for name in ("fg_threshold", "bg_threshold", "fg_fraction", "context_pad", "crop_mode")
    },
    "scale": ("scale", {"": "transform_param"}),
    "meanfile": ("mean_file", {"": "transform_param"}),
    "cropsize": ("crop_size", {"": "transform_param"}),
    "mirror": ("mirror", {"": "transform_param"}),
}


def upgrade_net(net: Tree, where: Where) -> None:
    """Make a net's tree one of the current generation. Raises SpecError where it is none of the three."""
    old = net.trees("layers")
    if old and net.trees("layer"):
        raise SpecError(
            f"{where.at(line=old[0].line, field='layers')}: 'layer' is given too; write all as one"
        )
    for layer in net.trees("layer"):
        _refuse_old_transforms(layer, where)
    if any(layer.trees("layer") for layer in old):
        old = _fold_padding(old, where)
    net.pop("layers")
    cutting = [layer for layer in old if layer.text("type") == "CROP" and not layer.trees("crop_param")]
    for layer in old:
        net.add("layer", _from_1(_from_0(layer, where) if layer.trees("layer") else layer, where))
    for layer in net.trees("layer"):
        if layer.text("type") == "AutoCrop":  # the first FCNs' CROP, in a fork that came later (yun-liu/RCF)
            layer.set("type", Scalar("Crop", layer.line))
            cutting.append(layer)
        if layer.text("type") == "BatchNorm" and len(layer.fields.get("param", [])) == 3:
            for param in layer.trees("param"):
                param.set("lr_mult", Scalar("0", param.line))
                param.set("decay_mult", Scalar("0", param.line))
    _upgrade_inputs(net, where)
    if any(layer.text("type") == "Crop" for layer in net.trees("layer")):
        write_crop_offsets(net.trees("layer"), cutting, where)
    _name_the_nameless(net.trees("layer"))
    _rename_namesakes(net.trees("layer"), where)
    for layer in net.trees("layer"):
        _write_out_blobs(layer)
        _drop_unused(layer, where)


def _from_1(layer: Tree, where: Where) -> Tree:
    """A layer of generation 1 as one of today."""
    where = where.at(line=layer.line, layer=layer.text("name"))
    kind = layer.text("type")
    if kind in TYPES_1 or _type_of_fork(kind):
        now = TYPES_1.get(kind) or _type_of_fork(kind)
        layer.set("type", Scalar(now, layer.fields["type"][-1].line, quoted=True))
    elif kind:
        hint = nearest(kind, TYPES_1)
        raise SpecError(f"{where.at(field='type')}: unknown layer type '{kind}' under 'layers'{hint}")
    for old, new in (
        ("param", "name"),
        ("blob_share_mode", "share_mode"),
        ("blobs_lr", "lr_mult"),
        ("weight_decay", "decay_mult"),
    ):
        if not layer.trees(old):  # a message 'param' is left for the spec to judge
            _spread(layer, layer.pop(old), new)
    _move_transforms(layer)
    return layer


def _type_of_fork(kind: str) -> str:
    """The type that a fork writes in capitals, as generation 1 does: CROP, INTERP, BN, …; "" if there is none."""
    words = kind.replace("_", "").lower()
    return next((name for name in layer_types if kind.isupper() and name.lower() == words), "")


def _spread(layer: Tree, values: list[Scalar | Tree], name: str) -> None:
    """Give value i to the i-th ``param`` of a layer, under ``name``."""
    for i, value in enumerate(values):
        while len(layer.fields.get("param", [])) <= i:
            layer.add("param", Tree(value.line))
        layer.trees("param")[i].set(name, value)


def _move_transforms(layer: Tree) -> None:
    """Settings that change a data layer's images stood once beside its source."""
    source = TRANSFORMED.get(layer.text("type"))
    for param in layer.trees(source) if source else ():
        for name in TRANSFORMS:
            for value in param.pop(name):
                layer.child("transform_param").set(name, value)
        for value in param.pop("force_encoded_color"):
            layer.child("transform_param").set("force_color", value)


def _refuse_old_transforms(layer: Tree, where: Where) -> None:
    source = TRANSFORMED.get(layer.text("type"))
    for param in layer.trees(source) if source else ():
        for name in param.fields:
            if name in TRANSFORMS:
                place = where.at(line=param.fields[name][0].line, layer=layer.text("name"), field=source)
                raise SpecError(
                    f"{place.at(field=name)}: Caffe ignores it here; write it under transform_param"
                )


def _fold_padding(layers: list[Tree], where: Where) -> list[Tree]:
    """The layers without those of type "padding": the convolution or pooling after one pads itself."""
    pads: dict[str, Tree] = {}  # by the blob that it makes
    kept = []
    for layer in layers:
        inner = (layer.trees("layer") or [Tree()])[0]
        place = where.at(line=layer.line, layer=inner.text("name"))
        for bottom in layer.scalars("bottom"):
            padding = pads.get(bottom.text)
            if padding is None:
                continue
            if inner.text("type") not in _WINDOW or len(layer.fields["bottom"]) > 1:
                raise SpecError(
                    f"{place}: a layer of type {inner.text('type')} cannot follow a padding layer"
                )
            if len(padding.texts("bottom")) != 1 or len(padding.texts("top")) != 1:
                raise SpecError(f"{where.at(line=padding.line)}: a padding layer has one bottom and one top")
            inner.set("pad", Scalar(padding.child("layer").text("pad") or "0", layer.line))
            bottom.text = padding.text("bottom")
        if inner.text("type") != "padding":
            kept.append(layer)
        for top in layer.texts("top"):
            pads.pop(top, None)
            if inner.text("type") == "padding":
                pads[top] = layer
    return kept


def _from_0(layer: Tree, where: Where) -> Tree:
    """A layer of generation 0 as one of generation 1."""
    old = layer.trees("layer")[0]
    layer.pop("layer")
    where = where.at(line=old.line, layer=old.text("name"))
    kind, new = old.text("type"), Tree(layer.line)
    for name, values in (*old.fields.items(), *layer.fields.items()):
        if name in SAME_IN_1 or name == "hdf5_output_param":
            new.fields[name] = values
        elif name == "type":
            new.set("type", Scalar(_type_of_0(kind, where), values[0].line))
        else:
            field, messages = FIELDS_0.get(name, (name, {}))
            message = messages.get(kind) or messages.get("")
            if message is None:
                raise SpecError(f"{where.at(line=values[0].line, field=name)}: not a field of type '{kind}'")
            new.child(message).fields[field] = values
    return new


def _type_of_0(kind: str, where: Where) -> str:
    if kind in TYPES_0:
        return TYPES_0[kind]
    raise SpecError(f"{where.at(field='type')}: unknown layer type '{kind}'{nearest(kind, TYPES_0)}")


def _upgrade_inputs(net: Tree, where: Where) -> None:
    """``input`` and ``input_shape`` (or four ``input_dim``) -> one Input layer, before all others."""
    names, shapes, dims = net.texts("input"), net.trees("input_shape"), net.fields.get("input_dim", [])
    if not shapes and dims and len(dims) != 4 * len(names):
        raise SpecError(
            f"{where.at(line=dims[-1].line, field='input_dim')}: {len(dims)} numbers for {len(names)} inputs; "
            "give four for each, N, C, H and W (an input_shape may have any number)"
        )
    if not shapes:
        shapes = [Tree(dims[i].line, {"dim": dims[i : i + 4]}) for i in range(0, len(dims), 4)]
    made = {top for layer in net.trees("layer") for top in layer.texts("top")}
    if not shapes and set(names) <= made:
        net.pop("input")  # a name alone is nothing to Caffe, and here an Input layer makes it
    if not names or len(names) != len(shapes):
        return  # the spec says what is wrong with it
    add_input_layer(net, shapes)


def add_input_layer(net: Tree, shapes: list[Tree]) -> None:
    """Let an Input layer, before all others, make the net's ``input`` blobs in these shapes, as Caffe does."""
    layers, tops = net.trees("layer"), net.scalars("input")
    name, line = _unused("input", {layer.text("name") for layer in layers}), tops[0].line
    added = Tree(
        line, {"name": [Scalar(name, line, quoted=True)], "type": [Scalar("Input", line, quoted=True)]}
    )
    added.fields["top"] = list(tops)
    added.child("input_param").fields["shape"] = list(shapes)
    for field in ("input", "input_shape", "input_dim", "layer"):
        net.pop(field)
    net.fields["layer"] = [added, *layers]


def _unused(name: str, names: Container[str]) -> str:
    """The name; where it is one of ``names``, with the first number from 2 on that makes it another."""
    numbered = (f"{name}_{i}" for i in itertools.count(2))
    return name if name not in names else next(new for new in numbered if new not in names)


def _write_out_blobs(layer: Tree) -> None:
    """Give a layer the empty ``bottom`` and ``top`` that Caffe takes it to have, before ours get their defaults."""
    layer.fields.setdefault("bottom", [])
    if not layer_types.get(layer.text("type"), LayerSpec).is_loss:
        layer.fields.setdefault("top", [])


def _drop_unused(layer: Tree, where: Where) -> None:
    """Caffe ignores a message that belongs to other types of layers: ``loss_param`` in a Softmax."""
    kind = layer.text("type")
    for name, field in schema()["LayerParameter"].items() if kind in layer_types else ():
        is_for_a_type = field.kind in schema() and name.endswith("_param")
        if is_for_a_type and name not in layer_types[kind].fields and layer.fields.get(name):
            place = where.at(line=layer.pop(name)[0].line, layer=layer.text("name"), field=name)
            logger.warning("%s: ignored, as in Caffe: a %s layer does not have it", place, kind)


def _name_the_nameless(layers: list[Tree]) -> None:
    """In Caffe a layer may have no name; here it gets that of its first top, or of its type."""
    names = {layer.text("name") for layer in layers}
    for layer in layers:
        if not layer.text("name"):
            name = _unused((layer.texts("top") or [layer.text("type")])[0], names)
            layer.set("name", Scalar(name, layer.line, quoted=True))
            names.add(name)


def _rename_namesakes(layers: list[Tree], where: Where) -> None:
    """In Caffe layers of a net may have the same name; here the second gets another one, with a warning."""
    phases: dict[str, set[str]] = {layer.text("name"): set() for layer in layers}
    numbers, renamed = itertools.count(2), []
    for layer in layers:
        name, own = layer.text("name"), _phases(layer)
        if phases[name] & own:
            new = next(unused for i in numbers if (unused := f"{name}_{i}") not in phases)
            renamed.append(f"line {layer.line}: a second layer '{name}', here '{new}'")
            layer.set("name", Scalar(new, layer.fields["name"][-1].line, quoted=True))
            name = new
        phases[name] = phases.get(name, set()) | own
    if renamed:
        more = f", and {len(renamed) - 3} more" if len(renamed) > 3 else ""
        logger.warning("%s: %s%s", where, "; ".join(renamed[:3]), more)


def _phases(layer: Tree) -> set[str]:
    """The phases that a layer is certainly part of: none where stages or levels count too."""
    rules = layer.trees("include") + layer.trees("exclude")
    if any(set(rule.fields) - {"phase"} for rule in rules):
        return set()
    included = {phase for rule in layer.trees("include") for phase in rule.texts("phase") or PHASES}
    excluded = {phase for rule in layer.trees("exclude") for phase in rule.texts("phase") or PHASES}
    return (included or PHASES) - excluded
