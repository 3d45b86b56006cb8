"""YAML text -> a tree of nodes that know their lines.

Only YAML's safe subset is read: nothing in a spec can name a Python object. The tree keeps the scalars as
text; what a scalar means is decided by the field that it is written under (so ``1e-4`` is a number here,
although YAML 1.1 takes it for a string).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from minicaffe.errors import SpecError, one_line
from minicaffe.files import check_name, unreadable

MERGE = "tag:yaml.org,2002:merge"  # of the key "<<"
MAX_NODES = 1_000_000  # an alias bomb grows past this long before memory is short


@dataclass(frozen=True)
class Where:
    """A place in a spec: file, line, layer and field; it begins every message."""

    file: str
    line: int = 0
    layer: str = ""
    field: str = ""

    def at(self, line: int | None = None, layer: str | None = None, field: str | None = None) -> Where:
        """The same place with some of its parts made more exact; a field is appended with a dot."""
        path = self.field if field is None else ".".join(filter(None, (self.field, field)))
        return replace(self, line=self.line if line is None else line, layer=layer or self.layer, field=path)

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}" if self.line else self.file]
        parts += [f"layer '{self.layer}'"] if self.layer else []
        parts += [self.field] if self.field else []
        return ": ".join(parts)


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the known name closest to ``word``, or "" where none is close."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def read_text(path: str | Path) -> str:
    """The text of a YAML spec. Raises SpecError where it cannot be read, is not UTF-8, or is a .prototxt."""
    if str(path).endswith((".prototxt", ".caffemodel")):
        raise SpecError(f"{path}: YAML is needed here; 'minicaffe convert {path} -o DIR' writes it")
    return read_utf8(path)


def read_utf8(path: str | Path) -> str:
    """The text of a file. Raises SpecError where it cannot be read or is not UTF-8."""
    try:
        check_name(path)
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file (UTF-8); a spec is YAML text") from None
    except OSError as error:
        raise SpecError(unreadable(path, error)) from None


def parse_yaml(text: str, file: str) -> yaml.MappingNode:
    """The top mapping of YAML ``text``. Raises SpecError with the line where the YAML is malformed."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _flatten(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SpecError(f"{Where(file, line)}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError(f"{file}: not valid YAML: {one_line(error)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise SpecError(f"{file}: the file is empty; a spec is a mapping of fields to values")
    if not isinstance(node, yaml.MappingNode):
        raise SpecError(
            f"{Where(file, line_of(node))}: a spec is a mapping of fields to values, not a {kind(node)}"
        )
    return node


def _flatten(root: yaml.Node | None) -> None:
    """Resolve merge keys (``<<: *anchor``) everywhere, and stop at a tree that aliases make huge."""
    stack, seen = [root] if root is not None else [], 0
    while stack:
        node = stack.pop()
        seen += 1
        if seen > MAX_NODES:
            raise ValueError("too many nodes (aliases that multiply, or refer to themselves)")
        if isinstance(node, yaml.MappingNode):
            _merge(node)
            stack.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)


def _merge(node: yaml.MappingNode) -> None:
    """Put in the fields that a mapping merges: its own win over them, an earlier merge's over a later's."""
    own = [pair for pair in node.value if pair[0].tag != MERGE]
    names = {str(key.value) for key, _ in own}
    for source in (source for key, value in node.value if key.tag == MERGE for source in _listed(value)):
        if not isinstance(source, yaml.MappingNode):
            problem = f"'<<' merges mappings, not a {kind(source)}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=source.start_mark)
        _merge(source)
        own += [pair for pair in source.value if str(pair[0].value) not in names]
        names |= {str(key.value) for key, _ in source.value}
    node.value = own


def _listed(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def line_of(node: yaml.Node) -> int:
    """The line of a node, counted from 1."""
    return node.start_mark.line + 1


def kind(node: yaml.Node) -> str:
    """What a node is, in a reader's words."""
    names = {yaml.MappingNode: "mapping", yaml.SequenceNode: "list", yaml.ScalarNode: "single value"}
    return names[type(node)]
