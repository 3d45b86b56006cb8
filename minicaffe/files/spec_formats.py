"""Opening the spec of a net or of a solver. Its text tells what it is written in: its name may end in anything.

A format enters the table with ``register_spec_format``: YAML is there, Caffe's enter in ``caffe/formats/specs.py``.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from minicaffe.errors import SpecError, either
from minicaffe.files.atomic import check_name, unreadable
from minicaffe.files.kinds import HDF5, NPZ, STARTS, kind_of
from minicaffe.spec.net import NetSpec
from minicaffe.spec.reader import Where, nearest, parse_yaml
from minicaffe.spec.solver import SolverSpec

MAX_BYTES = 64 << 20  # of a text; the largest public nets have less than one MiB
START = 4096  # bytes that show whether a file is a text
MOST_NAMED = 5  # specs, of a folder that was given in place of one
PIECE = 1 << 20  # bytes that are read at a time: a read makes room for all that it asks for
BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
# quoted texts, and comments
NO_SYNTAX = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|(\#[^\n]*)""")

Reader = Callable[[str, str], yaml.MappingNode]


@dataclass(frozen=True)
class SpecFormat:
    """What specs may be written in.

    ``net`` and ``solver`` take a file's text and its path, and return its fields as nodes of YAML, which the spec
    checks. A format without ``solver`` is for nets alone.

    A text is in the format whose ``sign`` comes first in it; without any sign, in the one that the ending of its
    name belongs to, or whose ``weak_sign`` it has, or in YAML. A binary format has no sign but ``starts``, bytes
    that its files may begin with; these hold a net's weights too, and ``net`` reads the file itself: there is no
    text.
    """

    name: str
    endings: tuple[str, ...]
    net: Reader
    solver: Reader | None = None
    sign: re.Pattern[str] | None = None
    weak_sign: str = ""
    starts: tuple[bytes, ...] = ()


YAML = SpecFormat(
    "YAML",
    (".yaml", ".yml"),
    net=parse_yaml,
    solver=parse_yaml,
    sign=re.compile(r"^\s*(-\s|---|%YAML|[{[]|[\w-]+[ \t]*:[ \t]*($|[|>&*]|\[\s*\{))", re.MULTILINE),
)
_formats = [YAML]


def register_spec_format(added: SpecFormat) -> None:
    """Let specs be written in one more format."""
    _formats.append(added)


def open_net(path: str | Path) -> NetSpec:
    """The net in a file of any format. Raises SpecError."""
    if "\n" in str(path):
        raise SpecError("a path has a single line; mc.Net.from_text takes the text of a spec")
    written_in, text = read_spec(path)
    return NetSpec.read(written_in.net(text, str(path)), Where(str(path)))


def net_of_text(text: str) -> NetSpec:
    """The net that a text describes, in any format for texts; "<text>" names it in errors. Raises SpecError."""
    file = "<text>"
    return NetSpec.read(_text_format(text, file).net(text, file), Where(file))


def open_solver(path: str | Path) -> SolverSpec:
    """The solver in a file of any format. Raises SpecError."""
    written_in, text = read_spec(path)
    if written_in.solver is None:
        raise SpecError(f"{path}: not a text file (UTF-8); a solver spec is {_text_formats()}")
    return SolverSpec.read(written_in.solver(text, str(path)), Where(str(path)))


def load_net(path: str | Path) -> NetSpec:
    """The net in a YAML file, whose text can be edited. Raises SpecError, for other formats too."""
    return NetSpec.read(parse_yaml(read_yaml(path), str(path)), Where(str(path)))


def read_yaml(path: str | Path) -> str:
    """The text of a spec in YAML. Raises SpecError, for other formats too."""
    written_in, text = read_spec(path)
    if written_in != YAML:
        raise SpecError(f"{path}: YAML is needed here; 'minicaffe convert {path} -o DIR' writes it")
    return text


