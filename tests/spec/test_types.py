"""What a type checker sees: a spec's attributes have the types that their fields declare."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import minicaffe

pytest.importorskip("mypy", reason="mypy is not installed (pip install 'minicaffe[dev]')")

pytestmark = pytest.mark.cpu_only("a type checker runs nothing")
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


WRONG_VALUE = DECLARED.format(field="size = Int(1)", expression="0") + "Pool().size = 'large'\n"
WRONG_DEFAULT = DECLARED.format(field="size = Int('large')", expression="0")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What mypy says of each snippet, by its text; of the package it follows the specs alone."""
    folder = tmp_path_factory.mktemp("types")
    snippets = [DECLARED.format(field=field, expression=what) for field, what, _ in TYPES]
    files = {
        text: folder / f"snippet_{i}.py" for i, text in enumerate([*snippets, WRONG_VALUE, WRONG_DEFAULT])
    }
    for text, file in files.items():
        file.write_text(text)
    sources = [PACKAGE / "errors.py", *(PACKAGE / "spec").glob("*.py")]
    options = ["--strict", "--follow-imports=skip", "--config-file=", f"--cache-dir={folder / 'cache'}"]
    command = [sys.executable, "-m", "mypy", *options, *map(str, [*files.values(), *sources])]
    out = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True).stdout.splitlines()
    return {text: [line for line in out if f"{file.stem}.py" in line] for text, file in files.items()}


@pytest.mark.parametrize(("field", "expression", "expected"), TYPES)
def test_a_field_has_the_type_that_it_declares(said, field, expression, expected):
    shown = [
        re.sub(r"snippet_\d+\.(?!py)", "", x)
        for x in said[DECLARED.format(field=field, expression=expression)]
    ]
    assert len(shown) == 1 and shown[0].endswith(f'Revealed type is "{expected}"'), shown


def test_a_value_of_another_type_is_found(said):
    assert any('expression has type "str", variable has type "int"' in line for line in said[WRONG_VALUE])


def test_a_default_of_another_type_is_found(said):
    assert any("[call-overload]" in line for line in said[WRONG_DEFAULT])


def test_checkers_are_told_that_the_package_has_types():
    assert (PACKAGE / "py.typed").is_file()
