"""caffe_pb2: Caffe's messages as protobuf classes, for ``google.protobuf.text_format`` and the like.

They are made from the project's own ``caffe.proto`` and specs when one is first asked for: protobuf need only be
there where it is used.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from minicaffe.caffe.formats.messages import file_descriptor, import_protobuf
from minicaffe.caffe.formats.schema import Field
from minicaffe.pycaffe.proto.full_schema import defaults, full_schema

TRAIN, TEST = 0, 1
PACKAGE = "caffe"


def __getattr__(name: str) -> Any:
    """A message's class, or the enum ``Phase``."""
    if name == "Phase":
        return _phase()
    if name.startswith("__") or name not in full_schema():
        raise AttributeError(f"caffe.proto has no message '{name}'")
    return _class(name)


def __dir__() -> list[str]:
    return ["TRAIN", "TEST", "Phase", *full_schema()]


@cache
def _class(name: str) -> Any:
    pool = _pool()
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _phase() -> Any:
    pool = _pool()
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    return EnumTypeWrapper(pool.FindEnumTypeByName(f"{PACKAGE}.Phase"))


@cache
def _pool() -> Any:
    """The messages in a pool of their own: the real ``caffe_pb2`` may be imported beside this one."""
    kinds = import_protobuf("caffe").descriptor_pb2
    from google.protobuf import descriptor_pool

    file = file_descriptor(kinds, PACKAGE, full_schema())
    by_name = {message.name: message for message in file.message_type}
    for message in file.message_type:
        for declared in message.field:
            field = full_schema()[message.name][declared.name]
            if field.values:
                owner, _, enum = field.enum.rpartition(".")
                _declare_enum(by_name[owner] if owner else file, enum, field)
                declared.type = kinds.FieldDescriptorProto.TYPE_ENUM
                declared.type_name = f".{PACKAGE}.{field.enum}"
            if (message.name, field.name) in defaults():
                declared.default_value = defaults()[message.name, field.name]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _declare_enum(owner: Any, name: str, field: Field) -> None:
    if any(enum.name == name for enum in owner.enum_type):
        return
    enum = owner.enum_type.add(name=name)
    for value, number in field.values.items():
        enum.value.add(name=value, number=number)