def read_spec(path: str | Path) -> tuple[SpecFormat, str]:
    """What a spec is written in, and its text, "" for a binary format.

    Bytes that are not UTF-8 are surrogates in the text (``surrogateescape``): comments may have them. Raises
    SpecError for a file that cannot be read, or is no spec.
    """
    try:
        check_name(path)
        with open(path, "rb") as file:
            start = file.read(START)
            if binary := _binary_format(path, start):
                return binary, ""
            data = bytearray(start)
            while len(data) <= MAX_BYTES and (piece := file.read(PIECE)):
                data += piece
    except OSError as error:
        raise SpecError(_no_spec(path, error)) from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{path}: a text of more than {MAX_BYTES >> 20} MiB; is it a spec?")
    text = data.decode("utf-8", "surrogateescape")
    return _text_format(text, str(path)), text


def has_weights(net: object) -> bool:
    """Whether a net is given as the path of a file that holds its weights too. Raises SpecError.

    Only the beginning of the file is read.
    """
    if not isinstance(net, (str, Path)):
        return False
    try:
        check_name(net)
        with open(net, "rb") as file:
            return _binary_format(net, file.read(START)) is not None
    except OSError as error:
        raise SpecError(_no_spec(net, error)) from None


def _no_spec(path: str | Path, error: OSError) -> str:
    """The message for a spec that cannot be opened, with the names of those that may be meant."""
    path = Path(path)
    if isinstance(error, IsADirectoryError):
        inside = [str(path / name) for name in _specs_in(path)]
        return f"{path}: is a folder, and no spec; " + (
            f"name one that is in it: {either(inside[:MOST_NAMED])}" if inside else "give the file of one"
        )
    hint = nearest(path.name, _specs_in(path.parent)) if isinstance(error, FileNotFoundError) else ""
    return unreadable(path, error) + hint.replace("did you mean '", f"did you mean '{path.parent / '_'}"[:-1])


def _specs_in(folder: Path) -> list[str]:
    """The names of a folder's files that end as specs do: solvers first."""
    endings = tuple(ending for known in _formats if known.sign for ending in known.endings)
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(endings))
    except OSError:
        return []
    return sorted(names, key=lambda name: "solver" not in name)


def _binary_format(path: str | Path, start: bytes) -> SpecFormat | None:
    """The binary format of a file; None for a text. Raises SpecError where it is neither."""
    binaries = [known for known in _formats if known.starts]
    for known in binaries:
        if str(path).endswith(known.endings):
            return known
    if not BINARY.search(start):
        return None
    kind = kind_of(path)
    if kind in (NPZ, HDF5):
        raise SpecError(f"{path}: holds weights alone, not a net; give its spec, and these as its weights")
    if kind in STARTS.values():
        raise SpecError(f"{path}: is {kind}; a spec is a text")
    found = next((known for known in binaries if start.startswith(known.starts)), None)
    if found is None and not _is_utf8(start):
        raise SpecError(f"{path}: not a text file (UTF-8); a spec is {_text_formats()}")
    return found


def _is_utf8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # the last letter may be cut off
    except UnicodeDecodeError:
        return False
    return True


def _text_format(text: str, path: str) -> SpecFormat:
    """The format of a text: a solver of single values may have no sign, and is told by its quotes."""
    syntax = NO_SYNTAX.sub(lambda found: "" if found[1] else '""', text)
    signs = [(known, known.sign.search(syntax)) for known in _formats if known.sign]
    first = min(((found.start(), i) for i, (_, found) in enumerate(signs) if found), default=None)
    if first is not None:
        return signs[first[1]][0]
    named = (known for known, _ in signs if path.endswith(known.endings))
    weak = (known for known, _ in signs if known.weak_sign and known.weak_sign in syntax)
    return next(named, None) or next(weak, YAML)


def _text_formats() -> str:
    return either([known.name for known in _formats if known.sign])
