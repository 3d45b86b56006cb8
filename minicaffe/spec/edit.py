"""Sets fields of layers in a net's YAML text, and leaves everything else as it is, comments and layout included.

The text is never rewritten: the parser's marks say where a field is, and only that place is replaced.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import yaml

from minicaffe.errors import SpecError
from minicaffe.spec.reader import MERGE, Loader, Where, kind, line_of, nearest, parse_yaml

LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
COMMA = re.compile(r"\s*,")
ALIAS, NULL = "!alias", "tag:yaml.org,2002:null"
Changes = Mapping[str, Any]  # a field's path -> its value; "" is the path of the whole field


def set_layer_fields(text: str, changes: Mapping[str, Changes], file: str = "<string>") -> str:
    """The YAML text of a net with fields of some layers set, and nothing else changed.

    ``changes`` has for a layer's name, say, {"low_rank_param": {"rank": 12}, "convolution_param.bias_term": False};
    a value is a bool, int, float, str, or a list or dict of these, and None removes the field. All layers of that
    name are changed. Raises SpecError if no layer has the name, if a layer cannot be changed alone (because of an
    alias, an anchor that others refer to, or a merge key), or if its layout is too odd to be changed in place.
    """
    expected = _plain(parse_yaml(text, file))
    editor, names = _Editor(text), []
    for name, layer, nodes in _layers(expected, editor.root):
        names.append(name)
        if name in changes:
            for node in nodes:
                editor.check(node, Where(file, layer=name))
            editor.change(_mapping(nodes[-1]), changes[name], Where(file, layer=name))
            _apply(layer, changes[name])
    for name in changes:
        if name not in names:
            raise SpecError(f"{file}: no layer is named '{name}'{nearest(name, names)}")
    return _checked(editor.edited_text(), expected, file)


def remove_layers(text: str, names: Collection[str], file: str = "<string>") -> str:
    """The YAML text of a net without some of its layers, and nothing else changed.

    The list of layers must be in block style, and nothing else may refer to what is removed. Raises SpecError.
    """
    expected, editor, found = _plain(parse_yaml(text, file)), _Editor(text), set()
    for field in ("layer", "layers"):
        written = {str(key.value): value for key, value in editor.root.value}.get(field)
        if not isinstance(written, yaml.SequenceNode):
            continue
        kept = []
        for node, layer in zip(written.value, expected[field], strict=True):
            name = layer["name"][1] if isinstance(layer, dict) and "name" in layer else ""
            if name not in names:
                kept.append(layer)
                continue
            editor.check(node, Where(file, layer=name), inside=False)
            if written.flow_style:
                raise SpecError(f"{Where(file, line_of(node), name)}: write the list of layers one per line")
            editor.remove_item(node)
            found.add(name)
        expected[field] = kept
    for name in set(names) - found:
        raise SpecError(f"{file}: no layer is named '{name}'")
    return _checked(editor.edited_text(), expected, file)


def _layers(
    expected: Any, root: yaml.MappingNode
) -> Iterator[tuple[str, dict[str, Any], tuple[yaml.Node, ...]]]:
    """Each layer: its name, its content, and the nodes that it is written in (the net, the list, its own)."""
    for field in ("layer", "layers"):
        read = expected.get(field, [])
        read = read if isinstance(read, list) else [read]
        written = {str(key.value): value for key, value in root.value}.get(field, root)
        nodes = written.value if isinstance(written, yaml.SequenceNode) else [written] * len(read)
        for layer, node in zip(read, nodes, strict=True):
            name = layer.get("name") if isinstance(layer, dict) else None
            if isinstance(name, tuple):
                yield name[1], layer, (root, written, node)


def _checked(text: str, expected: Any, file: str) -> str:
    """The text, if it reads as expected: whatever the layout is, a wrong net must not be written."""
    try:
        if _plain(parse_yaml(text, file)) == expected:
            return text
    except SpecError:
        pass
    fix = "write it with one field per line, and without anchors"
    raise SpecError(f"{file}: a layer's layout or anchors do not let it be changed in place; {fix}")


def _plain(node: yaml.Node) -> Any:
    """The content of a node, without its place and style."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _plain(value) for key, value in node.value}
    return [_plain(item) for item in node.value] if isinstance(node.value, list) else (node.tag, node.value)


