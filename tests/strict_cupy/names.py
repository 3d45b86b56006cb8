"""The names of CuPy that the double has, and the keywords that CuPy takes there: what ``record.py`` wrote down."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECORD = json.loads((Path(__file__).parent / "names.json").read_text())


class Signature:
    """The parameters of a function, from text such as ``a, axis=..., *, out=...``."""

    def __init__(self, name: str, text: str) -> None:
        names = [parameter.partition("=")[0] for parameter in text.split(", ") if parameter not in ("", "/")]
        stars = [i for i, parameter in enumerate(names) if parameter.startswith("*")]
        self.name = name
        self.most_places = stars[0] if stars else len(names)
        if stars and names[stars[0]].strip("*") and not names[stars[0]].startswith("**"):
            self.most_places = 1 << 30  # *args
        self.takes_any = any(parameter.startswith("**") for parameter in names)
        self.keywords = {parameter for parameter in names if not parameter.startswith("*")}

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError where CuPy's function does not take such arguments."""
        if len(args) > self.most_places:
            raise TypeError(f"{self.name}() takes {self.most_places} arguments by place, but got {len(args)}")
        for keyword in kwargs:
            if keyword not in self.keywords and not self.takes_any:
                raise TypeError(f"{self.name}() got an unexpected keyword argument '{keyword}'")


def checked(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    """The function, refusing what CuPy's, which has these parameters, does not take."""
    signature = Signature(name, text)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        signature.check(args, kwargs)
        return function(*args, **kwargs)

    return call


def checked_methods(owner: str) -> Callable[[type], type]:
    """Decorates the double of a class: its recorded methods refuse what CuPy's do not take."""

    def decorate(cls: type) -> type:
        for name, text in RECORD["methods"][owner].items():
            setattr(cls, name, checked(getattr(cls, name), f"{owner}.{name}", text))
        return cls

    return decorate
