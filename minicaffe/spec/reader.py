"""YAML text -> a tree of nodes that know their lines.

Only YAML's safe subset is read: nothing in a spec can name a Python object. The tree keeps scalars as
text; the field that a scalar is written under decides what it means (so ``1e-4`` is a number here, although
YAML 1.1 takes it for a string).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import yaml

from minicaffe.errors import SpecError, one_line

MERGE = "tag:yaml.org,2002:merge"  # of the key "<<"
MAX_NODES = 300_000  # an alias bomb exceeds this long before memory runs out
MAX_DEPTH = 100
NO_LINE = yaml.Mark("", 0, -1, 0, None, 0)  # of a spec that is no text
UNDECODED = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as ``read_spec`` passes it on


@dataclass(frozen=True)
class Where:
    """A place in a spec: file, line, layer and field; it begins every message."""

    file: str
    line: int = 0
    layer: str = ""
    field: str = ""

    def at(self, line: int | None = None, layer: str | None = None, field: str | None = None) -> Where:
        """The same place, narrowed down; a field is appended with a dot."""
        path = self.field if field is None else ".".join(filter(None, (self.field, field)))
        return replace(self, line=self.line if line is None else line, layer=layer or self.layer, field=path)

    def entry(self, node: yaml.Node, index: int) -> Where:
        """The place of one entry of a list: its line, or its index in a spec without lines."""
        line = line_of(node)
        return self.at(line=line) if line else replace(self, field=f"{self.field}[{index}]")

    def __str__(self) -> str:
        parts = [f"{self.file}:{self.line}" if self.line else self.file]
        parts += [f"layer '{self.layer}'"] if self.layer else []
        parts += [self.field] if self.field else []
        return ": ".join(parts)


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the known name closest to ``word``, or "" if none is close."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word[:100].lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


class Loader(yaml.SafeLoader):
    """Composes nodes. Refuses very deep nesting, keys that are not scalars, and text that is not UTF-8."""

    def __init__(self, text: str) -> None:
        super().__init__(UNDECODED.sub("\ufffd", text))
        self.has_undecoded = UNDECODED.search(text) is not None
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
            raise _problem(f"nested more than {MAX_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if self.has_undecoded and "\ufffd" in node.value:
            raise _problem(f"'{node.value}' is not UTF-8, as everything but comments must be", node)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem(f"a field's name cannot be a {kind(key)}", key)
        return node


def _problem(what: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=at.start_mark)


def parse_yaml(text: str, file: str) -> yaml.MappingNode:
    """The top mapping of YAML ``text``. Raises SpecError with the line where the YAML is malformed."""
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        _flatten(node)
    except yaml.MarkedYAMLError as error:
        raise SpecError(
            f"{Where(file, _line_of_problem(error))}: not valid YAML: {error.problem or error.context}"
        ) from None
    except RecursionError:
        raise SpecError(
            f"{file}: not valid YAML: merges ('<<') nested too deep, or merging themselves"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
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


def _line_of_problem(error: yaml.MarkedYAMLError) -> int:
    """Where what is wrong begins, or 0: a missing ":" is noticed a line later, what nobody closes at the end."""
    is_noticed_late = error.context == "while scanning a simple key" or "stream" in (error.problem or "")
    mark = (error.context_mark if is_noticed_late else None) or error.problem_mark
    return mark.line + 1 if mark else 0


def _flatten(root: yaml.Node | None) -> None:
    """Resolve merge keys (``<<: *anchor``) everywhere; refuse a tree that aliases make huge."""
    stack, budget = [root] if root is not None else [], _Budget()
    while stack:
        node = stack.pop()
        budget.spend(1)
        if isinstance(node, yaml.MappingNode):
            _merge(node, budget)
            stack.extend(value for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)


class _Budget:
    """How many more nodes may be visited."""

    left = MAX_NODES

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("too many nodes (aliases that multiply, or refer to themselves)")


def _merge(node: yaml.MappingNode, budget: _Budget) -> None:
    """Insert the fields that a mapping merges: its own win over merged ones, earlier merges over later ones."""
    budget.spend(len(node.value))
    own = [pair for pair in node.value if pair[0].tag != MERGE]
    names = {str(key.value) for key, _ in own}
    for source in (source for key, value in node.value if key.tag == MERGE for source in _listed(value)):
        if not isinstance(source, yaml.MappingNode):
            raise _problem(f"'<<' merges mappings, not a {kind(source)}", source)
        _merge(source, budget)
        own += [pair for pair in source.value if str(pair[0].value) not in names]
        names |= {str(key.value) for key, _ in source.value}
    node.value = own


def _listed(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def line_of(node: yaml.Node) -> int:
    """The line of a node, counted from 1; 0 in a spec that is no text."""
    return node.start_mark.line + 1


def kind(node: yaml.Node) -> str:
    """What a node is, in plain words."""
    names = {yaml.MappingNode: "mapping", yaml.SequenceNode: "list", yaml.ScalarNode: "single value"}
    return names[type(node)]
