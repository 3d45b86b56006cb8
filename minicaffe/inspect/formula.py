"""What a layer computes, as docstrings say it: a type of the package in its file's, a user's class in its own."""

from __future__ import annotations

import inspect
import re
import sys
from itertools import takewhile

from minicaffe.core.layer import Layer


def formula_of(layer: Layer) -> str:
    """The first line of the docstring, without the name of the type, and the first formulas that stand below it.

    Formulas are the lines that are indented, with the empty ones between them.
    """
    first, *lines = _lines_of(vars(layer).get("__doc__", _doc_of(type(layer))))
    begin = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    block = takewhile(lambda line: not line or line.startswith("    "), lines[begin:])
    formulas = "\n".join(line[4:] for line in block).rstrip()
    text = "\n".join(filter(None, [first, formulas])).replace("``", "")
    return _without_bias(text) if _lacks_bias(layer) else text


def _without_bias(text: str) -> str:
    """Formulas without b: neither where it is added, nor its gradient, nor what is said of it."""
    text = re.sub(r" \+ b\b| \(and b\)|(?m: *\bdb = .+?(?=   |$))", "", text)
    return re.sub(r"\n+", "\n", text).strip()


def _lacks_bias(layer: Layer) -> bool:
    """Whether the spec of a layer says, or leaves it so, that it has no bias."""
    spec = getattr(layer, "spec", None)  # None: of a layer that only its formula is asked of
    messages = [getattr(spec, name, None) for name in layer.messages] if spec is not None else []
    return any(getattr(message, "bias_term", True) is False for message in messages)


def sentence_of(cls: type[Layer]) -> str:
    """The first line of the docstring, without the name of the type."""
    return _lines_of(_doc_of(cls))[0]


def _lines_of(doc: str) -> list[str]:
    """The lines of a docstring: at least one, which may be empty."""
    first, *lines = inspect.cleandoc(doc).splitlines() or [""]
    return [re.sub(r"^\w+: ", "", first), *lines]


def _doc_of(cls: type[Layer]) -> str:
    """Of a class without a docstring it is that of the nearest one above it, below Layer."""
    if cls is Layer:
        return ""
    if cls.__module__.startswith("minicaffe."):
        return sys.modules[cls.__module__].__doc__ or ""
    above = next(base for base in cls.__mro__[1:] if issubclass(base, Layer))
    return cls.__doc__ or _doc_of(above)
