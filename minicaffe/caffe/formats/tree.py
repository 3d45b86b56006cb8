"""A Caffe message as a tree of named values that know their lines. Text and binary files become one first.

From there on there is one way: ``upgrade`` makes old generations current, ``as_yaml`` hands the tree to the
reader of YAML specs, which checks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from minicaffe.errors import SpecError
from minicaffe.spec.reader import Where

STRING = "tag:yaml.org,2002:str"
MAX_NAME = 1000  # characters of a text, except for what a Python layer is given


@dataclass
class Scalar:
    """A number, a word, or a quoted text."""

    text: str
    line: int = 0
    quoted: bool = False


@dataclass
class Tree:
    """A message: for each field, in the order of first occurrence, all its values."""

    line: int = 0
    fields: dict[str, list[Scalar | Tree]] = field(default_factory=dict)

    def add(self, name: str, value: Scalar | Tree) -> None:
        """Give a field one more value."""
        self.fields.setdefault(name, []).append(value)

    def set(self, name: str, value: Scalar | Tree) -> None:
        """Give a field this value, and no other."""
        self.fields[name] = [value]

    def pop(self, name: str) -> list[Scalar | Tree]:
        """Take a field's values out."""
        return self.fields.pop(name, [])

    def trees(self, name: str) -> list[Tree]:
        """The values of a field that are messages."""
        return [value for value in self.fields.get(name, []) if isinstance(value, Tree)]

    def scalars(self, name: str) -> list[Scalar]:
        """The values of a field that are not messages."""
        return [value for value in self.fields.get(name, []) if isinstance(value, Scalar)]

    def texts(self, name: str) -> list[str]:
        """The texts of ``scalars``."""
        return [value.text for value in self.scalars(name)]

    def text(self, name: str) -> str:
        """The first of ``texts``, or "" without any."""
        return (self.texts(name) or [""])[0]

    def child(self, name: str) -> Tree:
        """The message of that field, made where there is none."""
        if not self.trees(name):
            self.add(name, Tree(self.line))
        return self.trees(name)[0]


def check_length(text: str, where: Where) -> None:
    """Raise SpecError for a text that is too long to be a name or path, and that no error should repeat."""
    if len(text) > MAX_NAME and not where.field.endswith("param_str"):
        raise SpecError(f"{where}: a text of {len(text)} letters; at most {MAX_NAME} are taken for a name")


def as_yaml(tree: Tree) -> yaml.MappingNode:
    """The tree as YAML's reader would make it: a list where a field has several values."""
    pairs = [
        (_scalar(name, values[0].line if values else tree.line), _values(values))
        for name, values in tree.fields.items()
    ]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, _mark(tree.line), None)


def _values(values: list[Scalar | Tree]) -> yaml.Node:
    nodes = [as_yaml(v) if isinstance(v, Tree) else _scalar(v.text, v.line) for v in values]
    if len(nodes) == 1:
        return nodes[0]
    return yaml.SequenceNode("tag:yaml.org,2002:seq", nodes, nodes[0].start_mark if nodes else _mark(0), None)


def _scalar(text: str, line: int) -> yaml.ScalarNode:
    return yaml.ScalarNode(STRING, text, _mark(line), None)


def _mark(line: int) -> yaml.Mark:
    return yaml.Mark("", 0, line - 1, 0, None, 0)
