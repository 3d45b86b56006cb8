"""Caffe's messages with what only our specs have: ``low_rank_param``, the messages of layers from Caffe's forks, …

What a spec has and ``caffe.proto`` has not gets a number of its own: it is for nets written as text, not for files
in binary. Defaults are those of the specs, which for Caffe's fields are Caffe's, and for those of
forks what ``forks.proto`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from minicaffe.caffe.formats.schema import Field, Schema, schema
from minicaffe.core.layer import layer_classes
from minicaffe.spec import fields
from minicaffe.spec.net import LayerSpec, NetSpec
from minicaffe.spec.solver import SolverSpec

FIRST_OWN = 10_000  # beyond the numbers that Caffe and its forks use
ROOTS = {"SolverParameter": SolverSpec, "NetParameter": NetSpec, "LayerParameter": LayerSpec}
KINDS = {fields.Int: "int32", fields.Float: "float", fields.Bool: "bool"}


@cache
def full_schema() -> Schema:
    """{message: {field name: Field}}, as ``schema`` has it, with our own."""
    full = {name: dict(known) for name, known in schema().items()}
    for owner, name, field in all_fields():
        known = full.setdefault(owner, {})
        if name not in known or not known[name].number:
            others = sum(other.number >= FIRST_OWN for other in known.values())
            known[name] = _declared(owner, name, field, FIRST_OWN + others)
    return full


@cache
def defaults() -> dict[tuple[str, str], str]:
    """{(message, field): default}, as protobuf's descriptors write it."""
    found: dict[tuple[str, str], str] = {}
    for owner, name, field in all_fields():
        theirs, value = schema().get(owner, {}).get(name), field.default
        if theirs and theirs.of_fork:
            value = theirs.default
        if not full_schema()[owner][name].repeated and value not in (None, ""):
            found.setdefault((owner, name), str(value).lower() if isinstance(value, bool) else str(value))
    return found


def all_fields() -> Iterator[tuple[str, str, fields.Field[Any]]]:
    """(message, field name, field) of all specs; a message that several layer types take comes several times."""
    for owner, spec in ROOTS.items():
        yield from _fields(owner, spec.fields)
    for layer in layer_classes.values():
        messages = {name: fields.Nested(message) for name, message in layer.messages.items()}
        yield from _fields("LayerParameter", messages)


def _fields(
    owner: str, of_spec: Mapping[str, fields.Field[Any]]
) -> Iterator[tuple[str, str, fields.Field[Any]]]:
    for name, field in of_spec.items():
        yield owner, name, field
        if isinstance(field, fields.Nested):
            yield from _fields(_kind(owner, name, field), field.message.fields)


def _kind(owner: str, name: str, field: fields.Nested[Any]) -> str:
    """The name of the message that a field holds: LowRankParam of the specs is LowRankParameter."""
    known = schema().get(owner, {}).get(name)
    own = field.message.__name__
    return known.kind if known else f"{own}eter" if own.endswith("Param") else own


def _declared(owner: str, name: str, field: fields.Field[Any], number: int) -> Field:
    if isinstance(field, fields.Nested):
        return Field(name, number, _kind(owner, name, field), field.repeated)
    if isinstance(field, fields.Enum):
        values = {value: i for i, value in enumerate(field.names)}
        enum = f"{owner}.{name.title().replace('_', '')}"
        return Field(name, number, "enum", field.repeated, values=values, enum=enum)
    kind = next((kind for cls, kind in KINDS.items() if isinstance(field, cls)), "string")
    return Field(name, number, kind, field.repeated)
