"""A spec's messages as a tree of what was given: defaults are Caffe's own, and are left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.spec.fields import Bool, Field, Float, Message, Nested, String


def spec_tree(message: Message) -> Tree:
    """The fields of a message that were given in its file, or set since, with their values."""
    tree = Tree(message.where.line)
    for name, field in message.fields.items():
        value = getattr(message, name)
        values = value if field.repeated else [value]
        if isinstance(field, Nested):
            made = [spec_tree(inner) for inner in values if inner is not None]
            if field.repeated or message.has(name) or any(inner.fields for inner in made):
                tree.fields[name] = list(made)
        elif message.has(name) or value != field.default:
            tree.fields[name] = list(scalars(message, name))
    return Tree(tree.line, {name: values for name, values in tree.fields.items() if values})


def scalars(message: Message, name: str) -> list[Scalar]:
    """The values, given or default, of a field that holds no messages."""
    field, value = message.fields[name], getattr(message, name)
    values = value if field.repeated else [value]
    return [Scalar(_text(value, field), quoted=isinstance(field, String)) for value in values]


def number(value: float) -> Scalar:
    """A number as the shortest text that is the same float32."""
    return Scalar(str(np.float32(value)).removesuffix(".0") if isinstance(value, float) else str(value))


def text(value: str) -> Scalar:
    """A text, which has quotes in a .prototxt."""
    return Scalar(value, quoted=True)


def _text(value: Any, field: Field[Any]) -> str:
    if isinstance(field, Bool):
        return str(value).lower()
    return number(float(value)).text if isinstance(field, Float) else str(value)
