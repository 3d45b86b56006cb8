"""A tree as protobuf's text format (.prototxt): the inverse of ``prototxt.py``."""

from __future__ import annotations

import re

from minicaffe.caffe.formats.schema import Field, schema
from minicaffe.caffe.formats.tree import Scalar, Tree

ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
LETTERS = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "\\": r"\\"}


def prototxt_text(tree: Tree, message: str = "NetParameter", indent: str = "") -> str:
    """The text of a tree of the fields of ``message``, one field a line.

    ``caffe.proto`` says whether a value is text, which has quotes; other fields are written as the tree has them.
    """
    lines = []
    for name, values in tree.fields.items():
        field = schema().get(message, {}).get(name)
        for value in values:
            if isinstance(value, Tree):
                inner = prototxt_text(value, field.kind if field else "", indent + "  ")
                lines.append(f"{indent}{name} {{\n{inner}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(value, field)}\n")
    return "".join(lines)


def _scalar(value: Scalar, field: Field | None) -> str:
    is_text = field.kind in ("string", "bytes") if field else value.quoted
    return '"' + ESCAPED.sub(_escape, value.text) + '"' if is_text else value.text


def _escape(found: re.Match[str]) -> str:
    return LETTERS.get(found[0]) or f"\\{ord(found[0]):03o}"
