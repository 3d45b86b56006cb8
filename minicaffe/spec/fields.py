"""Declares the fields of a spec message and reads them from YAML, checking every value.

A message is a class whose attributes are fields; an instance holds their values:

>>> class DropoutParam(Message):
...     dropout_ratio = Float(0.5, min=0, below=1)
>>> DropoutParam().dropout_ratio
0.5

The declaration tells a type checker what the attribute is:

    Int(1)                    int
    Int(required=True)        int
    Int()                     int | None
    Int(repeated=True)        list[int]
    Nested(FillerParam)       FillerParam

The names, defaults and enum values of messages are those of ``caffe.proto``.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypedDict, TypeVar, overload

import yaml

from minicaffe.errors import SpecError
from minicaffe.spec.reader import Where, kind, line_of, nearest

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

TRUE_WORDS = {"true", "yes", "on"}
FALSE_WORDS = {"false", "no", "off"}
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither file names nor UTF-8 can contain these


Value = TypeVar("Value")
MessageType = TypeVar("MessageType", bound="Message")


class Field(Generic[Value]):
    """One field of a message: its default, whether it is required, and whether it takes a list.

    The value of a repeated field is always a list; a single value in the file stands for a list of one.
    Subclasses implement ``convert`` for one value. ``Value`` is the type of the message's attribute.
    """

    expects = "a value"

    def __init__(self, default: Any = None, *, required: bool = False, repeated: bool = False) -> None:
        self.default = [] if repeated and default is None else default
        self.required = required
        self.repeated = repeated

    if TYPE_CHECKING:  # at run time a message's own attribute hides the field of its class

        @overload
        def __get__(self, message: None, owner: type) -> Self: ...
        @overload
        def __get__(self, message: object, owner: type) -> Value: ...
        def __get__(self, message: object, owner: type) -> Any: ...
        def __set__(self, message: object, value: Value) -> None: ...

    def read(self, node: yaml.Node, where: Where) -> Any:
        """The value of ``node``. Raises SpecError with ``where`` if it is not what the field expects."""
        if not self.repeated:
            return self.convert(node, where)
        if not isinstance(node, yaml.SequenceNode):
            return [self.convert(node, where.at(line=line_of(node)))]
        return [self.convert(item, where.entry(item, i)) for i, item in enumerate(node.value)]

    def convert(self, node: yaml.Node, where: Where) -> Any:
        """One value. Raises SpecError."""
        if not isinstance(node, yaml.ScalarNode):
            raise SpecError(f"{where}: expected {self.expects}, got a {kind(node)}")
        return self.convert_text(node.value, node, where)

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> Any:
        """The value that a scalar's text stands for. Raises SpecError."""
        raise SpecError(f"{where}: expected {self.expects}, got '{text}'")

    def default_value(self, where: Where) -> Any:
        """The value if the file gives none."""
        return copy.copy(self.default)


class String(Field[Value]):
    """Text; a number is taken as it is written."""

    expects = "a name or text"

    @overload
    def __init__(self: String[str], default: str) -> None: ...
    @overload
    def __init__(self: String[str], *, required: Literal[True]) -> None: ...
    @overload
    def __init__(self: String[list[str]], *, repeated: Literal[True]) -> None: ...
    @overload
    def __init__(self: String[str | None]) -> None: ...
    def __init__(self, default: str | None = None, **options: bool) -> None:
        super().__init__(default, **options)

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> str:
        if node.tag == "tag:yaml.org,2002:null":
            raise SpecError(f"{where}: expected {self.expects}, got nothing")
        if odd := NO_TEXT.search(text):
            what = "a NUL" if odd[0] == "\0" else "a lone surrogate (half a character)"
            raise SpecError(f"{where}: expected {self.expects}, got '{text}', which contains {what}")
        return text


