"""``python -m minicaffe.pycaffe script.py …`` runs a script that says ``import caffe``, and gets this package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import NoReturn

from minicaffe.errors import report
from minicaffe.files.atomic import unreadable
from minicaffe.pycaffe import alias

USAGE = "python -m minicaffe.pycaffe script.py …"


def main() -> None:
    """Run the script that the first argument names, as ``python script.py …`` would; status 2 where it is none."""
    sys.excepthook = sys.__excepthook__  # the script's errors are shown as Python shows them
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(f"usage: {USAGE}: runs a script that says 'import caffe', with minicaffe in its place")
        return
    if len(sys.argv) < 2:
        _refuse(f"give a script: {USAGE}")
    sys.argv = sys.argv[1:]
    script = sys.argv[0]
    _check(Path(script))
    sys.path.insert(0, str(Path(script).resolve().parent))
    alias.install()
    try:
        runpy.run_path(script, run_name="__main__")
    except SyntaxError as error:
        if error.filename != script:
            raise
        _refuse(f"{script}: line {error.lineno}: not Python ({error.msg})")


def _check(script: Path) -> None:
    """Exit unless the file is readable text."""
    if script.is_dir() and not (script / "__main__.py").is_file():
        _refuse(f"{script}: a folder, and there is no __main__.py in it; give a script")
    if script.is_dir():
        return
    try:
        with open(script, "rb") as file:
            start = file.read(1000)
    except OSError as error:
        _refuse(unreadable(script, error))
    if b"\0" in start and script.suffix not in (".pyc", ".zip", ".pyz"):
        _refuse(f"{script}: not a Python script; check the path")


def _refuse(problem: str) -> NoReturn:
    sys.exit(report(problem))


if __name__ == "__main__":
    main()
