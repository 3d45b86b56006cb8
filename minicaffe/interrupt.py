"""Ctrl-C while a command still imports its modules: one word, as ``cli.main`` says it later, and no traceback.

It is imported before all else of the package. A program that imports minicaffe keeps Python's traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

MODULES = ("minicaffe.cli", "minicaffe.pycaffe")  # what ``python -m`` runs
TRAIN = Path(__file__).parent.parent / "train.py"


def is_command() -> bool:
    """Whether this process is ``minicaffe``, ``python -m minicaffe.cli`` or the checkout's ``train.py``."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        return any(module in sys.orig_argv for module in MODULES)
    return Path(program).stem == "minicaffe" or Path(program).absolute() == TRAIN


def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's hook for what nobody caught, but for an interrupt; Python itself then ends with status 130."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if is_command():
    sys.excepthook = show