def _apply(tree: dict[str, Any], changes: Changes) -> None:
    """Make the changes in what ``_plain`` returned."""
    for name, inner in _by_field(changes).items():
        value = _new_value(inner)
        if "" not in inner and isinstance(tree.get(name), dict):
            _apply(tree[name], inner)
        elif value is not None:
            tree[name] = _plain(_mapping(yaml.compose(_write({name: value}), yaml.SafeLoader)))[name]
        elif "" in inner:
            tree.pop(name, None)


def _mapping(node: yaml.Node | None) -> yaml.MappingNode:
    """The node, known to be a mapping: its place has been checked before."""
    assert isinstance(node, yaml.MappingNode)
    return node


def _by_field(changes: Changes) -> dict[str, dict[str, Any]]:
    """The changes in each field: {"a.b": 1, "c": 2} -> {"a": {"b": 1}, "c": {"": 2}}."""
    fields: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        fields.setdefault(name, {})[rest] = value
        if "" in fields[name] and len(fields[name]) > 1:
            raise SpecError(f"{name}: set both as a whole and in part; give one of the two")
    return fields


def _new_value(changes: Changes) -> Any:
    """What an absent field becomes; None if it stays absent."""
    if "" in changes:
        return changes[""]
    values = {name: _new_value(inner) for name, inner in _by_field(changes).items()}
    return {name: value for name, value in values.items() if value is not None} or None


def _write(value: Any) -> str:
    """The value in flow style on one line, with line breaks escaped and commas quoted, as in a list."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_write(name)}: {_write(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    quotes = '"' if isinstance(value, str) and not value.isprintable() else None
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, default_style=quotes, allow_unicode=True, width=math.inf
    )
    return text.strip()[1:-1]


def _is_block(node: yaml.Node) -> bool:
    """Whether the node is a mapping or list in block style."""
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


class _Source(Loader):
    """Composes a tree in which every node has a place of its own in the text: an alias is a leaf tagged ALIAS."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.shared: list[yaml.Node] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event = self.get_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        self.shared.append(self.anchors[event.anchor])
        return yaml.ScalarNode(ALIAS, event.anchor, event.start_mark, event.end_mark)


