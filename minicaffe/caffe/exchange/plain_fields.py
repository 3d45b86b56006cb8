"""A layer's fields as every Caffe, and OpenCV, reads them: old names, halves of pairs and rules are made plain."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.spec_tree import number, scalars, spec_tree
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.spec.fields import Message
from minicaffe.spec.net import LayerSpec

LOWEST = -3.4028235e38  # of float32
HEAD = ("name", "type", "bottom", "top")
OLD_AXES = {"concat_param": "concat_dim", "slice_param": "slice_dim"}  # which OpenCV passes over
WRITTEN_OUT = {  # what OpenCV misses where it is a default, or has another default for
    "LRN": ("lrn_param", ("alpha",)),
    "PriorBox": ("prior_box_param", ("flip", "clip", "offset")),
    "DetectionOutput": (
        "detection_output_param", ("share_location", "background_label_id", "code_type", "keep_top_k")
    ),
}  # fmt: skip
HALVES = {"stride": 1, "pad": 0}  # what is meant where only the height, or the width, is given


def plain_fields(spec: LayerSpec, phase: str) -> Tree:
    """The fields of a layer with its defaults filled in, with a rule on its phase; "" for both."""
    tree = spec_tree(spec)
    if not spec.has("loss_weight"):
        tree.pop("loss_weight")
    _set_phase(tree, phase)
    _drop_defaults(tree, spec, "LayerParameter")
    _give_both_axes(tree, spec)
    _rename_axis(tree)
    if spec.type in WRITTEN_OUT:
        message, names = WRITTEN_OUT[spec.type]
        for name in names:
            tree.child(message).fields[name] = list(scalars(getattr(spec, message), name))
    if spec.type == "PriorBox":
        _make_priors_plain(tree.child("prior_box_param"), spec)
    elif spec.type == "DetectionOutput":
        param = tree.child("detection_output_param")
        param.child("nms_param").set(
            "nms_threshold", number(spec.detection_output_param.nms_param.nms_threshold)
        )
        if "confidence_threshold" not in param.fields:  # OpenCV's default is 0
            param.set("confidence_threshold", number(LOWEST))
    return tree


def _make_priors_plain(param: Tree, spec: LayerSpec) -> None:
    """Whole pixels, to which sizes are cut here and in SSD's Caffe, not in OpenCV; a variance, which it wants."""
    for name in ("min_size", "max_size"):
        param.fields[name] = [number(int(size)) for size in getattr(spec.prior_box_param, name)]
    param.fields["variance"] = [number(value) for value in spec.prior_box_param.variance or [0.1]]
    param.fields = {name: values for name, values in param.fields.items() if values}


def unknown_names(tree: Tree, message: str) -> Iterator[str]:
    """The fields, with their messages' names, that Caffe itself has not."""
    for name, values in tree.fields.items():
        known = schema()[message].get(name)
        if known is None or known.of_fork:
            yield name
            continue
        for value in values:
            if isinstance(value, Tree):
                yield from (f"{name}.{inner}" for inner in unknown_names(value, known.kind))


def _set_phase(tree: Tree, phase: str) -> None:
    """In place of the rules of a layer one on its phase, or none for both phases."""
    rules = {"include": [Tree(0, {"phase": [Scalar(phase)]})]} if phase else {}
    head = {name: values for name in HEAD if (values := tree.pop(name))}
    rest = {name: values for name, values in tree.fields.items() if name not in ("include", "exclude")}
    tree.fields = {**head, **rules, **rest}


def _drop_defaults(tree: Tree, message: Message, kind: str) -> None:
    """Leave out what Caffe itself has not where it says what is so without it."""
    for name in list(tree.fields):
        known, value = schema()[kind].get(name), getattr(message, name)
        known = None if known is None or known.of_fork else known
        if known is None and value == message.fields[name].default:
            tree.pop(name)
        elif known is not None and isinstance(value, Message):
            _drop_defaults(tree.child(name), value, known.kind)


def _give_both_axes(tree: Tree, spec: LayerSpec) -> None:
    """The other half of a step or padding: Caffe refuses pooling without it, and takes 0 for a convolution's."""
    for message in {"convolution_param", "pooling_param"} & tree.fields.keys():
        param = getattr(spec, message)
        for name, default in HALVES.items():
            pair = (f"{name}_h", f"{name}_w")
            for half in pair if any(map(param.has, pair)) else ():
                value = getattr(param, half)
                tree.child(message).set(half, number(default if value is None else value))


def _rename_axis(tree: Tree) -> None:
    """An axis under the name that it has by now."""
    for message, old in OLD_AXES.items():
        for param in tree.trees(message):
            param.fields = {
                ("axis" if name == old else name): values for name, values in param.fields.items()
            }
