"""The source archive has what the README's commands name; .ci/run builds one, and compares it with what git has."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

ROOT = Path(__file__).parent.parent
IN_ANY_ARCHIVE = {"README.md", "LICENSE", "pyproject.toml", "minicaffe"}  # setuptools puts these in
MADE = {"snapshots", "data"}  # by the README's commands


def test_the_archive_has_all_folders_and_programs_that_the_readme_names():
    held = set(re.findall(r"^(?:graft|include) (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    named = {name for name in re.findall(r"[\w.]+(?=[/ )`])", (ROOT / "README.md").read_text())
             if (ROOT / name).exists() and not name.startswith(".")}  # fmt: skip
    assert {"train.py", "prototxt", "models", "tests", "benchmarks", "docs"} <= named
    assert named <= held | IN_ANY_ARCHIVE | MADE
    assert all((ROOT / name).exists() for name in held)


def test_the_licence_is_an_spdx_expression_with_its_file():
    text = (ROOT / "pyproject.toml").read_text()
    assert '\nlicense = "BSD-2-Clause"\nlicense-files = ["LICENSE"]\n' in text
    assert 'requires = ["setuptools>=77"]' in text  # the first that knows both
