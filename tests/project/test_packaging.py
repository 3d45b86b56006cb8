"""The source archive has what the README's commands name; .ci/run builds one, and compares it with what git has."""

import re
import subprocess
import sys

import pytest

from tests import ROOT

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

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


def test_every_module_can_be_the_first_that_is_imported():
    """After the package itself, each in a process of its own, so that none finds what another has imported."""
    program = (
        "import importlib, os, sys, minicaffe\n"
        "for name in [name for name in sys.argv[1:] if name not in sys.modules]:\n"
        "    if not (child := os.fork()):\n"
        "        try: importlib.import_module(name)\n"
        "        except BaseException as error: print(name, repr(error), flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "minicaffe").rglob("*.py"))
        if path.name not in ("__main__.py", "make_sample.py")
    ]
    done = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=True)
    assert len(names) > 200 and done.stdout == ""


def test_what_few_ask_for_is_not_imported_with_the_package():
    """Every command would wait for it. ``mc.report`` is there all the same."""
    late = (
        "minicaffe.testing",
        "minicaffe.compress",
        "minicaffe.inspect.report",
        "minicaffe.inspect.drawing",
    )
    program = (
        f"import sys, minicaffe as mc; print(*[name for name in sys.modules if name.startswith({late})])"
    )
    program += "; print('report' in dir(mc), mc.report.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\nTrue report\n"