class Bool(Field[Value]):
    """true or false."""

    expects = "true or false"

    @overload
    def __init__(self: Bool[bool], default: bool) -> None: ...
    @overload
    def __init__(self: Bool[bool], *, required: Literal[True]) -> None: ...
    @overload
    def __init__(self: Bool[list[bool]], *, repeated: Literal[True]) -> None: ...
    @overload
    def __init__(self: Bool[bool | None]) -> None: ...
    def __init__(self, default: bool | None = None, **options: bool) -> None:
        super().__init__(default, **options)

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> bool:
        word = text.lower()
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS
        raise SpecError(f"{where}: expected {self.expects}, got '{text}'")


class Limits(TypedDict, total=False):
    """The range of a number: ``min`` and ``max`` belong to it, ``above`` and ``below`` do not."""

    min: float
    max: float
    above: float
    below: float


class Number(Field[Value]):
    """A number with an optional range, see ``Limits``."""

    parse: Callable[[str], float]

    def __init__(
        self,
        default: Any = None,
        *,
        min: float = -math.inf,
        max: float = math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        required: bool = False,
        repeated: bool = False,
    ) -> None:
        super().__init__(default, required=required, repeated=repeated)
        self.min, self.max, self.above, self.below = min, max, above, below

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> float:
        try:
            value = type(self).parse(text)
        except ValueError:
            raise SpecError(f"{where}: expected {self.expects}, got '{text}'") from None
        if not (self.min <= value <= self.max and self.above < value < self.below):
            raise SpecError(f"{where}: {text} is out of range; it must be {self.range_text()}")
        return value

    def range_text(self) -> str:
        """The allowed range in words."""
        bounds = [
            ("at least", self.min),
            ("at most", self.max),
            ("greater than", self.above),
            ("less than", self.below),
        ]
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))


def _whole(text: str) -> int:
    return int(text, 0) if text.lower().startswith("0x") else int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class Int(Number[Value]):
    """A 32-bit whole number, as all in ``caffe.proto`` are, except the random seed."""

    expects = "a whole number"
    parse = staticmethod(_whole)

    @overload
    def __init__(self: Int[int], default: int, **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Int[int], *, required: Literal[True], **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Int[list[int]], *, repeated: Literal[True], **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Int[int | None], **limits: Unpack[Limits]) -> None: ...
    def __init__(
        self, default: Any = None, *, min: float = -(2**31), max: float = 2**31 - 1, **options: Any
    ) -> None:
        super().__init__(default, min=min, max=max, **options)


class Float(Number[Value]):
    """A finite number."""

    expects = "a number"
    parse = staticmethod(_finite)

    @overload
    def __init__(self: Float[float], default: float, **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Float[float], *, required: Literal[True], **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Float[list[float]], *, repeated: Literal[True], **limits: Unpack[Limits]) -> None: ...
    @overload
    def __init__(self: Float[float | None], **limits: Unpack[Limits]) -> None: ...
    def __init__(self, default: float | None = None, **options: Any) -> None:
        super().__init__(default, **options)


class Enum(Field[Value]):
    """One of a few names, in upper or lower case."""

    @overload
    def __init__(self: Enum[str], *names: str, default: str) -> None: ...
    @overload
    def __init__(self: Enum[list[str]], *names: str, repeated: Literal[True]) -> None: ...
    @overload
    def __init__(self: Enum[str | None], *names: str) -> None: ...
    def __init__(self, *names: str, default: str | None = None, repeated: bool = False) -> None:
        super().__init__(default, repeated=repeated)
        self.names = names
        self.expects = "one of " + ", ".join(names)

    def convert_text(self, text: str, node: yaml.Node, where: Where) -> str:
        if text.upper() in self.names:
            return text.upper()
        raise SpecError(f"{where}: expected {self.expects}, got '{text}'{nearest(text, self.names)}")


