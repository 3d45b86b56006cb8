"""Caffe's binary messages as trees, which text files become too, and back; arrays (``blobs``) are left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.caffe.formats.messages import message_class, parse_message
from minicaffe.caffe.formats.schema import Field, schema
from minicaffe.caffe.formats.tree import MAX_NAME, Scalar, Tree, check_length
from minicaffe.errors import DataError, MinicaffeError, SpecError, listing
from minicaffe.files.atomic import check_name, unreadable
from minicaffe.files.kinds import kind_of
from minicaffe.spec.reader import Where

logger = logging.getLogger("minicaffe")
FILES = {"NetParameter": "a net of Caffe (.caffemodel)", "SolverState": "a solver state (.solverstate)"}


def read_message(name: str, path: str | Path, error: type[MinicaffeError]) -> Any:
    """The message ``name`` in a file. Raises ``error``, which names the file, if there is none."""
    try:
        check_name(path)
        data = Path(path).read_bytes()
        if not data:
            raise error(f"{path}: the file is empty")
        return parse_message(name, data)
    except OSError as problem:
        raise error(unreadable(path, problem)) from None
    except DataError as problem:
        kind = kind_of(path)
        raise error(f"{path}: {f'is {kind}, not {FILES[name]}' if kind else problem}") from None


def as_tree(message: Any, name: str, where: Where, unknown: list[str]) -> Tree:
    """A message as a tree; the numbers of fields that are not known are added to ``unknown``.

    Raises SpecError.
    """
    try:
        if name.endswith("LayerParameter"):
            layer = message.name[:MAX_NAME]
            where = Where(where.file, layer=layer if layer and isinstance(layer, str) else where.layer)
        place = f"layer '{where.layer}': " if where.layer else ""
        unknown += [f"{place}{name} {number}" for number in unknown_numbers(message)]
        tree = Tree()
        for descriptor, value in message.ListFields():
            field = schema()[name][descriptor.name]
            if field.kind == "BlobProto" or _is_a_forks_engine(field, value):
                continue
            items = list(value) if field.repeated else [value]
            if field.of_fork and field.kind in schema():
                try:
                    items = [parse_message(field.kind, item) for item in items]
                except DataError:
                    unknown.append(f"{place}{name} {field.number}")
                    continue
            for item in items:
                tree.add(field.name, _value(item, field, where.at(field=field.name), unknown))
        return tree
    except UnicodeDecodeError:
        raise SpecError(f"{where}: a text in it is not UTF-8; the file is damaged") from None


def _is_a_forks_engine(field: Field, value: Any) -> bool:
    """Whether a value chooses an implementation that Caffe does not have; that changes no numbers."""
    return field.name == "engine" and value not in field.values.values()


def _value(value: Any, field: Field, where: Where, unknown: list[str]) -> Scalar | Tree:
    if field.kind in schema():
        return as_tree(value, field.kind, where, unknown)
    if field.values:
        names = {number: name for name, number in field.values.items()}
        if value not in names:
            raise SpecError(f"{where}: unknown value {value}; Caffe 1.0 has no such choice")
        return Scalar(names[value])
    if field.kind == "bool":
        return Scalar(str(value).lower())
    if field.kind == "string":
        return Scalar(_checked_text(value, where), quoted=True)
    return Scalar(str(np.float32(value)) if field.kind == "float" else str(value))


def _checked_text(value: str | bytes, where: Where) -> str:
    try:
        text = text_of(value)
    except UnicodeDecodeError:
        raise SpecError(f"{where}: {value[:60]!r} is not UTF-8; the file is damaged") from None
    check_length(text, where)
    return text


def text_of(value: str | bytes) -> str:
    """A string of a message. Raises UnicodeDecodeError if it is not UTF-8: protobuf may give its bytes then."""
    return value if isinstance(value, str) else value.decode("utf-8")


def fill_message(message: Any, tree: Tree, name: str) -> list[str]:
    """Write a tree's values into a message ``name``; return the fields that the message does not have."""
    left_out = []
    for field_name, values in tree.fields.items():
        field = schema()[name].get(field_name)
        if field is None or not field.number:
            left_out.append(field_name)
            continue
        for value in values:
            if isinstance(value, Tree):
                lacking = _add_message(message, field, value)
                left_out += [f"{field_name}.{inner}" for inner in lacking]
            elif not field.values or value.text in field.values:
                _set_scalar(message, field, value.text)
            else:
                left_out.append(field_name)
    return left_out


def _add_message(message: Any, field: Field, tree: Tree) -> list[str]:
    inner = message_class(field.kind)()
    lacking = fill_message(inner, tree, field.kind)
    if field.of_fork and field.repeated:
        getattr(message, field.name).append(inner.SerializeToString())
    elif field.of_fork:
        setattr(message, field.name, inner.SerializeToString())
    elif field.repeated:
        getattr(message, field.name).append(inner)
    else:
        getattr(message, field.name).CopyFrom(inner)
    return lacking


def _set_scalar(message: Any, field: Field, text: str) -> None:
    if field.values:
        value: Any = field.values[text]
    elif field.kind in ("string", "bytes"):
        value = text if field.kind == "string" else text.encode()
    elif field.kind == "bool":
        value = text == "true"
    else:
        value = float(text) if field.kind in ("float", "double") else int(text)
    if field.repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def warn_of_unknown(path: str | Path, unknown: list[str]) -> None:
    """Warn that fields of a file were ignored, and name the first five: protobuf itself accepts any."""
    if unknown:
        told = listing(unknown, 5)
        logger.warning("%s: ignored fields that Caffe 1.0 does not have, by number: %s", path, told)


def unknown_numbers(message: Any) -> Iterator[int]:
    """The numbers of a message's own fields that ``caffe.proto`` does not have."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    fields: Any = UnknownFieldSet(message)
    yield from dict.fromkeys(field.field_number for field in fields)
