"""caffe_pb2: Caffe's messages as protobuf's classes, for ``google.protobuf.text_format`` and alike.

They are made from the project's own ``caffe.proto`` when one is first asked for, so that protobuf need only be
there where it is used. Defaults are those of the specs, which are Caffe's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from minicaffe.caffe.messages import file_descriptor, import_protobuf
from minicaffe.caffe.schema import Field, schema
from minicaffe.layer import layer_classes
from minicaffe.spec import fields
from minicaffe.spec.net import LayerSpec, NetSpec
from minicaffe.spec.solver import SolverSpec

TRAIN, TEST = 0, 1
PACKAGE = "caffe"


def __getattr__(name: str) -> Any:
    """A message's class, or the enum ``Phase``."""
    if name == "Phase":
        from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

        return EnumTypeWrapper(_pool().FindEnumTypeByName(f"{PACKAGE}.Phase"))
    if name not in schema():
        raise AttributeError(f"caffe.proto has no message '{name}'")
    return _class(name)


def __dir__() -> list[str]:
    return ["TRAIN", "TEST", "Phase", *schema()]


@cache
def _class(name: str) -> Any:
    pool = _pool()
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    """The messages in a pool of their own: the real ``caffe_pb2`` may be imported beside this one."""
    kinds = import_protobuf("caffe").descriptor_pb2
    from google.protobuf import descriptor_pool

    file, known = file_descriptor(kinds, PACKAGE), _defaults()
    for message in file.message_type:
        for declared in message.field:
            field = schema()[message.name][declared.name]
            if field.values:
                owner, _, enum = field.enum.rpartition(".")
                _declare_enum(message if owner else file, enum, field)
                declared.type, declared.type_name = (
                    kinds.FieldDescriptorProto.TYPE_ENUM,
                    f".{PACKAGE}.{field.enum}",
                )
            if (message.name, field.name) in known:
                declared.default_value = known[message.name, field.name]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _declare_enum(owner: Any, name: str, field: Field) -> None:
    if any(enum.name == name for enum in owner.enum_type):
        return
    enum = owner.enum_type.add(name=name)
    for value, number in field.values.items():
        enum.value.add(name=value, number=number)


def _defaults() -> dict[tuple[str, str], str]:
    """{(message, field): default}, as the descriptors of protobuf write it."""
    found: dict[tuple[str, str], str] = {}
    for name, spec in (
        ("SolverParameter", SolverSpec),
        ("NetParameter", NetSpec),
        ("LayerParameter", LayerSpec),
    ):
        _collect(name, spec, found)
    for layer in layer_classes.values():
        for name, spec in layer.messages.items():
            if name in schema()["LayerParameter"]:
                _collect(schema()["LayerParameter"][name].kind, spec, found)
    return found


def _collect(name: str, spec: type[fields.Message], found: dict[tuple[str, str], str]) -> None:
    for field_name, field in spec.fields.items():
        declared = schema()[name].get(field_name)
        if declared is None:
            continue
        if isinstance(field, fields.Nested):
            _collect(declared.kind, field.message, found)
        elif field.default not in (None, "") and not declared.repeated:
            value = field.default
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.setdefault((name, field_name), text)
