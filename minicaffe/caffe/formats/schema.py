"""The fields of Caffe's messages, read from ``caffe.proto`` and ``forks.proto`` beside this file, without protobuf.

>>> schema()["DropoutParameter"]["dropout_ratio"]
Field(name='dropout_ratio', number=1, kind='float', repeated=False, packed=False, values={}, enum='', of_fork=False,
default='')
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

PROTO = Path(__file__).with_name("caffe.proto")
FORKS = Path(__file__).with_name("forks.proto")
TOKEN = re.compile(
    r"message (?P<message>\w+) \{|enum (?P<enum>\w+) \{(?P<values>[^}]*)\}|(?P<end>\})|"
    r"(?P<label>optional|repeated) (?P<kind>[\w.]+) (?P<name>\w+) = (?P<number>\d+)(?P<packed> \[packed = true\])?"
    r"( \[default = (?P<default>[^\]]+)\])?;"
)
VALUE = re.compile(r"(\w+) = (\d+);")


@dataclass(frozen=True)
class Field:
    """One field of a message; ``kind`` is a scalar type of protobuf, a message's name, or "enum".

    Number 0: in text alone, not in binary.
    """

    name: str
    number: int
    kind: str
    repeated: bool = False
    packed: bool = False
    values: dict[str, int] = field(default_factory=dict)  # the names and numbers of an enum
    enum: str = ""  # its name: PoolingParameter.PoolMethod, or Phase, which belongs to no message
    of_fork: bool = False  # not of Caffe itself
    default: str = ""  # without quotes; only forks.proto gives them, Caffe's are in the specs


Schema = dict[str, dict[str, Field]]


@cache
def schema() -> Schema:
    """{message: {field name: Field}}, of Caffe and what its forks have added."""
    messages = parse_schema(PROTO.read_text(encoding="utf-8"))
    for name, fields in parse_schema(FORKS.read_text(encoding="utf-8")).items():
        added = {field.name: replace(field, of_fork=True) for field in fields.values()}
        messages[name] = {**messages.get(name, {}), **added}
    return messages


def parse_schema(text: str) -> Schema:
    """The messages in the text of a .proto file of the plain form that ours has."""
    messages: Schema = {}
    enums = _enums(text)
    message = ""
    for token in TOKEN.finditer(text):
        if token["message"]:
            message = token["message"]
            messages[message] = {}
        elif token["end"]:
            message = ""
        elif token["label"]:
            names = f"{message}.{token['kind']}", f".{token['kind']}", token["kind"]
            enum = next((name for name in names if name in enums), "")
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
                default=(token["default"] or "").strip('"'),
            )
    return messages


def _enums(text: str) -> dict[str, dict[str, int]]:
    """The names and numbers of each enum, as "PoolingParameter.PoolMethod", or ".Phase" of no message."""
    enums: dict[str, dict[str, int]] = {}
    message = ""
    for token in TOKEN.finditer(text):
        if token["message"]:
            message = token["message"]
        elif token["enum"]:
            enums[f"{message}.{token['enum']}"] = {n: int(v) for n, v in VALUE.findall(token["values"])}
        elif token["end"]:
            message = ""
    return enums