class Nested(Field[Value]):
    """A message inside a message; if absent, one with all its defaults, or None if ``optional``."""

    @overload
    def __init__(self: Nested[MessageType], message: type[MessageType]) -> None: ...
    @overload
    def __init__(self: Nested[MessageType | None], message: type[MessageType], *, optional: bool) -> None: ...
    @overload
    def __init__(
        self: Nested[list[MessageType]], message: type[MessageType], *, repeated: Literal[True]
    ) -> None: ...
    def __init__(self, message: type[Message], *, optional: bool = False, repeated: bool = False) -> None:
        super().__init__(None, repeated=repeated)
        self.message = message
        self.optional = optional
        self.expects = "a mapping of fields"

    def convert(self, node: yaml.Node, where: Where) -> Message:
        if not isinstance(node, yaml.MappingNode):
            raise SpecError(f"{where}: expected {self.expects}, got a {kind(node)}")
        return self.message.read(node, where)

    def default_value(self, where: Where) -> Any:
        if self.repeated or self.optional:
            return [] if self.repeated else None
        return self.message.read(yaml.MappingNode("", [], None, None), where)


class Message:
    """A group of fields, as in ``caffe.proto``. Its attributes are the fields' values.

    ``has("field")`` says whether the file gave the field; ``error("field", …)`` makes a SpecError that points
    at it. A subclass checks in ``check`` what involves several fields. ``may_be_absent``: if a layer does not give
    the message, its value is None, not a message with all defaults.
    """

    fields: ClassVar[dict[str, Field[Any]]] = {}
    may_be_absent: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        cls.fields = {**cls.fields, **own}

    def __init__(self, **values: Any) -> None:
        """A message made in Python: the given values (not checked) over the defaults."""
        self.where = Where("<python>")
        for name, field in self.fields.items():
            setattr(self, name, values[name] if name in values else field.default_value(self.where))
        self._lines: dict[str, int] = dict.fromkeys(values, 0)

    @classmethod
    def read(cls, node: yaml.MappingNode, where: Where) -> Self:
        """The message in a YAML mapping. Raises SpecError for anything wrong in it."""
        message = cls.__new__(cls)
        message.where, message._lines = where, {}
        for key, value in node.value:
            message._read_field(key, value)
        for name, field in cls.fields.items():
            if name in message._lines:
                continue
            if field.required:
                raise SpecError(f"{where.at(field=name)}: required, but not given; add '{name}: …'")
            setattr(message, name, field.default_value(where.at(field=name)))
        message.check()
        return message

    def hint(self, name: str) -> str:
        """What an error says about an unknown field: the nearest known one."""
        return nearest(name, self.fields)

    def _read_field(self, key: yaml.Node, value: yaml.Node) -> None:
        name, line = str(key.value), line_of(key)
        where = self.where.at(line=line, field=name)
        if name not in self.fields:
            raise SpecError(f"{where}: unknown field{self.hint(name)}")
        if name in self._lines:
            raise SpecError(f"{where}: given twice (first at line {self._lines[name]}); keep one")
        setattr(self, name, self.fields[name].read(value, where))
        self._lines[name] = line

    def check(self) -> None:
        """Raise ``self.error`` if the fields do not fit together. The base has nothing to check."""

    def has(self, name: str) -> bool:
        """Whether the field was given, rather than left at its default."""
        return name in self._lines

    def drop(self, name: str) -> None:
        """Reset a field to its default."""
        self._lines.pop(name, None)
        setattr(self, name, self.fields[name].default_value(self.where.at(field=name)))

    def line(self, name: str = "") -> int:
        """The line of a field, or of the message if the field was not given."""
        return self._lines.get(name) or self.where.line

    def error(self, name: str, problem: str) -> SpecError:
        """A SpecError that points at a field of this message."""
        return SpecError(f"{self.where.at(line=self.line(name), field=name or None)}: {problem}")


class BlobShape(Message):
    """``{dim: [N, C, H, W]}``."""

    dim = Int(min=0, repeated=True)


# Which implementation Caffe should use, in the messages of many layers. There is only one here, so it is ignored.
ENGINE = Enum("DEFAULT", "CAFFE", "CUDNN", default="DEFAULT")
