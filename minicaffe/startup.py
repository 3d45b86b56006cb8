"""What a command does before the rest of the package is imported. This module acts on import.

``python -m`` puts the working directory first on ``sys.path``. In a downloaded folder, a file with the name of any
module would then run in its place, so the directory is removed again. Ctrl-C during the imports prints one word and
exits with status 130, as it does later, without a traceback. A program that imports minicaffe keeps Python's
behaviour in both.

``import_all`` is for folders whose files register themselves: layer types, update rules, data formats, commands.
"""

import os
import sys

# Nothing else is imported, not even __future__: these two are loaded before sys.path has the working directory.
TYPE_CHECKING = False  # a type checker takes this name for true
if TYPE_CHECKING:
    from types import ModuleType, TracebackType

MODULES = ("minicaffe", "minicaffe.cli", "minicaffe.pycaffe")  # what ``python -m`` runs
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")  # of several processes: the number of this one
TRAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "train.py")


def is_run_as_module() -> bool:
    """Whether this process is ``python -m minicaffe``, or ``-m`` with another of our modules."""
    return sys.argv[:1] == ["-m"] and any(arg.removeprefix("-m") in MODULES for arg in sys.orig_argv[1:])


def is_command() -> bool:
    """Whether this process is ``minicaffe``, ``python -m minicaffe`` or the checkout's ``train.py``."""
    program = sys.argv[0] if sys.argv else ""
    name = os.path.splitext(os.path.basename(program))[0]
    return is_run_as_module() or name == "minicaffe" or os.path.abspath(program) == TRAIN


def leave_working_directory() -> None:
    """Remove from ``sys.path`` what ``python -m`` has put there; our own modules are found without it."""
    try:
        here = os.getcwd()
    except OSError:  # it was deleted, so Python has not put it there
        return
    if sys.path[:1] == [here] and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


def show(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
    """Python's hook for uncaught exceptions; it ends an interrupted program as ``cli/program.py`` does."""
    if issubclass(kind, KeyboardInterrupt):
        if all(os.environ.get(name, "0") == "0" for name in RANKS):  # once is enough
            print("interrupted", file=sys.stderr)
        sys.exit(130)
    else:
        sys.__excepthook__(kind, error, trace)


def import_all(package: str) -> "list[ModuleType]":
    """Import every module of a package, in the order of their names, and return them."""
    from importlib import import_module
    from pkgutil import iter_modules

    return [
        import_module(found.name) for found in iter_modules(import_module(package).__path__, f"{package}.")
    ]


if is_run_as_module():
    leave_working_directory()
if is_command():
    sys.excepthook = show
