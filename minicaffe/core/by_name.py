"""What a net has by name: its blobs and its parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from minicaffe.errors import UnknownNameError, listing, named
from minicaffe.spec.reader import nearest

Value = TypeVar("Value")
Other = TypeVar("Other")


class ByName(OrderedDict[str, Value]):
    """Blobs or parameters by name, in the net's order. A name that is not there is answered with the nearest one.

    ``owner`` and ``what`` begin the message: "net 'LeNet' has no blob 'con1'". ``absent`` says what is to be known
    of names that one may expect here: of a layer without parameters, or one whose blob has another name.
    """

    def __init__(
        self,
        items: Mapping[str, Value] | Iterable[tuple[str, Value]] = (),
        owner: str = "this",
        what: str = "entry",
        absent: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(items)
        self.owner, self.what = owner, what
        self.absent: dict[str, str] = dict(absent or {})

    def __missing__(self, name: object) -> NoReturn:
        word = named(str(name))
        known = self.absent.get(str(name)) or nearest(str(name), self) or self._all()
        raise UnknownNameError(f"{self.owner} has no {self.what} '{word}'{known}")

    def alike(self, items: Iterable[tuple[str, Other]]) -> ByName[Other]:
        """Other values, whose names are missed with the same words."""
        return ByName(items, self.owner, self.what, self.absent)

    def _all(self) -> str:
        return f"; it has {listing(list(self), 10)}" if self else ""

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {_shapes(value)}" for name, value in self.items()) or "{}"


def _shapes(value: Any) -> str:
    """The shape of a blob, the shapes of a list of blobs, or else the value."""
    values = value if isinstance(value, list) else [value]
    return "  ".join(str(getattr(one, "shape", one)) for one in values)
