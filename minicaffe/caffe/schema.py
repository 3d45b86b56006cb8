"""The fields of Caffe's messages, read from ``caffe.proto`` beside this file; protobuf is not needed for it.

>>> schema()["DropoutParameter"]["dropout_ratio"]
Field(name='dropout_ratio', number=1, kind='float', repeated=False, packed=False, values={}, enum='')
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PROTO = Path(__file__).with_name("caffe.proto")
TOKEN = re.compile(
    r"message (?P<message>\w+) \{|enum (?P<enum>\w+) \{(?P<values>[^}]*)\}|(?P<end>\})|"
    r"(?P<label>optional|repeated) (?P<kind>\w+) (?P<name>\w+) = (?P<number>\d+)(?P<packed> \[packed = true\])?;"
)
VALUE = re.compile(r"(\w+) = (\d+);")


@dataclass(frozen=True)
class Field:
    """One field of a message; ``kind`` is a scalar type of protobuf, a message's name, or "enum"."""

    name: str
    number: int
    kind: str
    repeated: bool = False
    packed: bool = False
    values: dict[str, int] = field(default_factory=dict)  # the names and numbers of an enum
    enum: str = ""  # its name: PoolingParameter.PoolMethod, or Phase, which belongs to no message


Schema = dict[str, dict[str, Field]]


@cache
def schema() -> Schema:
    """{message: {field name: Field}}."""
    return parse_schema(PROTO.read_text(encoding="utf-8"))


def parse_schema(text: str) -> Schema:
    """The messages in the text of a .proto file of the plain form that ours has."""
    messages: Schema = {}
    enums: dict[str, dict[str, int]] = {}
    message = ""
    for token in TOKEN.finditer(text):
        if token["message"]:
            message = token["message"]
            messages[message] = {}
        elif token["enum"]:
            enums[f"{message}.{token['enum']}"] = {n: int(v) for n, v in VALUE.findall(token["values"])}
        elif token["end"]:
            message = ""
        elif token["label"]:
            enum = next((e for e in (f"{message}.{token['kind']}", f".{token['kind']}") if e in enums), "")
            values = enums.get(enum, {})
            kind = "enum" if values else token["kind"]
            messages[message][token["name"]] = Field(
                token["name"],
                int(token["number"]),
                kind,
                token["label"] == "repeated",
                bool(token["packed"]),
                values,
                enum.removeprefix("."),
            )
    return messages
