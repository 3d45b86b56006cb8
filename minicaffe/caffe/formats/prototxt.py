"""Protobuf's text format (.prototxt) as a tree whose values know their lines.

``parse_prototxt`` knows only the syntax; ``check_kinds`` checks the tree against the fields of a message, as
protobuf's own parser does: text is quoted, numbers are not, and only a repeated field is given twice. Fields
that Caffe does not have are left to the specs, which know a few more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from minicaffe.caffe.formats.schema import Field, schema
from minicaffe.caffe.formats.tree import MAX_NAME, Scalar, Tree, check_length
from minicaffe.errors import SpecError
from minicaffe.spec.reader import MAX_DEPTH, MAX_NODES, Where

MAX_TEXT = 1_000_000  # characters
TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v\ufeff]+|\#[^\n]*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
    |(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*){0,100000}"|'[^'\\\n]*(?:\\.[^'\\\n]*){0,100000}')
    |(?P<mark>[][{}<>:,;-])""",
    re.VERBOSE | re.ASCII,
)
ESCAPE = re.compile(
    rb"\\(?:(?P<octal>[0-7]{1,3})|[xX](?P<hex>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{4})"
    rb"|U(?P<long>[0-9a-fA-F]{8})|(?P<letter>.))"
)
LETTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
CLOSING = {"{": "}", "<": ">"}
OTHER_BASE = re.compile(r"-?0(\d{1,30}|[xX][0-9a-fA-F]{1,30})")
FLOAT_SUFFIX = re.compile(r"-?[\d.]+([eE][+-]?\d+)?[fF]")
INTEGERS = {"int32", "int64", "uint32"}
TRUTH = {**dict.fromkeys(("True", "t", "1"), "true"), **dict.fromkeys(("False", "f", "0"), "false")}


@dataclass
class _Token:
    kind: str  # "name", "number", "string", "mark", or "end" of the file
    text: str
    line: int

    def __str__(self) -> str:
        return "the end of the file" if self.kind == "end" else f"'{self.text[:40]}'"


def parse_prototxt(text: str, file: str) -> Tree:
    """The fields in ``text``. Raises SpecError, with the line, where it is not in protobuf's text format."""
    return _Parser(text, file).parse()


def _tokens(text: str, file: str) -> Iterator[_Token]:
    place, line = 0, 1
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            odd = text[place : place + 20].split("\n")[0]
            advice = (
                "is its closing quote missing, or far away?"
                if odd[0] in "\"'"
                else "remove it, or put it in quotes"
            )
            raise SpecError(f"{Where(file, line)}: cannot be read from '{odd}' on; {advice}")
        if found.lastgroup in ("name", "number") and found.end() - place > MAX_NAME:
            raise SpecError(f"{Where(file, line)}: a word of {found.end() - place} letters; is it a spec?")
        if found.lastgroup != "space":
            yield _Token(found.lastgroup or "", found[0], line)
        line += found[0].count("\n")
        place = found.end()
    yield _Token("end", "", line)


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self.file, self.tokens, self.values = file, _tokens(text, file), 0
        self.token = next(self.tokens)

    def parse(self) -> Tree:
        tree = Tree()
        self._fields(tree, None, 0)
        if not tree.fields:
            raise SpecError(f"{self.file}: the file is empty; a .prototxt is a list of fields and values")
        return tree

    def _next(self) -> _Token:
        taken = self.token
        self.token = next(self.tokens, taken)
        return taken

    def _took(self, *marks: str) -> bool:
        """Whether the next token is one of these marks; it is taken then."""
        taken = self.token.kind == "mark" and self.token.text in marks
        if taken:
            self._next()
        return taken

    def _error(self, expected: str, line: int | None = None) -> SpecError:
        return SpecError(
            f"{Where(self.file, line or self.token.line)}: expected {expected}, got {self.token}"
        )

    def _fields(self, tree: Tree, opened: _Token | None, depth: int) -> None:
        """Read fields into ``tree`` up to the bracket that closes it, or to the end of the file."""
        if depth > MAX_DEPTH:
            raise SpecError(f"{Where(self.file, self.token.line)}: nested more than {MAX_DEPTH} deep")
        while self.token.kind == "name":
            name = self._next()
            has_colon = self._took(":")
            if self._took("["):
                self._list(tree, name, depth)
            else:
                tree.add(name.text, self._value(name, has_colon, depth))
            self._took(",", ";")
        if opened is None and self.token.kind != "end":
            raise self._error("a field's name")
        if opened is not None and not self._took(CLOSING[opened.text]):
            where = f"a field's name, or the '{CLOSING[opened.text]}' to the '{opened.text}' of line {opened.line}"
            raise self._error(where)

    def _list(self, tree: Tree, name: _Token, depth: int) -> None:
        if self._took("]"):
            return
        tree.add(name.text, self._value(name, True, depth))
        while self._took(","):
            tree.add(name.text, self._value(name, True, depth))
        if not self._took("]"):
            raise self._error(f"',' or ']' in the list of '{name.text}'")

    def _value(self, name: _Token, has_colon: bool, depth: int) -> Scalar | Tree:
        self.values += 1
        if self.values > MAX_NODES:
            raise SpecError(f"{Where(self.file, name.line)}: more than {MAX_NODES} values; is it a net?")
        opened = self.token
        if self._took(*CLOSING):
            tree = Tree(name.line)
            self._fields(tree, opened, depth + 1)
            return tree
        if not has_colon:
            raise self._error(f"':' or '{{' after '{name.text}'")
        if self.token.kind == "string":
            return self._string()
        sign = "-" if self._took("-") else ""
        word = self.token.kind == "name" and (
            not sign or self.token.text.lower() in ("inf", "infinity", "nan")
        )
        if not word and self.token.kind != "number":
            raise self._error(f"a value for '{name.text}'")
        value = self._next()
        return Scalar(sign + value.text, value.line)

    def _string(self) -> Scalar:
        """A text; texts that follow each other are one."""
        line, parts, length = self.token.line, [], 0
        while self.token.kind == "string":
            length += len(self.token.text)
            if length > MAX_TEXT:
                raise SpecError(
                    f"{Where(self.file, line)}: a text of more than {MAX_TEXT} letters; is it a spec?"
                )
            parts.append(_unescaped(self._next().text[1:-1].encode("utf-8", "surrogateescape")))
        try:
            return Scalar(b"".join(parts).decode(), line, quoted=True)
        except UnicodeDecodeError:
            raise SpecError(
                f"{Where(self.file, line)}: a text that is not UTF-8, which only comments need not be; mend it"
            ) from None


