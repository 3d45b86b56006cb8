"""A layer's fields as every Caffe, and OpenCV, reads them: without old names, halves of pairs, and rules."""

from __future__ import annotations

from collections.abc import Iterator

from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.spec_tree import number, scalars, spec_tree
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.spec.fields import Message
from minicaffe.spec.net import LayerSpec

HEAD = ("name", "type", "bottom", "top")
OLD_AXES = {"concat_param": "concat_dim", "slice_param": "slice_dim"}  # which OpenCV ignores
WRITTEN_OUT = {  # what OpenCV misses where it is a default, or has another default for
    "lrn_param": ("alpha",),
    "prior_box_param": ("flip", "clip", "offset"),
    "detection_output_param": ("share_location", "background_label_id", "code_type", "keep_top_k"),
}
HALVES = {"stride": 1, "pad": 0}  # what is meant where only the height, or the width, is given


def plain_fields(spec: LayerSpec, phase: str) -> Tree:
    """The fields of a layer with defaults filled in, and a rule for its phase; "" for both phases."""
    tree = spec_tree(spec)
    if not spec.has("loss_weight"):
        tree.pop("loss_weight")
    _set_phase(tree, phase)
    _drop_defaults(tree, spec, "LayerParameter")
    _give_both_axes(tree, spec)
    _rename_axis(tree)
    _drop_own_engine(tree)
    for message in spec.message_names:
        for name in WRITTEN_OUT.get(message, ()):
            tree.child(message).fields[name] = list(scalars(getattr(spec, message), name))
    return tree


def unknown_names(tree: Tree, message: str) -> Iterator[str]:
    """The fields, with their messages' names, that Caffe itself does not have."""
    for name, values in tree.fields.items():
        known = schema()[message].get(name)
        if known is None or known.of_fork:
            yield name
            continue
        for value in values:
            if isinstance(value, Tree):
                yield from (f"{name}.{inner}" for inner in unknown_names(value, known.kind))


def _set_phase(tree: Tree, phase: str) -> None:
    """Replace a layer's rules with one for its phase, or with none for both phases."""
    head = {name: values for name in HEAD if (values := tree.pop(name))}
    rest = {name: values for name, values in tree.fields.items() if name not in ("include", "exclude")}
    if phase:
        head["include"] = [Tree(0, {"phase": [Scalar(phase)]})]
    tree.fields = {**head, **rest}


def _drop_defaults(tree: Tree, message: Message, kind: str) -> None:
    """Leave out fields that Caffe itself does not have, where they say what is so without them."""
    for name in list(tree.fields):
        known, value = schema()[kind].get(name), getattr(message, name)
        known = None if known is None or known.of_fork else known
        if known is None and value == message.fields[name].default:
            tree.pop(name)
        elif known is not None and isinstance(value, Message):
            _drop_defaults(tree.child(name), value, known.kind)


def _drop_own_engine(tree: Tree) -> None:
    """Leave out the engine that Caffe does not have: without one it chooses by itself."""
    for param in tree.trees("convolution_param"):
        if param.texts("engine") == ["WINOGRAD"]:
            param.pop("engine")


def _give_both_axes(tree: Tree, spec: LayerSpec) -> None:
    """The other half of a stride or padding: without it Caffe refuses pooling, and takes 0 for a convolution."""
    for message in {"convolution_param", "pooling_param"} & tree.fields.keys():
        param = getattr(spec, message)
        for name, default in HALVES.items():
            pair = (f"{name}_h", f"{name}_w")
            for half in pair if any(map(param.has, pair)) else ():
                value = getattr(param, half)
                tree.child(message).set(half, number(default if value is None else value))


def _rename_axis(tree: Tree) -> None:
    """Give an axis its present name."""
    for message, old in OLD_AXES.items():
        for param in tree.trees(message):
            param.fields = {
                ("axis" if name == old else name): values for name, values in param.fields.items()
            }
