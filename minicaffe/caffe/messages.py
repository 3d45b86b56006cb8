"""The few protobuf messages of Caffe that hold arrays, declared in Python.

Names, numbers and types are those of ``caffe.proto``, so the bytes are Caffe's. They are registered in a pool
of their own, under the package ``minicaffe``: the real ``caffe`` package may be imported beside this one. No
generated code: that would tie the file to the version of protoc that made it.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from minicaffe.errors import DataError

# message: (number, name, type); a type ending in [] is repeated, and packed where caffe.proto packs it.
SCHEMA: dict[str, list[tuple[int, str, str]]] = {
    "Datum": [
        (1, "channels", "int32"),
        (2, "height", "int32"),
        (3, "width", "int32"),
        (4, "data", "bytes"),
        (5, "label", "int32"),
        (6, "float_data", "float[]"),
        (7, "encoded", "bool"),
    ],
    "BlobShape": [(1, "dim", "int64[packed]")],
    "BlobProto": [
        (7, "shape", "BlobShape"),
        (5, "data", "float[packed]"),
        (6, "diff", "float[packed]"),
        (8, "double_data", "double[packed]"),
        (9, "double_diff", "double[packed]"),
        (1, "num", "int32"),
        (2, "channels", "int32"),
        (3, "height", "int32"),
        (4, "width", "int32"),
    ],
}


@cache
def message_class(name: str) -> Any:
    """The class of a message in ``SCHEMA``. Raises DataError where protobuf is not installed."""
    protobuf = import_protobuf()
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file_descriptor(protobuf.descriptor_pb2))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"minicaffe.{name}"))


def parse_message(name: str, data: bytes) -> Any:
    """The message ``name`` in ``data``. Raises DataError where the bytes are not one."""
    cls = message_class(name)
    from google.protobuf.message import DecodeError

    try:
        return cls.FromString(data)
    except DecodeError:
        raise DataError(f"not a {name} message; the file is damaged or of another kind") from None


def import_protobuf() -> ModuleType:
    """The package ``google.protobuf``. Raises DataError where it is not installed."""
    try:
        import google.protobuf.descriptor_pb2
    except ImportError:
        raise DataError(
            "Caffe's binary files need the protobuf package; pip install 'minicaffe[lmdb]'"
        ) from None
    return google.protobuf


def _file_descriptor(descriptor_pb2: ModuleType) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="minicaffe.proto", package="minicaffe", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for number, name, declared in fields:
            kind, _, repeated = declared.partition("[")
            field = message.field.add(number=number, name=name, label=kinds.LABEL_OPTIONAL)
            if repeated:
                field.label = kinds.LABEL_REPEATED
                field.options.packed = repeated == "packed]"
            if kind in SCHEMA:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".minicaffe.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    return file
