"""The text of a spec file, and what it is written in, told by what is in it: names end in whatever people like."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from minicaffe.errors import SpecError
from minicaffe.files.atomic import check_name, unreadable
from minicaffe.files.kinds import HDF5, NPZ, STARTS, kind_of

YAML, PROTOTXT, CAFFEMODEL = "YAML", "prototxt", "caffemodel"
MAX_BYTES = 64 << 20  # of a text; the largest public nets have less than one MiB
START = 4096  # bytes that show a caffemodel
PIECE = 1 << 20  # bytes that are read at a time: a read makes room for all that it asks for
NET_STARTS = (b"\n", b"\x12", b"\xa2\x06")  # protobuf's tags of a net's name, old layers, and layers
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
NO_SYNTAX = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(\#[^\n]*)""")  # texts, and comments
PROTOTXT_SIGN = re.compile(r"(?<![&!*\w-])[A-Za-z_]\w*\s*(\{|<(?!<))")  # layer {
YAML_SIGN = re.compile(r"^\s*(-\s|---|%YAML|[{[]|[\w-]+[ \t]*:[ \t]*($|[|>&*]|\[\s*\{))", re.MULTILINE)


def read_spec(path: str | Path) -> tuple[str, str]:
    """What a spec is written in, YAML, PROTOTXT or CAFFEMODEL, and its text, "" for the last.

    Bytes that are not UTF-8 are surrogates in the text (``surrogateescape``): comments may have them. Raises
    SpecError for a file that cannot be read, or is something else.
    """
    try:
        check_name(path)
        with open(path, "rb") as file:
            start = file.read(START)
            if _is_caffemodel(path, start):
                return CAFFEMODEL, ""
            data = bytearray(start)
            while len(data) <= MAX_BYTES and (piece := file.read(PIECE)):
                data += piece
    except OSError as error:
        raise SpecError(unreadable(path, error)) from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{path}: a text of more than {MAX_BYTES >> 20} MiB; is it a spec?")
    text = data.decode("utf-8", "surrogateescape")
    return _written_in(text, str(path)), text


def has_weights(path: str | Path) -> bool:
    """Whether a spec is a net with its weights, of which no more is read than shows it. Raises SpecError."""
    try:
        check_name(path)
        with open(path, "rb") as file:
            return _is_caffemodel(path, file.read(START))
    except OSError as error:
        raise SpecError(unreadable(path, error)) from None


def _is_caffemodel(path: str | Path, start: bytes) -> bool:
    """Whether a file is one. Raises SpecError where it is not a text either, of which a letter may be damaged."""
    if str(path).endswith(".caffemodel"):
        return True
    if not BINARY.search(start):
        return False
    kind = kind_of(path)
    if kind in (NPZ, HDF5):
        raise SpecError(f"{path}: holds weights alone, not a net; give its spec, and these as its weights")
    if kind in STARTS.values():
        raise SpecError(f"{path}: is {kind}; a spec is a text")
    if not (start.startswith(NET_STARTS) or _is_utf8(start)):
        raise SpecError(f"{path}: not a text file (UTF-8); a spec is YAML or prototxt")
    return start.startswith(NET_STARTS)


def _is_utf8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # the last letter may be cut
    except UnicodeDecodeError:
        return False
    return True


def _written_in(text: str, path: str) -> str:
    """The sign that comes first decides; a solver of single values may have none, and is told by its quotes."""
    syntax = NO_SYNTAX.sub(lambda found: "" if found[1] else '""', text)
    places = {
        kind: found.start()
        for kind, sign in ((PROTOTXT, PROTOTXT_SIGN), (YAML, YAML_SIGN))
        if (found := sign.search(syntax))
    }
    if places:
        return min(places, key=lambda kind: places[kind])
    if path.endswith((".prototxt", ".yaml", ".yml")):
        return PROTOTXT if path.endswith(".prototxt") else YAML
    return PROTOTXT if '""' in syntax else YAML


def read_yaml(path: str | Path) -> str:
    """The text of a spec in YAML. Raises SpecError for one in another format too."""
    kind, text = read_spec(path)
    if kind != YAML:
        raise SpecError(f"{path}: YAML is needed here; 'minicaffe convert {path} -o DIR' writes it")
    return text
