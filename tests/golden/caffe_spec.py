"""Between our YAML specs and the messages of real Caffe. Runs with the Caffe environment's Python.

The field names are the same on both sides, so everything here is mechanical.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import yaml
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Spec = dict[str, Any]


def fill_message(message: Message, spec: Spec) -> Message:
    """Set the fields of ``message`` from ``spec``; a single value stands for a list of one."""
    for key, value in spec.items():
        field = message.DESCRIPTOR.fields_by_name.get(key)
        if field is None:
            raise KeyError(f"{message.DESCRIPTOR.name} has no field '{key}'")
        if field.message_type is None:
            _set_scalars(message, field, value)
        elif field.label == field.LABEL_REPEATED:
            for item in _listed(value):
                fill_message(getattr(message, key).add(), item)
        else:
            getattr(message, key).SetInParent()
            fill_message(getattr(message, key), value)
    return message


def _set_scalars(message: Message, field: FieldDescriptor, value: Any) -> None:
    """Set a number, string, bool or enum field, or a repeated one."""
    values = [
        field.enum_type.values_by_name[item].number if field.enum_type else item for item in _listed(value)
    ]
    if field.label == field.LABEL_REPEATED:
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, values[0])


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def as_spec(message: Message) -> Spec:
    """The fields set in ``message`` as plain Python values: repeated ones as lists, enums as their names."""
    return {
        field.name: [_plain(field, item) for item in value]
        if field.label == field.LABEL_REPEATED
        else _plain(field, value)
        for field, value in message.ListFields()
    }


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type:
        return as_spec(value)
    if field.enum_type:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, float):
        return float(str(np.float32(value)))  # 0.1, and not the 0.10000000149 that a float32 holds
    return value


def net_message(spec: Spec) -> caffe_pb2.NetParameter:
    """A net's spec as Caffe's message."""
    return fill_message(caffe_pb2.NetParameter(), spec)


def solver_message(spec: Spec) -> caffe_pb2.SolverParameter:
    """A solver's spec as Caffe's message."""
    return fill_message(caffe_pb2.SolverParameter(), spec)


def net_from_prototxt(text: str) -> Spec:
    """The spec of a net in prototxt, with Clip layers too, for which this build's messages have no field."""
    clips = [
        {key: float(value) for key, value in re.findall(r"(\w+):\s*(\S+)", body)}
        for body in re.findall(r"clip_param\s*\{([^}]*)\}", text)
    ]
    text = re.sub(r"clip_param\s*\{[^}]*\}", "", text)
    spec = as_spec(text_format.Parse(text, caffe_pb2.NetParameter()))
    for layer in spec["layer"]:
        if layer["type"] == "Clip":
            layer["clip_param"] = clips.pop(0)
    return spec


def solver_from_prototxt(text: str) -> Spec:
    """The spec of a solver in prototxt."""
    return as_spec(text_format.Parse(text, caffe_pb2.SolverParameter()))


def as_yaml(spec: Spec) -> np.ndarray:
    """``spec`` as YAML text, in an array that an npz file can hold."""
    return np.array(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110))
