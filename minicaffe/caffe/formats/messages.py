"""Caffe's protobuf messages, made from ``caffe.proto`` and ``forks.proto`` when they are first used.

They are registered in a pool of their own, under the package ``minicaffe``: the real ``caffe`` package may be
imported beside this one. No generated code: that would tie the files to the version of protoc that made it.

Messages that a fork has added are bytes in the message that holds them: another fork may have given their number to
something else, which must not keep the file from being read.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from minicaffe.caffe.formats.schema import Field, Schema, schema
from minicaffe.errors import DataError

PACKAGE = "minicaffe"
MAX_BYTES = 2**31 - 2**20  # of a protobuf message, with room for what is not numbers


@cache
def _pool() -> Any:
    protobuf = import_protobuf("caffe")
    from google.protobuf import descriptor_pool

    kinds = protobuf.descriptor_pb2.FieldDescriptorProto
    file = file_descriptor(protobuf.descriptor_pb2, PACKAGE, schema())
    for message in file.message_type:
        for declared in message.field:
            if schema()[message.name][declared.name].of_fork and declared.type == kinds.TYPE_MESSAGE:
                declared.type = kinds.TYPE_BYTES
                declared.ClearField("type_name")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


@cache
def message_class(name: str) -> Any:
    """The class of a message in ``caffe.proto``. Raises DataError where protobuf is not installed."""
    pool = _pool()
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def parse_message(name: str, data: bytes) -> Any:
    """The message ``name`` in ``data``. Raises DataError where the bytes are not one."""
    cls = message_class(name)
    from google.protobuf.message import DecodeError

    try:
        return cls.FromString(data)
    except DecodeError:
        article = "an" if name[0] in "AEIO" else "a"
        raise DataError(f"not {article} {name} message; the file is damaged or of another kind") from None


def import_protobuf(extra: str = "lmdb") -> ModuleType:
    """The package ``google.protobuf``. Raises DataError, naming the ``extra`` to install, where it is not there."""
    try:
        import google.protobuf.descriptor_pb2
    except ImportError:
        raise DataError(
            f"Caffe's binary files need the protobuf package; pip install 'minicaffe[{extra}]'"
        ) from None
    package: ModuleType = google.protobuf
    return package


def file_descriptor(descriptor_pb2: ModuleType, package: str, messages: Schema) -> Any:
    """The messages, in a package of that name; an enum is declared as the number that it is in a file.

    Fields of number 0 are left out: they have none in files.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for field in (field for field in fields.values() if field.number):
            added = _add_field(message, field, descriptor_pb2.FieldDescriptorProto)
            if field.kind in messages:
                added.type_name = f".{package}.{field.kind}"
    return file


def _add_field(message: Any, field: Field, kinds: Any) -> Any:
    """Declare one field: a scalar's type by its name, an enum as a number, anything else as a message."""
    label = kinds.LABEL_REPEATED if field.repeated else kinds.LABEL_OPTIONAL
    added = message.field.add(number=field.number, name=field.name, label=label)
    if field.packed:
        added.options.packed = True
    scalar = "INT32" if field.values else field.kind.upper()
    added.type = getattr(kinds, f"TYPE_{scalar}", kinds.TYPE_MESSAGE)
    return added
