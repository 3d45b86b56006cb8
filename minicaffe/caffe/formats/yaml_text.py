"""A net's tree as YAML that a person would write: without defaults, and one short message on each line."""

from __future__ import annotations

import math

import yaml

from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.spec.fields import Message, Nested
from minicaffe.spec.net import LayerSpec, NetSpec

WIDTH = 110
FIRST = ("name", "type", "bottom", "top")
ENGINES = {"DEFAULT", "CAFFE", "CUDNN"}  # there is no such choice here
IMPLIED = {"stride": "1", "pad": "0", "dilation": "1"}  # of lists that may be empty
# kept even where they are defaults: it matters that they are given, or readers expect them (pool)
KEPT = {"exclude", "normalize", "normalization", "filler", "scale_filler", "pool"}


def yaml_text(net: Tree, spec: NetSpec, comment: str) -> str:
    """The text of a net; ``spec`` is what the reader of specs made of it, ``comment`` goes before it."""
    short = _without_defaults(net, spec)
    short.pop("layer")
    lines = [f"# {comment}", *_block(short, ""), "layer:"]
    before: Tree | None = None
    for layer, its_spec in zip(net.trees("layer"), spec.layer, strict=True):
        first, *rest = _block(_short_layer(layer, its_spec, before), "  ")
        lines += [f"- {first.lstrip()}", *rest]
        before = layer
    return "\n".join(lines) + "\n"


def _short_layer(layer: Tree, spec: LayerSpec, before: Tree | None) -> Tree:
    if spec.problem:  # it is of a type that is not known, for nets of another state
        return layer
    short = _without_defaults(layer, spec)
    if layer.texts("top") == [layer.text("name")]:
        short.pop("top")
    elif not spec.top and spec.tops[1] != 0 and "top" in layer.fields:
        short.fields["top"] = []
    if before is not None and layer.texts("bottom") == before.texts("top")[:1]:
        always = not (before.trees("include") or before.trees("exclude"))  # else another may stand before it
        if always and spec.bottoms[0] > 0:
            short.pop("bottom")
    ordered = [name for name in FIRST if name in short.fields]
    ordered += [name for name in short.fields if name not in FIRST]
    return Tree(layer.line, {name: short.fields[name] for name in ordered})


def _without_defaults(tree: Tree, message: Message) -> Tree:
    short = Tree(tree.line)
    for name, values in tree.fields.items():
        field, value = message.fields[name], getattr(message, name)
        if name == "engine" and set(tree.texts(name)) <= ENGINES:
            continue
        if name in KEPT or name == "layer":
            short.fields[name] = values
        elif isinstance(field, Nested):
            messages = value if field.repeated else [value]
            shorter = [_without_defaults(*pair) for pair in zip(tree.trees(name), messages, strict=True)]
            if any(item.fields for item in shorter):  # in a list of params, each says its own in full
                short.fields[name] = values if name == "param" else list(shorter)
        elif value != field.default and set(tree.texts(name)) != {IMPLIED.get(name)}:
            short.fields[name] = values
    return short


def _block(tree: Tree, indent: str) -> list[str]:
    """One line a field, or more where it is too long for one."""
    lines = []
    for name, values in tree.fields.items():
        line, first = f"{indent}{name}: {_list_or_one(values)}", values[0] if values else None
        if len(line) <= WIDTH or not isinstance(first, Tree):
            lines.append(line)
        elif len(values) == 1:
            lines += [f"{indent}{name}:", *_block(first, indent + "  ")]
        else:
            lines += [f"{indent}{name}:", *(f"{indent}- {_flow(value)}" for value in values)]
    return lines


def _list_or_one(values: list[Scalar | Tree]) -> str:
    return _flow(values[0]) if len(values) == 1 else "[" + ", ".join(map(_flow, values)) + "]"


def _flow(value: Scalar | Tree) -> str:
    if isinstance(value, Tree):
        return "{" + ", ".join(f"{name}: {_list_or_one(inner)}" for name, inner in value.fields.items()) + "}"
    if not value.quoted:
        return value.text
    quotes = None if value.text.isprintable() else '"'
    text: str = yaml.safe_dump(
        [value.text], default_flow_style=True, default_style=quotes, allow_unicode=True, width=math.inf
    )
    return text.strip()[1:-1]
