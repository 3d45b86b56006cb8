"""XML from elsewhere as plain elements: no document types, so no entities that grow or name files; and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from minicaffe.data.decode import plain_file
from minicaffe.errors import DataError
from minicaffe.files.atomic import unreadable

MAX_BYTES = 1 << 26
MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 50


@dataclass
class Element:
    """An element: its tag, the line it begins at, its text, and the elements in it. Attributes are left out."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """The elements in it with a tag."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> Element | None:
        """The first element in it with a tag, or None."""
        return next((child for child in self.children if child.tag == tag), None)

    def text_of(self, tag: str, default: str = "") -> str:
        """The text of the first element in it with a tag, without space around it."""
        found = self.first(tag)
        return default if found is None else found.text.strip()


def read_xml(path: str | Path) -> Element:
    """The outermost element of a file. Raises DataError, with the line, if it is not plain XML."""
    try:
        with open(plain_file(path), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        problem = unreadable(path, error) if isinstance(error, OSError) else f"{path}: {error}"
        raise DataError(problem) from None
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES:,} bytes; is it an annotation?")
    reader = _Reader(path)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(
            f"{path}:{error.lineno}: not XML ({expat.ErrorString(error.code)}); write it again"
        ) from None
    return reader.root.children[0]


class _Reader:
    """Collects elements while expat parses."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.root = Element("", 0)
        self.open, self.count = [self.root], 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > MAX_ELEMENTS or len(self.open) > MAX_DEPTH:
            raise self._error(f"more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} in each other")
        element = Element(tag, self.parser.CurrentLineNumber)
        self.open[-1].children.append(element)
        self.open.append(element)

    def _end(self, tag: str) -> None:
        self.open.pop()

    def _text(self, text: str) -> None:
        self.open[-1].text += text

    def _doctype(self, *about: object) -> None:
        raise self._error("a document type (DOCTYPE), which an annotation does not need; remove it")

    def _error(self, problem: str) -> DataError:
        return DataError(f"{self.path}:{self.parser.CurrentLineNumber}: {problem}")
