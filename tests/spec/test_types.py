"""What a type checker sees: a spec's attributes have the types that their fields declare."""

import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe

pytest.importorskip("mypy", reason="mypy is not installed (pip install 'minicaffe[dev]')")

PACKAGE = Path(minicaffe.__file__).parent
DECLARED = """
from minicaffe.spec.fields import BlobShape, Bool, Enum, Float, Int, Message, Nested, String
from minicaffe.spec.net import InputParam, LayerSpec, NetSpec

class Pool(Message):
    {field}

reveal_type({expression})
"""
TYPES = [
    ("size = Int(1, min=1)", "Pool().size", "int"),
    ("size = Int(required=True, min=1)", "Pool().size", "int"),
    ("size = Int(min=1)", "Pool().size", "int | None"),
    ("size = Int(repeated=True, min=0)", "Pool().size", "list[int]"),
    ("ratio = Float(0.5, below=1)", "Pool().ratio", "float"),
    ("ratio = Float(above=0)", "Pool().ratio", "float | None"),
    ("source = String(required=True)", "Pool().source", "str"),
    ("stage = String(repeated=True)", "Pool().stage", "list[str]"),
    ("is_global = Bool(False)", "Pool().is_global", "bool"),
    ("is_global = Bool()", "Pool().is_global", "bool | None"),
    ("pool = Enum('MAX', 'AVE', default='MAX')", "Pool().pool", "str"),
    ("pool = Enum('MAX', 'AVE')", "Pool().pool", "str | None"),
    ("shape = Nested(BlobShape)", "Pool().shape.dim", "list[int]"),
    ("shape = Nested(BlobShape, optional=True)", "Pool().shape", "minicaffe.spec.fields.BlobShape | None"),
    ("shape = Nested(BlobShape, repeated=True)", "Pool().shape", "list[minicaffe.spec.fields.BlobShape]"),
    ("size = Int(1)", "NetSpec().layer", "list[minicaffe.spec.net.LayerSpec]"),
    ("size = Int(1)", "LayerSpec().message(InputParam)", "minicaffe.spec.net.InputParam"),
    ("size = Int(1)", "LayerSpec().find_message(Pool)", "Pool | None"),
]


def check(folder, *snippets):
    """What mypy says of some modules, by the number of each; the package's specs are all that it follows."""
    files = []
    for number, text in enumerate(snippets):
        files.append(folder / f"snippet_{number}.py")
        files[-1].write_text(text)
    sources = [PACKAGE / "errors.py", *(PACKAGE / "spec").glob("*.py")]
    options = ["--strict", "--follow-imports=skip", "--config-file=", f"--cache-dir={folder / 'cache'}"]
    command = [sys.executable, "-m", "mypy", *options, *map(str, [*files, *sources])]
    out = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True).stdout
    said = {number: [] for number in range(len(snippets))}
    for line in out.splitlines():
        if "snippet_" in line:
            said[int(line.split("snippet_")[1].split(".py")[0])].append(line)
    return said


def test_a_field_has_the_type_that_it_declares(tmp_path):
    said = check(tmp_path, *(DECLARED.format(field=field, expression=what) for field, what, _ in TYPES))
    for number, (field, expression, expected) in enumerate(TYPES):
        shown = [line.replace(f"snippet_{number}.", "") for line in said[number]]
        assert len(shown) == 1 and shown[0].endswith(f'Revealed type is "{expected}"'), (
            field,
            expression,
            shown,
        )


def test_a_value_of_another_type_is_found(tmp_path):
    snippet = DECLARED.format(field="size = Int(1)", expression="0") + "Pool().size = 'large'\n"
    said = check(tmp_path, snippet)[0]
    assert any('expression has type "str", variable has type "int"' in line for line in said), said


def test_a_default_of_another_type_is_found(tmp_path):
    said = check(tmp_path, DECLARED.format(field="size = Int('large')", expression="0"))[0]
    assert any("[call-overload]" in line for line in said), said


def test_checkers_are_told_that_the_package_has_types():
    assert (PACKAGE / "py.typed").is_file()