def _unescaped(text: bytes) -> bytes:
    return ESCAPE.sub(_character, text)


def _character(found: re.Match[bytes]) -> bytes:
    if found["letter"]:
        return bytes([LETTERS.get(found["letter"][0], found["letter"][0])])
    if found["octal"] or found["hex"]:
        return bytes([int(found["octal"] or found["hex"], 8 if found["octal"] else 16) & 255])
    code = int(found["short"] or found["long"], 16)
    return chr(code).encode() if code < 0x110000 and not 0xD800 <= code < 0xE000 else b"\xff"


def check_kinds(tree: Tree, message: str, where: Where) -> None:
    """Check a tree against the fields of ``message``, and write scalars in one way: ``true``, ``MAX``, ``16``.

    Raises SpecError with file, line, layer and field.
    """
    if message.endswith("LayerParameter"):
        where = Where(where.file, tree.line, layer=tree.text("name")[:MAX_NAME] or where.layer)
    for name, values in tree.fields.items():
        field = schema()[message].get(name)
        if field is None:
            continue
        if len(values) > 1 and not field.repeated:
            again = where.at(line=values[1].line, field=name)
            raise SpecError(f"{again}: given twice (first at line {values[0].line}); keep one")
        for value in values:
            _check_value(value, field, where.at(line=value.line, field=name))


def _check_value(value: Scalar | Tree, field: Field, where: Where) -> None:
    is_message = field.kind in schema()
    if isinstance(value, Tree) != is_message:
        expected = f"fields in brackets, {field.name} {{ … }}" if is_message else f"a value, {field.name}: …"
        raise SpecError(f"{where}: expected {expected}")
    if isinstance(value, Tree):
        check_kinds(value, field.kind, where)
    elif value.quoted != (field.kind in ("string", "bytes")):
        expected = "no quotes" if value.quoted else "quotes"
        raise SpecError(f"{where}: expected {expected} around {value.text[:40]}")
    elif value.quoted:
        check_length(value.text, where)
    else:
        value.text = _plain(value.text, field, where)


def _plain(text: str, field: Field, where: Where) -> str:
    """A scalar as YAML writes it; a wrong number or name is left for the spec to find."""
    if field.kind == "bool":
        return TRUTH.get(text, text)
    if field.values:
        names = {str(number): name for name, number in field.values.items()}
        return names.get(text, text)
    if field.kind in INTEGERS and OTHER_BASE.fullmatch(text):
        return _decimal(text, where)
    return text[:-1] if field.kind == "float" and FLOAT_SUFFIX.fullmatch(text) else text


def _decimal(text: str, where: Where) -> str:
    """A whole number that is written with the prefix 0x (hexadecimal) or 0 (octal)."""
    try:
        return str(int(text, 16 if "x" in text.lower() else 8))
    except ValueError:
        raise SpecError(f"{where}: {text}: a number that starts with 0 is octal; drop the 0") from None