class _Editor:
    """Collects the edits to a text: (start, end, new text)."""

    def __init__(self, text: str) -> None:
        source = _Source(text)
        self.text, self.root, self.shared = text, _mapping(source.get_single_node()), source.shared
        self.line_break = (LINE_BREAK.findall(text) or ["\n"])[0]
        self.edits: list[tuple[int, int, str]] = []

    def edited_text(self) -> str:
        """The text with the edits made; of two that start at the same place, an insertion comes first."""
        pieces, done = [], 0
        for start, end, new in sorted(self.edits, key=lambda edit: edit[:2]):
            pieces += [self.text[done:start], new]
            done = end
        return "".join(pieces) + self.text[done:]

    def check(self, node: yaml.Node, where: Where, inside: bool = True) -> None:
        """Raise SpecError if changing the node, or something inside it, would change another place too."""
        if any(node is other for other in self.shared):
            problem = "has an anchor ('&') that other places refer to"
        elif inside and node.tag == ALIAS:
            problem = f"is only a reference ('*{node.value}')"
        elif inside and isinstance(node, yaml.MappingNode) and any(key.tag == MERGE for key, _ in node.value):
            problem = "takes fields from another place ('<<')"
        else:
            return
        fix = "to change it alone, write its fields out wherever they are used"
        raise SpecError(f"{where.at(line=line_of(node))}: {problem}; {fix}")

    def change(
        self, node: yaml.MappingNode, changes: Changes, where: Where, key: yaml.Node | None = None
    ) -> None:
        """Make the changes in a mapping, which is written under ``key``."""
        fields, names = _by_field(changes), [str(name.value) for name, _ in node.value]
        gone = [fields.get(name) == {"": None} for name in names]
        absent = [name for name in fields if name not in names]
        added = {name: new for name in absent if (new := _new_value(fields[name])) is not None}
        if all(gone) and (gone or added):
            return self.replace(node, added, key)
        for index, name in enumerate(names):
            if name in fields:
                its_key, value = node.value[index]
                self.change_field(its_key, value, fields[name], where.at(field=name))
        for is_gone, run in itertools.groupby(range(len(names)), gone.__getitem__):
            if is_gone:
                self.remove(node, *run)
        if added:
            self.add(node, [field for index, field in enumerate(node.value) if not gone[index]], added)

    def change_field(self, key: yaml.Node, value: yaml.Node, changes: Changes, where: Where) -> None:
        """Set an existing field, or fields in it; a field that is dropped is left to ``remove``."""
        self.check(value, where, inside="" not in changes)
        if "" not in changes and isinstance(value, yaml.MappingNode):
            self.change(value, changes, where, key)
        elif "" not in changes and value.tag != NULL:
            raise SpecError(
                f"{where.at(line=line_of(value))}: expected a mapping of fields, got a {kind(value)}"
            )
        elif (new := _new_value(changes)) is not None:
            self.replace(value, new, key)

    def replace(self, node: yaml.Node, value: Any, key: yaml.Node | None) -> None:
        """Write a value in place of another; one in block style is replaced by one on the key's line."""
        start, end, new = node.start_mark.index, self.end(node), _write(value)
        if key is None or not _is_block(node) or key.start_mark.line == node.start_mark.line:
            self.edits.append((start, end, " " * (start == end) + new))
            return
        colon = self.text.index(":", key.end_mark.index) + 1
        self.edits += [(colon, colon, " " + new), (self.line_end(colon), self.line_end(end), "")]

    def remove(self, node: yaml.MappingNode, first: int, *others: int) -> None:
        """Remove neighbouring fields, with the comma or line break that separates them from what comes before."""
        start, fields = node.value[first][0].start_mark, node.value
        place, line = start.index, start.index - start.column
        rest = fields[first + len(others) + 1 :]
        end = self.end(fields[first + len(others)][1])
        comma = COMMA.match(self.text, end)
        following = rest[0][0].start_mark.index if rest else comma.end() if comma else end
        if node.flow_style:
            before = self.end(fields[first - 1][1]) if first else place
            apart = LINE_BREAK.search(self.text, before, place)  # then a comment may be between them
            self.edits.append((before, end, "") if first and not apart else (place, following, ""))
        elif self.text[line:place].strip():  # after the "- " of a list: the next field takes the place
            end = self.line_end(end)
            self.edits.append((place, end if self.text[end:following].strip() else following, ""))
        else:
            break_before = 2 if self.text.endswith("\r\n", 0, line) else 1
            self.edits.append((line - break_before, self.line_end(end), ""))

    def remove_item(self, node: yaml.Node) -> None:
        """Remove an item of a block list, with its lines."""
        dash = self.text.rindex("-", 0, node.start_mark.index)
        start = max(self.text.rfind("\n", 0, dash), self.text.rfind("\r", 0, dash)) + 1
        end = self.line_end(self.end(node)) + len(self.line_break)
        self.edits.append((start, end, ""))

    def add(self, node: yaml.MappingNode, fields: list[tuple[yaml.Node, yaml.Node]], added: Changes) -> None:
        """Add fields: in flow style after the last, in block style on lines after the last ``…_param``."""
        if node.flow_style:
            place, joint = self.end(fields[-1][1]), ", "
        else:
            messages = [field for field in fields if str(field[0].value).endswith("_param")]
            place = self.line_end(self.end((messages or fields)[-1][1]))
            joint = self.line_break + " " * node.value[0][0].start_mark.column
        new = "".join(f"{joint}{_write(name)}: {_write(value)}" for name, value in added.items())
        self.edits.append((place, place, new))

    def end(self, node: yaml.Node) -> int:
        """Where the text of a node ends; its end mark may come after the comments and blank lines that follow."""
        if _is_block(node):
            last = node.value[-1]
            return self.end(last[1] if isinstance(last, tuple) else last)
        start, end = node.start_mark.index, node.end_mark.index
        if getattr(node, "style", None) in ("|", ">"):
            return self.line_end(start + len(self.text[start:end].rstrip()))
        return end

    def line_end(self, place: int) -> int:
        """Where the line that contains a position ends, before the line break."""
        found = LINE_BREAK.search(self.text, place)
        return found.start() if found else len(self.text)
