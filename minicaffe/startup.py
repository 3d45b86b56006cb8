"""What a command does before all else of the package is imported: this module acts when it is imported.

``python -m`` puts the working directory first on ``sys.path``, so that in a downloaded folder a file named as any
module would be run in its place: it is taken out again. And Ctrl-C while modules are imported is one word and
status 130, as later, and no traceback. A program that imports minicaffe keeps Python's ways in both.
"""

import os
import sys

# Nothing else is imported, not even __future__: these two are loaded before sys.path has the working directory.
TYPE_CHECKING = False  # a type checker takes this name for true
if TYPE_CHECKING:
    from types import TracebackType

MODULES = ("minicaffe", "minicaffe.cli", "minicaffe.pycaffe")  # what ``python -m`` runs
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
    """Take out of ``sys.path`` what ``python -m`` has put there; our own modules are found without it."""
    try:
        here = os.getcwd()
    except OSError:  # it was deleted; then Python has not put it there
        return
    if sys.path[:1] == [here] and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]


def show(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
    """Python's hook for what nobody caught, which ends an interrupted program as ``cli/program.py`` does."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    else:
        sys.__excepthook__(kind, error, trace)


if is_run_as_module():
    leave_working_directory()
if is_command():
    sys.excepthook = show
